"""Several servers on one port: processes that are forked from one that holds the backbone, whose memory they share."""

import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import Any

from metatx.pool.memory import freeze_gc
from metatx.progress import tell
from metatx.serving.metrics import Metrics

__all__ = ["SharedMetrics", "announce", "merged", "serve_processes"]

LOG = logging.getLogger("metatx.serving")
PATIENCE = 5.0  # seconds that another process has to give its metrics
PAUSE = 0.5  # seconds before a process is started anew, so that one that ends again and again leaves the others time
STOPS = (signal.SIGTERM, signal.SIGINT)


class SharedMetrics(Metrics):
    """Counters of one of several servers on a port; their text is that of all, with the label ``process``.

    Args:
        folder: Folder of the sockets through which the servers ask each other, which nobody else may enter.
        number: Number of this server.
    """

    def __init__(self, folder: Path, number: int) -> None:
        super().__init__()
        self._folder = folder
        self._number = number
        place = folder / f"{number}.socket"
        place.unlink(missing_ok=True)  # of the process before this one
        self._listener = Listener(str(place), "AF_UNIX")
        threading.Thread(target=self._tell, name="metatx-metrics", daemon=True).start()

    def text(self) -> bytes:
        """Return the metrics of all servers in the text format of Prometheus."""
        texts = {self._number: super().text()}
        for place in self._folder.glob("*.socket"):
            if int(place.stem) != self._number:
                with suppress(OSError, EOFError), Client(str(place), "AF_UNIX") as other:  # it may have ended
                    if other.poll(PATIENCE):
                        texts[int(place.stem)] = other.recv_bytes()
        return merged(texts)

    def _tell(self) -> None:
        while True:
            with suppress(OSError), self._listener.accept() as other:
                other.send_bytes(super().text())


def announce(folder: Path, number: int) -> None:
    """Say that a server is built: nothing is wrong with the options."""
    (folder / f"{number}.built").touch()


def merged(texts: Mapping[int, bytes]) -> bytes:
    """Merge metrics of several processes, each sample with the label ``process``.

    Args:
        texts: Metrics in the text format of Prometheus, by the number of the process.
    """
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.metrics_core import Metric
    from prometheus_client.parser import text_string_to_metric_families

    families: dict[str, Metric] = {}
    for number, text in sorted(texts.items()):
        for family in text_string_to_metric_families(text.decode()):
            known = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            labels = {"process": str(number)}
            known.samples += [sample._replace(labels={**labels, **sample.labels}) for sample in family.samples]

    class Families:
        def collect(self) -> Iterator[Metric]:
            return iter(families.values())

    registry = CollectorRegistry()
    registry.register(Families())  # only ``collect`` is called
    return generate_latest(registry)


def serve_processes(
    start: Callable[[Callable[[], socket.socket], int, Path], None], processes: int, host: str, port: int, backlog: int
) -> None:
    """Serve with several processes until a signal comes; one that ends before is started anew.

    The first is started alone, so that a mistake in the options is reported once. Each is forked from this process,
    whose memory they share until they write to it: it must have no other thread.

    Args:
        start: Function that serves, in a process of its own, with a function that makes a socket which accepts its
            share of the connections, its number, and the folder of ``SharedMetrics``. It calls ``announce`` when the
            server is built.
        processes: Number of processes.
        host: Address to listen on.
        port: Port to listen on.
        backlog: Connections that wait to be accepted.

    Raises:
        OSError: If the port cannot be had.
        ValueError: If a process ends before it serves.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    socket.create_server((host, port), family=family).close()  # raises OSError if it is another's

    def listen() -> socket.socket:
        return socket.create_server((host, port), family=family, backlog=backlog, reuse_port=True)

    freeze_gc()  # a collection would write to the memory that is shared
    with tempfile.TemporaryDirectory(prefix="metatx-") as folder:
        _Parent(partial(start, listen), processes, Path(folder)).run()


class _Parent:
    """Process that forks the servers and waits for them."""

    def __init__(self, start: Callable[[int, Path], None], processes: int, folder: Path) -> None:
        self._start = start
        self._processes = processes
        self._folder = folder
        self._numbers: dict[int, int] = {}  # of the servers, by process
        self._stopping = False
        # Its read end tells a server that this process is gone, however it ended.
        self._alive = os.pipe()

    def run(self) -> None:
        for stop in STOPS:
            signal.signal(stop, self._stop)
        self._fork(0)
        while not (self._stopping or self._built(0)):
            self._wait(os.WNOHANG)
        for number in range(1, self._processes):
            self._fork(number)
        while self._numbers:
            self._wait(0)

    def _stop(self, number: int, frame: Any) -> None:
        """Hand on a signal: the first drains the servers, a second stops them at once."""
        self._stopping = True
        for process in self._numbers:
            os.kill(process, signal.SIGTERM)

    def _built(self, number: int) -> bool:
        return (self._folder / f"{number}.built").exists()

    def _fork(self, number: int) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # until the process is known to ``_stop``
        if not self._stopping:
            process = os.fork()
            if not process:
                self._serve(number)
            self._numbers[process] = number
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)

    def _wait(self, how: int) -> None:
        """Wait for the end of a server; if it served, start it anew, else stop all and raise ValueError."""
        process, status = os.waitpid(-1, how)
        if not process:
            time.sleep(0.05)
            return
        number = self._numbers.pop(process)
        if self._stopping:
            return
        code = os.waitstatus_to_exitcode(status)
        ended = f"by signal {-code}" if code < 0 else f"with status {code}"
        if not self._built(number):
            self._stop(signal.SIGTERM, None)
            while self._numbers:
                self._wait(0)
            raise ValueError(f"Server {number} of {self._processes} ended {ended} before it served; it said why.")
        LOG.warning("server %d ended %s; it is started anew", number, ended)
        time.sleep(PAUSE)
        self._fork(number)

    def _serve(self, number: int) -> None:
        """Serve in the process that was forked, and end it."""
        status = 1
        try:
            os.setpgid(0, 0)  # Ctrl-C in a terminal reaches the parent alone, which hands it on
            for stop in STOPS:
                signal.signal(stop, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
            os.close(self._alive[1])
            threading.Thread(target=self._outlive, name="metatx-parent", daemon=True).start()
            self._start(number, self._folder)
            status = 0
        except (ValueError, OSError) as error:
            tell(f"server {number}: {error}")
            status = 2
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _outlive(self) -> None:
        """Drain this server when the parent is gone."""
        os.read(self._alive[0], 1)
        os.kill(os.getpid(), signal.SIGTERM)
