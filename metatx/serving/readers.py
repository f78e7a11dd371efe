"""Processes that read sent files: kept between files, replaced when they end or are killed."""

import json
import logging
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias
from weakref import WeakKeyDictionary

import orjson
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from metatx.pool.requests import ResidentTask
from metatx.progress import tell
from metatx.serving.file_checks import of_input
from metatx.serving.fork_server import Child, ForkServer, Spawner
from metatx.serving.limits import GONE, Limits, RefusedError
from metatx.serving.metrics import Metrics
from metatx.serving.reading_process import Order
from metatx.serving.sandbox import lacking
from metatx.serving.skeleton import skeleton

__all__ = ["EncodedSample", "CancelEvent", "Readers", "ReadRequest"]

LOG = logging.getLogger("metatx.serving")
HEAD = 1 << 24  # largest number of bytes of an answer without its tensors
CRASH = "The file ended the process that read it: it is damaged, or made to do so."

EncodedSample: TypeAlias = tuple[dict[str, Tensor], list[Any]]  # an encoded sample, and its extents for the head


class CancelEvent:
    """Event that, once set, ends the process that reads for one request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: Child | None = None
        self.was_set = False

    def set(self) -> None:
        """End the process, for nobody waits any more. May be called from any thread, and more than once."""
        with self._lock:
            self.was_set = True
            if self._child is not None:
                self._child.kill()

    @contextmanager
    def using(self, child: Child) -> Iterator[None]:
        """Let the event end ``child`` inside the context. Raises EOFError if the event is set already."""
        with self._lock:
            if self.was_set:
                raise EOFError
            self._child = child
        try:
            yield
        finally:
            with self._lock:
                self._child = None


@dataclass(frozen=True, kw_only=True)
class ReadRequest:
    """Request to read an input.

    Attributes:
        task: Name of the task that is to answer the input.
        loaded: The task, as the pool holds it.
        cancel: Event of the client's request.
        extents: True if the head needs the extents of samples.
        most: Largest number of samples in the input.
    """

    task: str
    loaded: ResidentTask
    cancel: CancelEvent
    extents: bool
    most: int


@dataclass(eq=False)
class _Worker:
    """A process that reads, with its folder."""

    folder: Path
    child: Child
    alive: bool = True


class Readers:
    """Processes that read files, as many as there are threads that ask for one.

    Each has a folder of its own, with the file that it reads and nothing else.

    Args:
        limits: Limits of a request, among them memory and time for a file.
        metrics: Metrics, which count killed processes.
        plugin: Python file that the processes import too, as ``--plugin``; None: none.
    """

    def __init__(self, limits: Limits, metrics: Metrics, plugin: str | None = None) -> None:
        self.limits = limits
        self.metrics = metrics
        kind = ForkServer if hasattr(os, "fork") else Spawner
        self._fork_server = kind(plugin, limits.reader_mb, limits.reader_seconds)
        self._root: tempfile.TemporaryDirectory[str] | None = None
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._numbers: WeakKeyDictionary[ResidentTask, int] = WeakKeyDictionary()
        self._count = count()
        self._lacking = lacking()

    def start(self) -> None:
        """Start the fork server in the background, so that no file has to wait for it; warn once of missing bounds."""
        if self._lacking:
            tell(f"On this system a process that reads a sent file is not kept from {', '.join(self._lacking)}.")
            self._lacking = []
        self._fork_server.start()

    def file(self, content: BinaryIO, suffix: str, wanted: ReadRequest) -> list[EncodedSample]:
        """Read and encode the samples of a file.

        Args:
            content: Bytes of the file.
            suffix: Suffix of its name.
            wanted: Task, and limits of the reading.

        Raises:
            RefusedError: If the file cannot be read, its content is not that of the suffix, or it is beyond a limit.
            RuntimeError: If no process can be started, or a package that reads such files is not installed.
        """
        with self._worker() as worker:
            path = worker.folder / f"file{suffix}"
            try:
                _store(content, path)
                return self._read(worker, f"a {suffix} file", wanted, path=str(path))
            finally:
                path.unlink(missing_ok=True)

    def value(self, value: Any, wanted: ReadRequest) -> list[EncodedSample]:
        """Read and encode a sample that came as JSON; raises as ``file``."""
        text = _json(value)
        with self._worker() as worker:
            return self._read(worker, "a value", wanted, value=text)

    def sample(self, value: Any, files: Mapping[str, tuple[BinaryIO, str]], wanted: ReadRequest) -> list[EncodedSample]:
        """Read and encode a sample of several inputs; raises as ``file``.

        Args:
            value: Inputs that came as JSON, by name.
            files: Bytes and suffix of the file of each other input, by the name of the input.
            wanted: Task, and limits of the reading.
        """
        text = _json(value)
        with self._worker() as worker:
            paths = {name: worker.folder / f"{name}{suffix}" for name, (_, suffix) in files.items()}
            try:
                for name, (content, _) in files.items():
                    with of_input(name):
                        _store(content, paths[name])
                named = {name: str(path) for name, path in paths.items()}
                return self._read(worker, "the files of a sample", wanted, value=text, files=named)
            finally:
                for path in paths.values():
                    path.unlink(missing_ok=True)

    def close(self) -> None:
        """End all processes, and remove their folders."""
        self._fork_server.close()
        with self._lock:
            idle = self._idle
            root = self._root
            self._idle = []
            self._root = None
        for worker in idle:
            worker.child.channel.close()
        if root is not None:
            root.cleanup()

    @contextmanager
    def _worker(self) -> Iterator[_Worker]:
        worker = self._taken()
        try:
            yield worker
        finally:
            if worker.alive:
                with self._lock:
                    self._idle.append(worker)

    def _taken(self) -> _Worker:
        with self._lock:
            while self._idle:
                worker = self._idle.pop()
                if not worker.child.channel.poll(0):
                    return worker
                self._leave(worker)  # it ended meanwhile, or sent something unasked
            self._root = self._root or tempfile.TemporaryDirectory(prefix="metatx-", ignore_cleanup_errors=True)
            folder = Path(tempfile.mkdtemp(dir=self._root.name))
        return _Worker(folder, self._fork_server.child(str(folder)))

    def _leave(self, worker: _Worker) -> int:
        """End a process and remove its folder; return its exit code, see ``ForkServer.end``."""
        shutil.rmtree(worker.folder, ignore_errors=True)
        return self._fork_server.end(worker.child)

    def _number(self, loaded: ResidentTask) -> int:
        """Return the number of a task in orders; a task that is loaded again gets another number."""
        with self._lock:
            return self._numbers.setdefault(loaded, next(self._count))

    def _read(self, worker: _Worker, what: str, wanted: ReadRequest, **source: Any) -> list[EncodedSample]:
        task = self._number(wanted.loaded)
        order = Order(task=task, skeleton=None, extents=wanted.extents, most=wanted.most, **source)
        head, samples = self._asked(worker, what, wanted, order)
        if "unknown" in head:
            order = replace(order, skeleton=skeleton(wanted.loaded.task))
            head, samples = self._asked(worker, what, wanted, order)
        if "fields" not in head:
            raise _refusal(wanted.task, what, head)
        return samples

    def _asked(
        self, worker: _Worker, what: str, wanted: ReadRequest, order: Order
    ) -> tuple[dict[str, Any], list[EncodedSample]]:
        """Send an order; return the head of the answer, and its samples if there are any.

        Raises:
            RefusedError: If the process ended or was killed.
        """
        head: dict[str, Any] = {}
        last = True
        try:
            with wanted.cancel.using(worker.child):
                worker.child.channel.send(order)
                answer = json.loads(worker.child.channel.recv_bytes(HEAD))
                tensors = worker.child.channel.recv_bytes(round(self.limits.reader_mb * 1e6))
            samples = _samples(answer, tensors) if "fields" in answer else []
            last = bool(answer["last"])
            head = answer
        except (EOFError, OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError):
            last = True  # the process ended, or a file took it over
        finally:
            worker.alive = not last
            status = self._leave(worker) if last else 0
        if head and "memory" not in head:
            return head, samples
        raise self._lost(what, wanted, "memory" in head, status)

    def _lost(self, what: str, wanted: ReadRequest, memory: bool, status: int) -> RefusedError:
        """Count a process that ended without an answer, by its reason; return the error that tells it."""
        timed = status == -getattr(signal, "SIGXCPU", 0)
        reason = "gone" if wanted.cancel.was_set else "memory" if memory else "time" if timed else "crash"
        self.metrics.killed.labels(reason).inc()
        LOG.warning("%s: the process that read %s was ended: %s, exit code %d", wanted.task, what, reason, status)
        if reason == "gone":
            return RefusedError(GONE, "The client is gone.")
        if reason == "memory":
            return RefusedError(422, f"It could not be read within {self.limits.reader_mb:,.0f} megabytes of memory.")
        if reason == "time":
            return RefusedError(422, f"It could not be read within {self.limits.reader_seconds:g} seconds.")
        return RefusedError(422, CRASH)


def _store(content: BinaryIO, path: Path) -> None:
    """Write a sent file. Raises RefusedError (422) if it is empty."""
    with path.open("wb") as file:
        shutil.copyfileobj(content, file)
    if not path.stat().st_size:
        raise RefusedError(422, "The file is empty.")


def _json(value: Any) -> bytes:
    """Write a value as JSON. Raises RefusedError (422) if it is nested too deeply."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError:
        raise RefusedError(422, "The input is nested too deeply.") from None


def _refusal(task: str, what: str, head: dict[str, Any]) -> Exception:
    """Turn the answer of a process that could not encode an input into an error."""
    trace = str(head.get("trace") or head.get("failed") or "")
    if trace:
        LOG.error("%s: %s was not read:\n%s", task, what, trace)
    if "failed" in head:
        return RuntimeError("what reads such files is missing")
    status = head.get("status")
    return RefusedError(status if status in (413, 415) else 422, str(head.get("reason")))


def _samples(head: dict[str, Any], content: bytes) -> list[EncodedSample]:
    """Unpack the samples of an answer; a malformed one raises errors of many kinds."""
    tensors = load(content)
    samples = zip(head["fields"], head["extents"], strict=True)
    return [
        ({str(name): tensors[f"{at}.{name}"] for name in fields}, _extents(extents))
        for at, (fields, extents) in enumerate(samples)
    ]


def _extents(columns: Any) -> list[Any]:
    """Turn shapes from JSON into tuples, as ``Task.extents`` gives them."""
    return [[tuple(int(size) for size in shape) for shape in column] for column in columns]
