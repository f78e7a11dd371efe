"""Fork server: a process that imports what reading needs, and forks each process that reads within milliseconds.

Python's own fork server is not enough: it hands on the command line, which may hold the token, imports the main module
again, and does not end a stuck process when the server is gone.
"""

import gc
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import traceback
from contextlib import suppress
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection, Pipe
from multiprocessing.process import BaseProcess
from typing import Any

from metatx.reading.bounds import VARIABLE, stricter

__all__ = ["Child", "ForkServer", "Spawner", "main"]

CODE = "import json, sys; setup = json.load(sys.stdin); sys.path[:] = setup['path']; from {0} import main; main(setup)"
# pandas too: otherwise the first file of each process pays for it, of its seconds of CPU time.
MODULES = ("metatx.heads", "metatx.tokenizers", "metatx.serving.reading_process", "pandas")
# Environment variables that reach a process that a stranger's file may take over; never the token.
HANDED = (
    *("HOME", "LANG", "LC_ALL", "LC_CTYPE", "PATH", "SYSTEMROOT", "TMPDIR", "TZ"),
    *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME", "PYTHONUTF8", "HF_HOME", "METATX_WEIGHTS"),
)
CALM = {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "MALLOC_ARENA_MAX": "2", "PYTHONDONTWRITEBYTECODE": "1"}
NAMED = {"LOGNAME": "metatx"}  # torch asks for the user's name, and /etc/passwd is out of reach
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
NUMBER = struct.Struct("=q")
START = b"s"  # first byte of the order to fork a process
END = b"e"  # first byte of the order to end one
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # on Windows SIGTERM ends a process too
PATIENCE = 10.0  # seconds that the fork server has to end by itself


class Child:
    """A process that reads.

    Attributes:
        channel: Connection for orders and answers; when it is closed, the process ends.
        pid: Number of the process; no other process has it until ``ForkServer.end`` is called.
    """

    def __init__(self, channel: Connection, pid: int) -> None:
        self.channel = channel
        self.pid = pid

    def kill(self) -> None:
        """Kill the process at once."""
        with suppress(OSError):
            os.kill(self.pid, KILL)


class ForkServer:
    """The server's handle on the process that forks.

    Args:
        plugin: Python file to import, as ``--plugin``; None: none.
        megabytes: Memory for reading a file, see ``Sandbox``.
        seconds: CPU time for reading a file, see ``Sandbox``.
    """

    def __init__(self, plugin: str | None, megabytes: float, seconds: float) -> None:
        self.setup = {"plugin": plugin, "megabytes": megabytes, "seconds": seconds}
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process, if it does not run; returns at once."""
        with self._lock:
            self._start()

    def child(self, folder: str) -> Child:
        """Fork a process that may write to ``folder``. Raises RuntimeError if that fails."""
        ours, theirs = Pipe()
        with self._lock, theirs:
            for _ in range(2):  # twice: only an order shows that the fork server was killed meanwhile
                with suppress(OSError, struct.error):
                    return Child(ours, self._asked(START + folder.encode(), theirs.fileno()))
                self._stop()
        raise RuntimeError("The process that reads files does not start; its own message says why.")

    def end(self, child: Child) -> int:
        """Kill a process, if it lives, and forget it; return its exit code, or minus the signal that ended it."""
        child.channel.close()
        with self._lock:
            try:
                return self._asked(END + NUMBER.pack(child.pid))
            except (OSError, struct.error):
                return -signal.SIGKILL

    def close(self) -> None:
        """End the fork server, and all processes that read."""
        with self._lock:
            self._stop()

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self._stop()
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", CODE.format(__name__)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=_environment(),
                cwd="/",
                start_new_session=True,  # signals from the terminal reach the server alone
            )
            setup = {**self.setup, "control": theirs.fileno(), "path": [os.path.abspath(place) for place in sys.path]}
            assert self._process.stdin is not None
            with self._process.stdin as stdin:
                stdin.write(json.dumps(setup).encode())

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()  # the process then ends its children, and itself
        if self._process is not None:
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._control = self._process = None

    def _asked(self, order: bytes, *handles: int) -> int:
        self._start()
        assert self._control is not None
        socket.send_fds(self._control, [order], handles)
        (answer,) = NUMBER.unpack(self._control.recv(NUMBER.size))
        return int(answer)


class Spawner:
    """Stand-in for ``ForkServer`` where processes cannot fork (Windows): each is started anew, which takes seconds."""

    def __init__(self, plugin: str | None, megabytes: float, seconds: float) -> None:
        self._arguments = plugin, megabytes, seconds
        self._processes: dict[int, BaseProcess] = {}

    def start(self) -> None:
        """Do nothing: there is no process to start in advance."""

    def child(self, folder: str) -> Child:
        """Start a process that may write to ``folder``."""
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_spawned, args=(theirs, folder, *self._arguments), daemon=True)
        process.start()
        theirs.close()
        child = Child(ours, process.pid or 0)
        self._processes[child.pid] = process
        return child

    def end(self, child: Child) -> int:
        """Kill a process and forget it; return its exit code."""
        child.channel.close()
        process = self._processes.pop(child.pid)
        process.kill()
        process.join()
        return process.exitcode or 0

    def close(self) -> None:
        """End all processes."""
        for process in self._processes.values():
            process.kill()


def _spawned(channel: Connection, folder: str, plugin: str | None, megabytes: float, seconds: float) -> None:
    environment = _environment()
    os.environ.clear()
    os.environ.update(environment)
    _import(plugin)
    from metatx.serving.reading_process import work
    from metatx.serving.sandbox import loaded_from

    work(channel, folder, loaded_from(), megabytes, seconds)


def _environment() -> dict[str, str]:
    """Make the environment of a process that reads what strangers send."""
    handed = {name: os.environ[name] for name in HANDED if name in os.environ}
    return {**handed, **CALM, **NAMED, **THREADS, VARIABLE: stricter()}


def _import(plugin: str | None) -> None:
    for name in MODULES:
        import_module(name)
    if plugin is not None:
        from metatx.registry import load_plugin

        load_plugin(plugin)


def main(setup: dict[str, Any]) -> None:
    """Import, then fork on order, until the server is gone; then end all forked processes.

    Args:
        setup: Plug-in, limits of a file, handle of the control socket, and ``sys.path`` of the server.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the server gets these signals too, and ends this process when it stops
    _import(setup["plugin"])
    from metatx.serving.sandbox import loaded_from

    setup["readable"] = loaded_from()
    gc.collect()
    gc.freeze()  # so that memory shared with the children is not written to
    children: set[int] = set()
    with socket.socket(fileno=setup["control"]) as control:
        while True:
            order, handles, _, _ = socket.recv_fds(control, 1 << 13, 1)
            if not order:
                break
            if order[:1] == START:
                answer = _fork(control, handles[0], order[1:].decode(), setup)
                children.add(answer)
            else:
                (pid,) = NUMBER.unpack(order[1:])
                answer = _ended(pid) if pid in children else -signal.SIGKILL
                children.discard(pid)
            control.sendall(NUMBER.pack(answer))
    for pid in children:
        _ended(pid)


def _fork(control: socket.socket, handle: int, folder: str, setup: dict[str, Any]) -> int:
    from metatx.serving.reading_process import work

    pid = os.fork()
    if pid:
        os.close(handle)
        return pid
    status = 1
    try:
        control.close()
        work(Connection(handle), folder, setup["readable"], setup["megabytes"], setup["seconds"])
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _ended(pid: int) -> int:
    """Kill a child and return its exit code; only this process waits for it, so its number is still its own."""
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
