"""Processes that read files: what comes back, and that nothing a file does reaches the server."""

import io
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

import metatx
from metatx.errors import TaskError
from metatx.registry import load_plugin
from metatx.serving.limits import Limits, RefusedError
from metatx.serving.metrics import Metrics
from metatx.serving.readers import CancelEvent, Readers, ReadRequest
from metatx.serving.sandbox import lacking

PLUGIN = str(Path(__file__).with_name("wild.py"))
PAIRS = [[0.0, 1.0], [1.0, 0.0]] * 4
CRASH = "ended the process that read it"
DAMAGED = "cannot be read; it is damaged"


@pytest.fixture(scope="module")
def wild(nano):
    """Processes with the plug-in, half a gigabyte and three seconds of CPU time each; and a pool with a task of it."""
    load_plugin(PLUGIN)
    pool = metatx.TaskPool(nano)
    pool.add("wild", metatx.Task.from_data(nano, "wild", (PAIRS, ["a", "b"] * 4)))
    readers = Readers(Limits(reader_mb=500, reader_seconds=3), Metrics(), PLUGIN)
    yield readers, pool
    readers.close()


def run(wild, code, cancel=None, most=9):
    """What comes of a file with this program, or None where the process lives on without an answer."""
    readers, pool = wild
    wanted = ReadRequest(
        task="wild", loaded=pool.loaded("wild"), cancel=cancel or CancelEvent(), extents=True, most=most
    )
    return readers.file(io.BytesIO(code.encode()), ".wild", wanted)


def killed(wild, reason):
    return wild[0].metrics.killed.labels(reason)._value.get()


