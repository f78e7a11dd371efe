"""Processes of one server on one port: forked from one that holds the backbone and the tasks, and renewed."""

import ctypes
import errno
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import torch

from metatx.pool.memory import freeze_gc
from metatx.serving.catalog import Catalog
from metatx.serving.listening import Member
from metatx.serving.metrics import TOGETHER
from metatx.serving.service import Service

__all__ = ["Family", "bound", "serve_in_processes", "threads_of"]

LOG = logging.getLogger("metatx.serving")
SIGNALS = (signal.SIGINT, signal.SIGTERM)
LISTENING = b"+"  # first byte that a process writes to its parent
STARTS = 3  # starts in a row that may fail
PAUSE = 1.0  # seconds behind a start that failed
REASON = 500  # characters of the reason why a process ended
PR_SET_PDEATHSIG = 1  # from linux/prctl.h


def serve_in_processes(
    load: Callable[[], Catalog],
    build: Callable[[Catalog], Service],
    count: int,
    host: str,
    port: int,
    proxy: str | None,
) -> None:
    """Serve in several processes until a signal comes; then return when all of them have answered what they accepted.

    Backbone and tasks are loaded once, in this process, which listens to nothing: its memory is that of all until one
    of them writes to it. Linux divides new connections among the processes that listen.

    Args:
        load: Function that loads the backbone.
        build: Function that builds the server; called in each process.
        count: Number of processes.
        host: Address to listen on.
        port: Port to listen on.
        proxy: Addresses of trusted reverse proxies, separated by commas; None: none.

    Raises:
        ValueError: If the system is not Linux, or the backbone lies on a GPU.
        ChildProcessError: If a process ends before it listens, again and again.
        OSError: If the port is taken, or the folder of tasks cannot be read.
    """
    if sys.platform != "linux":
        raise ValueError(f"--processes {count} needs Linux, which divides connections among processes; leave it out.")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads would not survive a fork
    threads = threads_of(count, torch.get_num_threads())
    torch.set_num_threads(1)  # a process that forks loses OpenMP's threads, so it must have none
    for listener in bound(host, port, shared=False):  # raises if a program listens there
        listener.close()
    reserved = bound(host, port, shared=True)  # they do not listen, but keep the port from other programs
    port = reserved[0].getsockname()[1]  # where any was asked for (0)
    with TemporaryDirectory(prefix="metatx-") as folder:
        os.environ[TOGETHER] = folder
        from prometheus_client.multiprocess import mark_process_dead  # reads the environment

        catalog = load()
        device = catalog.pool.backbone.device
        if device.type != "cpu":
            raise ValueError(
                f"--processes {count} divides CPU cores, but the backbone is on {device}; leave it out, or add "
                "--device cpu."
            )
        catalog.refresh()
        freeze_gc()

        def work(listening: Callable[[], object]) -> None:
            torch.set_num_threads(threads)
            service = build(catalog)
            if service.watch is not None:
                catalog.refresh()
            service.loaded = True
            Member(service, host, port, proxy, listening).run(bound(host, port, shared=True))

        LOG.info("%d processes with %d threads each on %s, port %d", count, threads, host, port)
        Family(work, count, partial(mark_process_dead, path=folder)).run()
    for listener in reserved:
        listener.close()


def threads_of(count: int, default: int) -> int:
    """OpenMP threads of each of ``count`` processes: as many as the environment says, else the cores divided.

    Args:
        count: Number of processes.
        default: Threads of a single process.
    """
    return default if "OMP_NUM_THREADS" in os.environ else max(1, default // count)


def bound(host: str, port: int, *, shared: bool) -> list[socket.socket]:
    """Bind sockets to all addresses of a host; they do not listen yet.

    Args:
        host: Name or address.
        port: Port.
        shared: True lets other sockets that are shared too have the same port.

    Raises:
        OSError: If an address cannot be had.
    """
    places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets = []
    for family, _, _, _, address in dict.fromkeys(places):
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # the IPv4 address has its own
        try:
            listener.bind(address)
        except OSError as error:
            listener.close()
            if error.errno == errno.EADDRNOTAVAIL and len(places) > 1:  # a system without IPv6, say
                continue
            raise OSError(
                f"{address[0]}, port {port}, cannot be had: {error.strerror}; choose another --port."
            ) from error
        sockets.append(listener)
    return sockets


class Family:
    """Processes that are forked from this one, each anew when it has ended, until a signal comes.

    The first signal is handed to all as SIGTERM, each further one as SIGINT. They get SIGTERM too when this process
    ends.

    Args:
        work: Function that each process runs; it calls its argument when it listens.
        count: Number of processes.
        ended: Function that is called here with the number of a process that has ended.
    """

    def __init__(self, work: Callable[[Callable[[], object]], None], count: int, ended: Callable[[int], Any]) -> None:
        self._work = work
        self._count = count
        self._ended = ended
        self._reports: dict[int, int] = {}  # pipe from each process, by its number
        self._signals = 0

    def run(self) -> None:
        """Keep the processes running; return when a signal has come, and all have ended.

        Raises:
            ChildProcessError: If ``STARTS`` of them in a row end before they listen; gives the last one's reason.
        """
        failed = 0  # starts in a row
        failure = ""
        handlers = {number: signal.signal(number, self._signalled) for number in SIGNALS}
        try:
            for _ in range(self._count):
                self._start()
            while self._reports:
                listened, reason = self._next_end()
                if self._signals:
                    continue
                failed = 0 if listened else failed + 1
                if failed == STARTS:
                    failure = reason
                    self._signalled()
                else:
                    LOG.error("%s; another is started", reason)
                    time.sleep(0.0 if listened else PAUSE)
                    self._start()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        if failure:
            raise ChildProcessError(f"{STARTS} processes ended before they listened; the last: {failure}.")

    def _start(self) -> None:
        """Fork a process, unless a signal has come; signals wait until its number is noted."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        if not self._signals:
            parent = os.getpid()
            reading, writing = os.pipe()
            pid = os.fork()
            if not pid:
                os.close(reading)
                self._live(writing, parent)
            os.close(writing)
            self._reports[pid] = reading
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def _live(self, report: int, parent: int) -> NoReturn:
        """Run the work in the new process, and end it."""
        status = 1
        try:
            os.setsid()  # signals from the terminal reach the parent alone
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            if os.getppid() == parent:
                self._work(lambda: os.write(report, LISTENING))
            status = 0
        except Exception as error:
            expected = isinstance(error, ValueError | OSError | ImportError)
            LOG.error("process %d failed: %s", os.getpid(), error, exc_info=None if expected else error)
            os.write(report, str(error)[:REASON].encode())
        finally:
            os._exit(status)

    def _next_end(self) -> tuple[bool, str]:
        """Wait until a process ends; return True if it had listened, and the reason of its end."""
        pid = 0
        while pid not in self._reports:
            pid, status = os.waitpid(-1, 0)
        with open(self._reports.pop(pid), "rb") as file:
            told = file.read()
        self._ended(pid)
        code = os.waitstatus_to_exitcode(status)
        how = f"was ended by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"ended with exit code {code}"
        why = " ".join(told.removeprefix(LISTENING).decode(errors="replace").split())
        return told.startswith(LISTENING), f"process {pid} {how}{f' ({why})' if why else ''}"

    def _signalled(self, *_: Any) -> None:
        self._signals += 1
        for pid in self._reports:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM if self._signals == 1 else signal.SIGINT)
