"""``metatx serve --processes``: several processes on one port answer as one does, and outlive one another."""

import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import closing

import psutil
import pytest

from metatx.serving.command import serve as serve_command
from metatx.serving.processes import threads_of
from tests.serving.load import ROWS, Clients, ask, connected, right, until
from tests.serving.payloads import PICTURE, ROW, SERIES, near
from tests.serving.processes import ROOT, server

INPUTS = {"kinds": ROW, "light": PICTURE.tolist(), "ahead": SERIES.tolist()}
COUNTED = 'metatx_requests_total{answer="records",status="200",task="kinds"} '


def sockets(process):
    """Number of connections that a process holds, its listening socket included."""
    return len(process.net_connections("tcp"))


def answered(address):
    """Requests that the server says it answered, asked over a connection of its own."""
    with urllib.request.urlopen(f"{address}/metrics") as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.removeprefix(COUNTED)) for line in lines if line.startswith(COUNTED))


def refused(address):
    """True if nothing listens there."""
    try:
        connected(address).connect()
    except ConnectionRefusedError:
        return True
    return False


def test_processes_answer_as_one_does_count_together_and_come_back(trained, serve):
    single = serve()
    expected = {
        name: single.post(f"/v1/tasks/{name}/predict", json={"inputs": [value]}).json()["answers"][0]
        for name, value in INPUTS.items()
    }
    with server(trained, "--processes", "2") as (process, address):
        members = psutil.Process(process.pid).children()
        assert len(members) == 2
        until(lambda: all(map(sockets, members)))
        connections = [connected(address) for _ in range(40)]
        for connection in connections:
            assert ask(connection, [ROW])[0] == 200
        assert all(sockets(member) > 1 for member in members)
        assert {answered(address) for _ in range(8)} == {40}
        for connection in connections[:8]:
            for name, value in INPUTS.items():
                assert near(ask(connection, [value], name)[1]["answers"][0], expected[name])
        for connection in connections:
            connection.close()
        victim, survivor = members
        victim.kill()
        until(lambda: set(psutil.Process(process.pid).children()) - {survivor, victim})
        [heir] = set(psutil.Process(process.pid).children()) - {survivor, victim}
        until(lambda: sockets(heir))
        line = next(line for line in process.stderr if "another is started" in line)
        assert f"process {victim.pid} was ended by signal 9 (Killed); another is started" in line
        before = answered(address)
        for _ in range(20):
            with closing(connected(address)) as connection:
                assert near(ask(connection, [ROW])[1]["answers"][0], expected["kinds"])
        assert answered(address) == before + 20 == 68
        process.kill()  # the others must not go on without it, and keep the port
        until(lambda: refused(address))


def test_a_signal_under_load_loses_no_accepted_request_of_any_process(trained):
    with server(trained, "--processes", "2") as (process, address):
        expected = [one["p(yes)"] for one in ask(connected(address), ROWS)[1]["answers"]]
        members = psutil.Process(process.pid).children()
        clients = Clients(address, count=8, inputs=20)
        while len(clients.found) < 30:
            time.sleep(0.05)
        told = time.monotonic()
        for each in (process, *members):  # as systemd does
            each.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        clients.join()
    before = [one for one in clients.found if one[0] < told]
    assert {status for _, _, status, _ in before} <= {200, 503}
    answers = [one for one in clients.found if one[2] == 200]
    assert len(answers) >= 30 and all(right(answer, row, expected, 20) for _, row, _, answer in answers)


def test_wrong_starts_are_one_line(trained, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for options, line in (
            (["--processes", "1.5"], "--processes"),
            (["--processes", "0"], "--processes is 0; it must be at least 1"),
            (["--processes", "2", "--admin", "--token", "x"], "--admin would change one process only"),
            (["--processes", "2", "--ray"], "on Ray give --replicas"),
            (["--processes", "2", "--port", port], f"port {port}, cannot be had: Address already in use"),
            (["--processes", "2", "--index", f"shop={tmp_path}"], "3 processes ended before they listened"),
        ):
            command = [sys.executable, "-c", "from metatx.cli import main; main()", "serve", str(trained), *options]
            found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            last = found.stderr.splitlines()[-1]
            assert found.returncode == 2 and last.startswith("metatx: ") and line in last, found.stderr
            assert "Traceback" not in found.stderr


@pytest.mark.parametrize(("given", "threads"), [(None, 4), ("6", 8)])
def test_cores_are_divided_unless_the_user_says_how_many_threads(monkeypatch, given, threads):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert threads_of(2, 8) == threads and threads_of(16, 8) == (1 if given is None else 8)


def test_other_systems_are_told(monkeypatch, trained):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ValueError, match="needs Linux"):
        serve_command(str(trained), processes=2)