def alive(pid):
    """True if a thread of a process is left: the first may end before another, which holds its files open."""
    try:
        states = [(task / "stat").read_text().split(") ")[1][0] for task in Path(f"/proc/{pid}/task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return any(state != "Z" for state in states)


def place(wild):
    """The ids of the process that reads and of that which forked it, and the folder of the file."""
    code = "import os; values = [float(byte) for byte in f'{os.getpid()} {os.getppid()} {path}'.encode()]"
    told = bytes(map(int, run(wild, code)[0][0]["x"].tolist())).decode()
    pid, parent, path = told.split(" ", 2)
    return int(pid), int(parent), Path(path).parent


def kill(*pids):
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    while any(map(alive, pids)):
        time.sleep(0.01)


def fails(wild, code, line, status=422):
    with pytest.raises(RefusedError, match=line) as caught:
        run(wild, code)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("code", "reason", "line"),
    [
        ("import os; os.abort()", "crash", CRASH),
        ("import ctypes; ctypes.string_at(0)", "crash", CRASH),
        ("import os; os._exit(0)", "crash", CRASH),
        ("raise SystemExit", "crash", CRASH),
        ("while True: pass", "time", "within 3 seconds"),
        ("held = bytearray(10**9)", "memory", "within 500 megabytes"),
        ("held = [bytearray(10**6) for _ in range(1000)]", "memory", "within 500 megabytes"),
        ("import os; os.closerange(3, 99)", "crash", CRASH),
    ],
)
def test_what_ends_the_process_is_one_refusal(wild, code, reason, line):
    before = killed(wild, reason)
    fails(wild, code, line)
    assert killed(wild, reason) == before + 1
    assert run(wild, "values = [2.0, 3.0]")[0][0]["x"].tolist() == [2, 3]


@pytest.mark.parametrize(
    "code",
    [
        "import subprocess; subprocess.run(['true'])",
        "import os; os.system('true')",
        "import os; os.execv('/bin/true', ['true'])",
        "import os; os.posix_spawn('/bin/true', ['true'], {})",
        "import os; os.fork()",
        "import os; os.kill(os.getppid(), 0)",
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9')",
        "import multiprocessing as m; m.Process(target=print).start()",
        "raise KeyError(path)",
    ],
)
def test_no_program_runs_and_no_machine_is_reached(wild, code, caplog):
    fails(wild, code, DAMAGED)
    assert "a .wild file was not read" in caplog.text


@pytest.mark.skipif("reading files of the server's user" in lacking(), reason="this kernel keeps no files away")
@pytest.mark.parametrize(
    "call",
    [
        "open(b'/etc/passwd', 0)",
        "open(b'/proc/%d/environ' % os.getppid(), 0)",
        f"open({str(Path(__file__).parents[2] / 'pyproject.toml').encode()!r}, 0)",  # in the working folder
        "open(b'/tmp/written', os.O_CREAT | os.O_WRONLY)",
        "kill(os.getppid(), 0)",
        "execl(b'/bin/true', b'true', None)",
        "rmdir(os.path.dirname(path).encode())",
    ],
)
def test_libraries_in_c_reach_no_other_file_either(wild, call):
    fails(wild, f"import ctypes, os; raise SampleError(str(ctypes.CDLL(None).{call}))", "-1")


def test_neither_the_token_nor_the_folder_is_told(wild, monkeypatch):
    monkeypatch.setenv("METATX_TOKEN", "secret")
    wild[0].close()
    with pytest.raises(RefusedError) as caught:
        run(wild, "import os; raise SampleError(f'{path} {dict(os.environ)}')")
    told = str(caught.value)
    assert "file.wild {" in told and "pixels=40000000" in told
    assert "secret" not in told and "metatx-" not in told


def test_a_bound_is_413(wild):
    code = "from metatx.reading.bounds import check_bound; check_bound('smiles', 5000, 'it')"
    fails(wild, code, "it has 5,000 characters of a SMILES; expected at most 2,000", 413)
    with pytest.raises(RefusedError, match="1 samples; the request may hold 0 more") as caught:
        run(wild, "pass", most=0)
    assert caught.value.status == 413


def test_what_is_missing_is_the_servers_fault(wild):
    with pytest.raises(RuntimeError, match="missing"):
        run(wild, "import no_such_library")


def test_nothing_is_unpickled_that_comes_back(wild):
    """A process that was taken over sends pickle, or numbers without end."""
    for content in (
        "pickle.dumps(print)",
        "b'[1]'",
        "b'{}'",
        'b\'{"fields": [["x"]], "extents": [[]], "last": false}\'',
    ):
        code = f"import os, pickle; c = {content}\nfor fd in range(3, 9):\n"
        code += " try: os.write(fd, (len(c).to_bytes(4, 'big') + c) * 2)\n except OSError: pass"
        fails(wild, code, CRASH)
    fails(wild, "import os\nfor fd in range(3, 9):\n try: os.write(fd, b'\\x7f' * 9)\n except OSError: pass", CRASH)
    assert run(wild, "pass")


def test_nobody_waits_and_the_process_ends_at_once(wild):
    (pid, _, folder), before = place(wild), killed(wild, "gone")
    cancel = CancelEvent()
    threading.Timer(0.3, cancel.set).start()
    started = time.monotonic()
    with pytest.raises(RefusedError) as caught:
        run(wild, "import time; time.sleep(60)", cancel)
    assert caught.value.status == 499 and killed(wild, "gone") == before + 1 and time.monotonic() - started < 30
    assert not alive(pid) and not folder.exists()
    with pytest.raises(RefusedError):
        run(wild, "pass", cancel)  # nobody has waited from the start


def test_what_ended_meanwhile_is_replaced_without_a_word(wild):
    first, _, _ = place(wild)
    kill(first)
    second, parent, _ = place(wild)
    kill(parent, second)  # and the process that forks them
    third, other, _ = place(wild)
    assert len({first, second, third}) == 3 and other != parent


def test_a_process_is_kept_and_gives_way_before_it_is_full(wild):
    pid, _, _ = place(wild)
    assert place(wild)[0] == pid
    assert run(wild, "import sys; sys.held = b'1' * 300_000_000")
    assert not alive(pid) and place(wild)[0] != pid


def test_a_task_that_was_loaded_again_is_another(wild, nano):
    readers, pool = wild
    run(wild, "pass")
    texts = metatx.Task.from_data(nano, "text", (["good", "bad"] * 4, ["a", "b"] * 4))
    pool.add("other", texts)
    for name, suffix, field in (("other", ".txt", "tokens"), ("wild", ".wild", "x"), ("other", ".txt", "tokens")):
        wanted = ReadRequest(task=name, loaded=pool.loaded(name), cancel=CancelEvent(), extents=False, most=1)
        ((encoded, extents),) = readers.file(io.BytesIO(b"pass"), suffix, wanted)
        assert (field == "x") == ("x" in encoded) and extents == []
        pool.reload(name, pool.task(name))


def test_no_process_and_no_file_is_left(wild):
    readers, _ = wild
    run(wild, "import tempfile; tempfile.mkstemp()")
    pid, parent, folder = place(wild)
    root = folder.parent
    assert folder.exists() and [path for path in root.rglob("*") if path.suffix == ".wild"] == []
    assert root.name.startswith("metatx-") and alive(pid) and alive(parent)
    readers.close()
    assert not root.exists() and not alive(pid) and not alive(parent)


def test_a_task_that_cannot_be_handed_over_says_so(nano, wild):
    class Own(metatx.Tokenizer):
        name = "own"
        suffixes = (".wild",)

        def forward(self, batch):
            return torch.zeros(1, 1, self.dim)

    pool = metatx.TaskPool(nano)
    pool.add("wild", metatx.Task(nano, Own(nano.dim), pool_head(nano)))
    with pytest.raises(TaskError, match="own, classification.* cannot be handed"):
        run((wild[0], pool), "pass")


def pool_head(nano):
    return metatx.create("heads", "classification", nano.dim).restore({"classes": ["a", "b"]})


def test_where_processes_cannot_fork_they_are_started(wild, monkeypatch):
    monkeypatch.setenv("METATX_TOKEN", "secret")
    with monkeypatch.context() as patch:
        patch.delattr(os, "fork")
        readers, pool = Readers(Limits(reader_mb=500, reader_seconds=3), Metrics(), PLUGIN), wild[1]
    assert place((readers, pool))[1] == os.getpid(), "its parent is no process that forks"
    assert run((readers, pool), "values = [4.0, 5.0]")[0][0]["x"].tolist() == [4, 5]
    fails((readers, pool), "import os; os.abort()", CRASH)
    with pytest.raises(RefusedError) as caught:
        run((readers, pool), "import os; raise SampleError(f'{dict(os.environ)}')")
    assert "secret" not in str(caught.value)
    readers.close()
