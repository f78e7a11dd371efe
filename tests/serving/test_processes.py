"""``metatx serve --processes``: servers on one port answer as one does, end together, replace one another."""

import os
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

from metatx.serving.command import serve
from metatx.serving.metrics import Metrics
from metatx.serving.processes import merged
from tests.serving.load import ROWS, Clients, ask, connected, right, until
from tests.serving.processes import ROOT, server


def children(process) -> set[int]:
    """Servers that were forked, as Linux tells them."""
    with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
        return set(map(int, file.read().split()))


def scraped(address) -> str:
    with urllib.request.urlopen(f"{address}/metrics") as answer:
        return answer.read().decode()


@pytest.mark.skipif(sys.platform != "linux", reason="the numbers of the processes are read from Linux")
def test_servers_answer_replace_one_another_and_end_together(trained):
    with server(trained, "--processes", "2") as (process, address):
        until(lambda: 'process="1"' in scraped(address))
        first = children(process)
        expected = [one["p(yes)"] for one in ask(connected(address), ROWS)[1]["answers"]]

        def both_asked() -> bool:
            ask(connected(address), ROWS)
            lines = [line for line in scraped(address).splitlines() if line.startswith("metatx_requests_total")]
            return all(any(f'process="{number}"' in line for line in lines) for number in (0, 1))

        until(both_asked)
        clients = Clients(address, count=8, inputs=10)
        until(lambda: len(clients.found) > 40)
        os.kill(max(first), signal.SIGKILL)
        until(lambda: len(children(process) - first) == 1)
        before = len(clients.found)
        until(lambda: len(clients.found) > before + 40)
        told = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        clients.join()
    answered = [one for one in clients.found if one[2] == 200]
    assert all(right(answer, row, expected, 10) for _, row, _, answer in answered)
    statuses = [status for sent, _, status, _ in clients.found if sent < told]
    lost = [status for status in statuses if status not in (200, 503)]  # those that the killed server had
    assert len(first) == 2 and len(lost) <= 8 and len(answered) > 80


def test_a_server_whose_parent_is_killed_ends(trained):
    with server(trained, "--processes", "2") as (process, address):
        until(lambda: 'process="1"' in scraped(address))
        process.kill()

        def gone() -> bool:
            try:
                scraped(address)
            except OSError:
                return True
            return False

        until(gone)


def test_what_cannot_be_is_one_line(trained, tmp_path, monkeypatch):
    for options, reason in (
        ({"processes": 0}, "must be at least 1"),
        ({"processes": 2, "admin": True, "token": "secret"}, "use --watch"),
        ({"processes": 2, "ray": True}, "--replicas says"),
    ):
        with pytest.raises(ValueError, match=reason):
            serve(str(trained), **options)
    command = [sys.executable, "-c", "from metatx.cli import main; main()", "serve", str(trained), "--processes", "2"]
    found = subprocess.run([*command, "--index", f"x={tmp_path}"], cwd=ROOT, capture_output=True, text=True)
    last = found.stderr.splitlines()[-1]
    assert found.returncode == 2 and last == "metatx: Server 0 of 2 ended with status 2 before it served; it said why."
    assert found.stderr.count(str(tmp_path)) == 1


def test_metrics_of_several_processes_keep_their_kinds():
    one, two = Metrics(), Metrics()
    one.answered(["a"], "predict", 200, 0.003)
    two.watch("metatx_tasks", "Tasks that are served.", lambda: 5)
    text = merged({0: one.text(), 1: two.text()}).decode()
    assert '# TYPE metatx_requests_total counter\nmetatx_requests_total{answer="predict",process="0"' in text
    assert 'metatx_seconds_bucket{le="0.005",process="0",task="a"} 1.0' in text
    assert 'metatx_tasks{process="1"} 5.0' in text and 'metatx_tasks{process="0"}' not in text
    assert text.count("# TYPE metatx_pass_seconds histogram") == 1
