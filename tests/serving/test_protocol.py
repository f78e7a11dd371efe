"""Connections over sockets, without a model: heads, bodies that are not read, and who goes when there is no room."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from functools import partial

import pytest
import uvicorn

from metatx.serving import protocol
from metatx.serving.protocol import BoundedProtocol, Connections
from tests.serving.load import until

GET = b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n"


class Application:
    """Reads the bodies of /read, holds /wait until it is told, sends much at /much; notes what it was asked."""

    def __init__(self):
        self.asked, self.gate, self.left = [], threading.Event(), []

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        self.asked.append(scope["path"])
        if scope["path"] == "/read":
            while (message := await receive()).get("more_body"):
                pass
            if message["type"] == "http.disconnect":
                self.left.append(scope["path"])
        while scope["path"] == "/wait" and not self.gate.is_set():
            await asyncio.sleep(0.01)
        body = b"x" * (20_000_000 if scope["path"] == "/much" else 2)
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@contextlib.contextmanager
def listening(**options):
    """A server on a free port, with the connections that it has."""
    app, room = Application(), Connections(**options)
    own = partial(BoundedProtocol, room=room)
    config = uvicorn.Config(app, port=0, http=own, ws="none", log_config=None, lifespan="off", server_header=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    address = server.servers[0].sockets[0].getsockname()
    yield partial(connected, address), app, room
    app.gate.set()
    server.should_exit = server.force_exit = True
    thread.join(20)


def connected(address, data=b"", source="127.0.0.1"):
    made = socket.create_connection(address, timeout=20, source_address=(source, 0))
    with contextlib.suppress(OSError):
        made.sendall(data)
    return made


def answer(made):
    """Status, headers and body of what comes until the end."""
    found = b""
    with contextlib.suppress(OSError):
        while part := made.recv(65_536):
            found += part
    head, _, body = found.partition(b"\r\n\r\n")
    return int(head.split()[1] if head else 0), head.lower(), body


LONG = b"a" * 70_000
CHUNKED = b"POST /read HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\nx: " + LONG, 431),
        (b"GET / HTTP/1.1\r\n" + LONG, 431),
        (b"GET /" + LONG, 431),
        (b"GET / HTTP/1.1\r\n" + b"x: 1\r\n" * 101 + b"\r\n", 431),
        (b"\r\n" * 40_000, 431),
        (CHUNKED + b"0\r\nx: " + LONG * 3, 431),
        (CHUNKED + b"0\r\n" + b"x: 1\r\n" * 101, 431),
        (CHUNKED + b"5;" + LONG * 3, 431),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (CHUNKED + b"z\r\n", 400),
    ],
)
def test_a_head_without_end_is_refused(sent, status):
    with listening() as (connect, app, room):
        made = connect(sent)
        found = answer(made)
        made.close()
        assert found[0] == status and b"connection: close" in found[1] and "detail" in json.loads(found[2])
        assert b"server:" not in found[1]
        until(lambda: not room.count)
        assert len(app.asked) == len(app.left) == sent.startswith(b"POST")  # to whom the client seems gone


def test_what_is_allowed_is_answered_also_in_small_pieces_and_one_behind_the_other():
    with listening() as (connect, app, _):
        made = connect()
        for piece in (b"GET /0 HTTP/1.1\r\n", b"x: " + b"a" * 60_000 + b"\r\n", b"y: 1\r\n" * 98, b"\r\n"):
            for at in range(0, len(piece), 1000):
                made.sendall(piece[at : at + 1000])
        assert made.recv(1000).startswith(b"HTTP/1.1 200")
        body = b"POST /read HTTP/1.1\r\ncontent-length: 300000\r\n\r\n" + b"x" * 300_000
        made.sendall(body + b"".join(GET % number for number in range(1, 30)) + b"NO HTTP\r\n\r\n")
        status, _, rest = answer(made)
        assert status == 200 and rest.count(b"HTTP/1.1 200") == 29 and len(app.asked) == 31


def test_slow_heads_are_408_and_what_never_begins_is_closed(monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.5)
    with listening() as (connect, app, room):
        half, silent, kept = connect(b"GET / HTTP/1.1\r\nx"), connect(), connect(GET % 0)
        busy = connect(b"GET /wait HTTP/1.1\r\n\r\nGET / HT")  # its first request is being answered
        until(lambda: "/0" in app.asked)
        kept.sendall(b"\r\nGET")
        assert answer(half)[0] == 408 and answer(silent)[0] == 0
        assert answer(kept)[2].count(b"HTTP/1.1 408") == 1
        until(lambda: room.count == 1)
        app.gate.set()
        assert b"HTTP/1.1 408" in answer(busy)[2]


def test_an_answer_before_the_body_is_read_and_closes_the_connection():
    with listening() as (connect, _, room):
        head = b"POST / HTTP/1.1\r\ncontent-length: 50000000\r\n\r\n"
        made = connect(head + b"x" * 1_000_000)
        made.sendall(b"x" * 1_000_000)  # it is taken, and dropped
        status, headers, body = answer(made)
        assert (status, body) == (200, b"xx") and b"connection: close" in headers
        until(lambda: not room.count)
        whole = connect(b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc")
        assert b"close" not in whole.recv(1000)
        assert whole.sendall(GET % 1) is None and whole.recv(1000).startswith(b"HTTP/1.1 200")


def test_who_does_not_take_its_answer_goes(monkeypatch):
    monkeypatch.setattr(protocol, "UNREAD", 0.5)
    with listening() as (connect, app, room):
        made = connect(b"GET /much HTTP/1.1\r\n\r\n")
        until(lambda: app.asked)
        until(lambda: not room.count)
        made.close()
        reader = connect(b"GET /much HTTP/1.1\r\nconnection: close\r\n\r\n")
        assert len(answer(reader)[2]) == 20_000_000


def test_where_there_is_no_room_one_goes_that_brings_nothing_of_the_largest_client():
    with listening(most=6, share=4) as (connect, app, room):
        busy = [connect(b"GET /wait HTTP/1.1\r\n\r\n", "127.0.0.2") for _ in range(2)]
        used = connect(GET % 0, "127.0.0.3")
        until(lambda: len(app.asked) == 3)
        idle = [connect(b"GET /", "127.0.0.3") for _ in range(2)]
        idle.append(connect(b"POST /read HTTP/1.1\r\ncontent-length: 9\r\n\r\n", "127.0.0.3"))
        until(lambda: room.count == 6 and len(app.asked) == 4)
        used.sendall(GET % 5)  # the oldest, but it is used
        until(lambda: len(app.asked) == 5)
        new = connect(GET % 1, "127.0.0.4")
        assert new.recv(1000).startswith(b"HTTP/1.1 200") and answer(idle[0])[0] == 0
        own = [connect(GET % 2, "127.0.0.3") for _ in range(2)]
        assert all(one.recv(1000).startswith(b"HTTP/1.1 200") for one in own) and room.count == 6
        used.sendall(GET % 6)
        until(lambda: "/6" in app.asked)
        app.gate.set()
        assert all(one.recv(1000).startswith(b"HTTP/1.1 200") for one in busy)


def test_where_all_are_being_answered_a_further_one_is_503():
    with listening(most=2) as (connect, app, room):
        busy = [connect(b"GET /wait HTTP/1.1\r\n\r\n") for _ in range(2)]
        until(lambda: len(app.asked) == 2)
        status, _, body = answer(connect())
        assert status == 503 and "as many connections" in json.loads(body)["detail"] and room.count == len(busy)


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit")
def test_connections_leave_descriptors_for_files():
    code = """
import resource
from metatx.serving.protocol import room_for_connections
resource.setrlimit(resource.RLIMIT_NOFILE, (100, %d))
print(room_for_connections(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""
    for hard, found in ((300, "118 300"), (4096, "2016 4096"), (100, "18 100")):
        run = subprocess.run([sys.executable, "-c", code % hard], capture_output=True, text=True, env={**os.environ})
        assert run.stdout.split() == found.split(), run.stderr
