"""``metatx serve`` as a process: what a signal does under load, what a full server says, what a wrong start says."""

import signal
import subprocess
import sys
import time

import pytest

from metatx.serving import command
from metatx.serving.command import serve
from tests.serving.load import ROWS, Clients, ask, connected, right
from tests.serving.processes import ROOT, server


def test_a_signal_under_load_loses_no_accepted_request(trained):
    with server(trained) as (process, address):
        expected = [one["p(yes)"] for one in ask(connected(address), ROWS)[1]["answers"]]
        clients = Clients(address, count=6, inputs=20)
        while len(clients.found) < 20:
            time.sleep(0.05)
        told = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        clients.join()
    before = [one for one in clients.found if one[0] < told]
    assert {status for _, _, status, _ in before} <= {200, 503}
    assert {200, 503} <= {status for _, _, status, _ in clients.found}
    answered = [one for one in clients.found if one[2] == 200]
    assert len(answered) >= 20 and all(right(answer, row, expected, 20) for _, row, _, answer in answered)


def test_a_full_server_refuses_with_429_and_answers_all_others_right(trained):
    with server(trained, "--queue-seconds", "0.0001") as (_, address):
        expected = [one["p(yes)"] for one in ask(connected(address), ROWS)[1]["answers"]]
        clients = Clients(address, count=8, inputs=30)
        while not {200, 429} <= {status for _, _, status, _ in clients.found}:
            time.sleep(0.05)
        clients.join()
    assert {status for _, _, status, _ in clients.found} == {200, 429}
    assert all(right(answer, row, expected, 30) for _, row, status, answer in clients.found if status == 200)


def test_wrong_starts_are_one_line(tmp_path):
    for options, line in (
        (["nowhere"], "nowhere is no folder"),
        ([str(tmp_path), "--admin"], "needs a token"),
        ([str(tmp_path), "--token="], "The token is empty"),
        ([str(tmp_path), "--token", "a b"], "The token has white space"),
    ):
        command = [sys.executable, "-c", "from metatx.cli import main; main()", "serve", *options]
        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        last = found.stderr.splitlines()[-1]
        assert found.returncode == 2 and last.startswith("metatx: ") and line in last


@pytest.mark.parametrize("value", ["", " ", "\n", "a\tb"])
def test_a_token_that_is_set_and_none_does_not_mean_an_open_server(monkeypatch, tmp_path, value):
    monkeypatch.setenv("METATX_TOKEN", value)
    with pytest.raises(ValueError, match="The token "):
        serve(str(tmp_path))


def test_who_opens_a_server_to_others_without_a_token_is_told(monkeypatch, tmp_path):
    monkeypatch.delenv("METATX_TOKEN", raising=False)
    told = []
    monkeypatch.setattr(command, "tell", told.append)
    for host, count in (("127.0.0.1", 0), ("localhost", 0), ("::1", 0), ("0.0.0.0", 1), ("example.org", 2)):
        with pytest.raises(FileNotFoundError):
            serve(str(tmp_path / "nowhere"), host=host)
        assert len(told) == count
