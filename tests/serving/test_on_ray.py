"""The server on Ray Serve: a replica that dies under load, a full queue, a signal at the end."""

import asyncio
import json
import os
import signal
import socket
import sys
import threading
import time
import urllib.request
from functools import partial

import pytest
import ray

import metatx
from metatx.registry import load_plugin
from metatx.serving import on_ray
from metatx.serving.command import build_service, load_tasks, serve
from tests.clusters import keep_to, processes, started, until
from tests.serving.load import ROWS, Clients, ask, connected, right

BACKBONE = {"backbone": "nano", "checkpoint": None, "others": {}, "precision": "fp32", "memory_mb": None}
OPTIONS = {
    "token": None,
    "admin": False,
    "watch": False,
    "workers": 1,
    "batch_tokens": 1024,
    "queue_seconds": 10.0,
    "body_mb": 64.0,
    "timeout": 60.0,
    "pass_seconds": 2.0,
}
PLUGIN = """
import metatx
from metatx.tokenizers.tabular import TabularTokenizer

@metatx.register_tokenizer("sheet")
class SheetTokenizer(TabularTokenizer):
    pass
"""


def built(tasks, plugin):
    """A server of a folder of tasks."""
    return build_service(load_tasks(tasks, plugin=plugin, **BACKBONE), plugin=plugin, **OPTIONS)


@pytest.fixture
def cluster(monkeypatch, tmp_path):
    """Lets ``ray.init`` start a Ray of two cores that keeps its files to itself; none of its processes may be left."""
    keep_to(tmp_path, monkeypatch)
    monkeypatch.setattr(ray, "init", partial(started, ray.init))
    monkeypatch.setattr("ray.serve._private.api.HTTP_PROXY_TIMEOUT", 300)  # seconds, of which Ray gives its proxy 60
    before, handler = set(processes()), signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)
    assert not ray.is_initialized()
    until(lambda: set(processes()) <= before)


@pytest.fixture
def plugin(nano, table, tasks, tmp_path):
    """A user's file, of which one task needs the tokenizer."""
    file = tmp_path / "sheet.py"
    file.write_text(PLUGIN)
    load_plugin(str(file))
    metatx.Task.from_data(nano, "sheet", table, target="kind", inputs=["a", "b", "c"]).save_pretrained(tasks / "sheets")
    return str(file)


def ready(address):
    try:
        return urllib.request.urlopen(f"{address}/readyz").status == 200
    except OSError:
        return False


class Story(threading.Thread):
    """What happens to a server that runs: load, a replica killed, whole again, a signal. Its times and answers."""

    def __init__(self, address, running):
        super().__init__()
        self.address, self.running = address, running
        self.clients, self.error, self.over = None, None, threading.Event()
        self.start()

    def run(self):
        try:
            self.tell()
        except BaseException as error:
            self.error = error
        finally:
            if not self.over.is_set():
                os.kill(os.getpid(), signal.SIGTERM)

    def tell(self):
        until(lambda: self.over.is_set() or ready(self.address))
        self.expected = [one["p(yes)"] for one in ask(connected(self.address), ROWS)[1]["answers"]]
        self.plugged = ask(connected(self.address), ROWS, task="sheets")[0]
        self.clients = Clients(self.address, count=6, inputs=5)
        self.load()
        self.kills, self.whole = [], []
        while not self.lost() and len(self.kills) < 3:  # it may have had nothing to answer just then
            self.kill_one()
        self.told = time.monotonic()

    def kill_one(self):
        replicas = processes("ServeReplica")
        self.kills.append(time.monotonic())
        os.kill(replicas[0], signal.SIGKILL)
        self.load()
        self.clients.pause = 1.0  # the new replica needs the cores too
        until(lambda: set(processes("ServeReplica")) - set(replicas) and self.running() == 2)
        self.whole.append(time.monotonic())
        self.clients.pause = 0.0
        self.load()

    def lost(self):
        return [one for one in self.clients.found if one[2] == 503]

    def load(self):
        count = len(self.clients.found) + 30
        until(lambda: len(self.clients.found) > count)


def test_a_killed_replica_a_full_queue_and_a_signal_lose_no_answer(cluster, plugin, tasks, monkeypatch):
    monkeypatch.setattr(on_ray, "ONGOING", 2)
    monkeypatch.setattr(on_ray, "QUEUED", 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def running():
        deployment = on_ray.serve.status().applications[on_ray.NAME].deployments[on_ray.NAME]
        return deployment.replica_states.get("RUNNING")

    story = Story(f"http://127.0.0.1:{port}", running)
    try:
        on_ray.run(partial(built, tasks, plugin), 2, 1, "127.0.0.1", port)
    finally:
        story.over.set()
        story.join()
        if story.clients:
            story.clients.join()
    if story.error:
        raise story.error
    assert story.plugged == 200
    found = [one for one in story.clients.found if one[0] < story.told]
    assert {200, 429} <= {status for _, _, status, _ in found} <= {200, 429, 503}
    assert all(right(answer, row, story.expected, 5) for _, row, status, answer in found if status == 200)
    for killed, whole in zip(story.kills, story.whole, strict=True):
        assert any(killed < sent < whole for sent, _, status, _ in found if status == 200)
    lost = [(sent, answer) for sent, _, status, answer in found if status == 503]
    assert 1 <= len(lost) <= 2 and all(answer == {"detail": on_ray.LOST} for _, answer in lost)
    assert all(sent < story.whole[-1] for sent, _ in lost)


def test_what_no_replica_answers_is_answered():
    sent = []

    async def silent(scope, receive, send):
        pass

    async def sending(message):
        sent.append(message)

    asyncio.run(on_ray.Answered(silent)({"type": "http"}, None, sending))
    assert sent[0]["status"] == 503 and (b"retry-after", b"1") in sent[0]["headers"]
    assert json.loads(sent[1]["body"]) == {"detail": on_ray.LOST}


def test_wrong_starts_are_one_line(trained, monkeypatch):
    """Without Ray Serve as well: an import that fails says what is missing."""
    with pytest.raises(ValueError, match="--replicas 2 needs Ray"):
        serve(str(trained), replicas=2)
    with pytest.raises(ValueError, match="--admin would change one replica only"):
        serve(str(trained), ray=True, admin=True, token="secret")
    monkeypatch.delitem(sys.modules, "metatx.serving.on_ray")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'metatx\[ray\]'"):
        serve(str(trained), ray=True)
