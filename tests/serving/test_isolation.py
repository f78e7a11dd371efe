"""Servers whose files crash, loop or wait: others are answered, nothing is left, the token is nowhere near."""

import http.client
import io
import json
import signal
import threading
from contextlib import suppress
from pathlib import Path

import pytest

import metatx
from metatx.registry import load_plugin
from metatx.serving.limits import Limits
from metatx.serving.metrics import Metrics
from metatx.serving.readers import Readers
from tests.serving.load import until
from tests.serving.processes import server

PLUGIN = str(Path(__file__).with_name("wild.py"))
PAIRS = [[0.0, 1.0], [1.0, 0.0]] * 4
ROW = {"a": 0.3, "b": "red", "c": 0.5}
WAIT = b"import time; time.sleep(100)"


@pytest.fixture
def folder(nano, tasks):
    """The three tasks, and one of wild files."""
    load_plugin(PLUGIN)
    metatx.Task.from_data(nano, "wild", (PAIRS, ["a", "b"] * 4)).save_pretrained(tasks / "wild")
    return tasks


def send(address, code):
    """A connection on which a .wild file was sent."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wild"\r\n\r\n'
    kind = {"content-type": "multipart/form-data; boundary=x", "authorization": "Bearer secret"}
    connection.request("POST", "/v1/tasks/wild/predict", head + code + b"\r\n--x--\r\n", kind)
    return connection


def below(pid):
    """Processes that descend from one."""
    found, new = set(), {pid}
    while new:
        own = [Path(f"/proc/{one}/task/{one}/children") for one in new]
        new = {int(child) for file in own if file.exists() for child in file.read_text().split()} - found
        found |= new
    return found


def ended(pids):
    return all(not Path(f"/proc/{pid}").exists() or " Z " in Path(f"/proc/{pid}/stat").read_text() for pid in pids)


def test_rows_of_others_are_answered_while_files_crash_and_loop(serve, folder):
    metrics = Metrics()
    readers = Readers(Limits(reader_seconds=2), metrics, PLUGIN)
    client = serve(folder, readers=readers)
    found = []

    def harm(code):
        for _ in range(2):
            answer = client.post("/v1/tasks/wild/predict", files={"file": ("a.wild", io.BytesIO(code))})
            found.append((answer.status_code, answer.json()["detail"]))

    harming = [threading.Thread(target=harm, args=(code,)) for code in (b"while 1: pass", b"import os; os.abort()")]
    for thread in harming:
        thread.start()
    rows = [client.post("/v1/tasks/kinds/predict", json={"inputs": [ROW]}) for _ in range(20)]
    assert [row.status_code for row in rows] == [200] * 20 and len(found) < 4
    for thread in harming:
        thread.join()
    readers.close()
    assert [status for status, _ in found] == [422] * 4
    assert sum("within 2 seconds" in line for _, line in found) == 2
    assert sum("ended the process" in line for _, line in found) == 2
    assert b'killed_total{reason="time"} 2.0' in metrics.text()


def test_a_client_that_leaves_ends_its_process_and_a_signal_the_server(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    options = "--timeout", "5", "--plugin", PLUGIN
    with server(folder, *options, METATX_TOKEN="secret") as (process, address):
        until(lambda: len(below(process.pid)) == 1)  # it is ready to read before a file comes
        left = send(address, WAIT)
        until(lambda: len(below(process.pid)) == 2)
        for pid in below(process.pid):
            with suppress(OSError):  # it may be gone
                assert b"secret" not in Path(f"/proc/{pid}/environ").read_bytes()
        (fork_server,) = [pid for pid in below(process.pid) if len(below(pid)) == 1]
        (reading,) = below(fork_server)
        left.close()
        until(lambda: ended([reading]))
        waiting = send(address, WAIT)
        until(lambda: not ended(below(fork_server)))  # the first process may still be listed
        pids = below(process.pid)
        process.send_signal(signal.SIGTERM)
        assert waiting.getresponse().status == 504
        assert process.wait(60) == 0
        until(lambda: ended(pids))
    assert not list(tmp_path.glob("metatx-*"))


def test_what_reads_ends_with_a_server_that_was_killed(folder):
    with server(folder, "--plugin", PLUGIN) as (process, address):
        sent = send(address, WAIT)  # takes no time of a processor, so that nothing else ends it
        until(lambda: len(below(process.pid)) == 2)
        pids = below(process.pid)
        process.kill()
        until(lambda: ended(pids))
        sent.close()


def test_an_answer_comes_from_the_file(serve, folder):
    client = serve(folder, readers=Readers(Limits(), Metrics(), PLUGIN))
    values = {"file": ("a.wild", b"values = [2.0, -1.0]")}
    sent = client.post("/v1/tasks/wild/predict", files=values).json()["answers"]
    assert sent == client.post("/v1/tasks/wild/predict", json={"inputs": [[2.0, -1.0]]}).json()["answers"]
    sent = client.post("/v1/tasks/wild/embed", files=values).json()["embeddings"]
    assert json.dumps(sent) == json.dumps(
        client.post("/v1/tasks/wild/embed", json={"inputs": [[2.0, -1.0]]}).json()["embeddings"]
    )
    client.service.engine.readers.close()
