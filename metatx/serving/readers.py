"""The processes that read sent files: kept between files, replaced when one of them ends or is ended."""

import json
import logging
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias
from weakref import WeakKeyDictionary

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from metatx.pooled import Loaded
from metatx.serving.child import Order
from metatx.serving.limits import Limits, RefusedError
from metatx.serving.metrics import Metrics
from metatx.serving.nursery import Child, Nursery
from metatx.serving.skeleton import skeleton

__all__ = ["Encoded", "Errand", "Readers"]

LOG = logging.getLogger("metatx.serving")
HEAD = 1 << 24  # bytes of an answer beside its tensors
GONE = 499

Encoded: TypeAlias = tuple[dict[str, Tensor], list[Any]]  # a sample, and further arguments of the head


class Errand:
    """What is done for one request, until nobody waits for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: Child | None = None
        self.dropped = False

    def drop(self) -> None:
        """Nobody waits any more: what works for it is ended. May be called from any thread, and again."""
        with self._lock:
            self.dropped = True
            if self._child is not None:
                self._child.kill()

    @contextmanager
    def using(self, child: Child) -> Iterator[None]:
        """A process works for it. Raises EOFError if nobody waits any more."""
        with self._lock:
            if self.dropped:
                raise EOFError
            self._child = child
        try:
            yield
        finally:
            with self._lock:
                self._child = None


@dataclass(eq=False)
class _Desk:
    """A process and its folder."""

    folder: Path
    child: Child
    alive: bool = field(default=True)


class Readers:
    """Processes that read files, as many as there are threads that ask.

    Each has a folder of its own, with the file that it reads and nothing else.

    Args:
        limits: Memory and time of a file.
        metrics: Told of processes that were ended.
        plugin: File to import there too, as ``--plugin``.
    """

    def __init__(self, limits: Limits, metrics: Metrics, plugin: str | None = None) -> None:
        self.limits, self.metrics = limits, metrics
        self._nursery = Nursery(plugin, limits.reader_mb, limits.reader_seconds)
        self._root: tempfile.TemporaryDirectory[str] | None = None
        self._lock = threading.Lock()
        self._idle: list[_Desk] = []
        self._numbers: WeakKeyDictionary[Loaded, int] = WeakKeyDictionary()
        self._count = count()

    def start(self) -> None:
        """Make ready, beside what else happens, so that the first file need not wait."""
        self._nursery.start()

    def read(
        self, name: str, loaded: Loaded, content: BinaryIO, suffix: str, *, extents: bool, most: int, errand: Errand
    ) -> list[Encoded]:
        """The samples of a file, encoded.

        Args:
            name: Of the task.
            loaded: The task.
            content: Of the file.
            suffix: Of the file's name.
            extents: Whether the head's further arguments are wanted.
            most: Samples that it may hold.
            errand: That it is for.

        Raises:
            RefusedError: If it cannot be read, is another than its ending says, or beyond a limit; says which.
            RuntimeError: If there is no process, or what reads such files is not installed.
        """
        with self._desk() as desk:
            path = desk.folder / f"file{suffix}"
            with path.open("wb") as file:
                shutil.copyfileobj(content, file)
            try:
                if not path.stat().st_size:
                    raise RefusedError(422, "The file is empty.")
                order = Order(task=self._number(loaded), skeleton=None, path=str(path), extents=extents, most=most)
                head, tensors = self._answer(name, loaded, desk, order, errand)
            finally:
                path.unlink(missing_ok=True)
        if "fields" not in head:
            raise _refusal(name, suffix, head)
        return _samples(head, tensors)

    def close(self) -> None:
        """End all of them, and remove their folders."""
        self._nursery.close()
        with self._lock:
            idle, self._idle = self._idle, []
            root, self._root = self._root, None
        for desk in idle:
            desk.child.channel.close()
        if root is not None:
            root.cleanup()

    @contextmanager
    def _desk(self) -> Iterator[_Desk]:
        desk = self._taken()
        try:
            yield desk
        finally:
            if desk.alive:
                with self._lock:
                    self._idle.append(desk)

    def _taken(self) -> _Desk:
        with self._lock:
            while self._idle:
                desk = self._idle.pop()
                if not desk.child.channel.poll(0):
                    return desk
                self._leave(desk)  # it ended since, or says something unasked
            self._root = self._root or tempfile.TemporaryDirectory(prefix="metatx-", ignore_cleanup_errors=True)
            folder = Path(tempfile.mkdtemp(dir=self._root.name))
        return _Desk(folder, self._nursery.child(str(folder)))

    def _leave(self, desk: _Desk) -> int:
        """End a process for good; as ``Nursery.end``."""
        shutil.rmtree(desk.folder, ignore_errors=True)
        return self._nursery.end(desk.child)

    def _number(self, loaded: Loaded) -> int:
        """Of a task as it is loaded now: its folder, loaded again, is another."""
        with self._lock:
            return self._numbers.setdefault(loaded, next(self._count))

    def _answer(self, name: str, loaded: Loaded, desk: _Desk, order: Order, errand: Errand) -> tuple[Any, bytes]:
        head, tensors = self._asked(name, desk, order, errand)
        if "unknown" in head:
            order = Order(**{**vars(order), "skeleton": skeleton(loaded.task)})
            head, tensors = self._asked(name, desk, order, errand)
        return head, tensors

    def _asked(self, name: str, desk: _Desk, order: Order, errand: Errand) -> tuple[Any, bytes]:
        """What the process answers. Raises RefusedError if it ended, or was ended."""
        last = True
        try:
            with errand.using(desk.child):
                desk.child.channel.send(order)
                head = json.loads(desk.child.channel.recv_bytes(HEAD))
                tensors = desk.child.channel.recv_bytes(round(self.limits.reader_mb * 1e6))
            last = bool(head["last"])
        except (EOFError, OSError, ValueError, KeyError, TypeError):
            head, tensors = {}, b""
        finally:
            desk.alive = not last
            status = self._leave(desk) if last else 0
        if head and "memory" not in head:
            return head, tensors
        raise self._lost(name, Path(order.path).suffix, "memory" in head, status, errand)

    def _lost(self, name: str, suffix: str, memory: bool, status: int, errand: Errand) -> RefusedError:
        """The process ended without an answer: count why, and say it."""
        timed = status == -getattr(signal, "SIGXCPU", 0)
        reason = "gone" if errand.dropped else "memory" if memory else "time" if timed else "crash"
        self.metrics.killed.labels(reason).inc()
        ended = signal.Signals(-status).name if status < 0 else f"exit code {status}"
        LOG.warning("%s: the process that read a %s file was ended (%s, %s)", name, suffix, reason, ended)
        if reason == "gone":
            return RefusedError(GONE, "The client is gone.")
        if reason == "memory":
            return RefusedError(422, f"The file could not be read within {self.limits.reader_mb:,.0f} megabytes.")
        if reason == "time":
            return RefusedError(422, f"The file could not be read within {self.limits.reader_seconds:g} seconds.")
        return RefusedError(422, "The file ended the process that read it; it is damaged, or made to do so.")


def _refusal(name: str, suffix: str, head: dict[str, Any]) -> Exception:
    """What the process said of a file that it could not encode."""
    trace = str(head.get("trace") or head.get("failed") or "")
    if trace:
        LOG.error("%s: a %s file was not read:\n%s", name, suffix, trace)
    if "failed" in head:
        return RuntimeError("what reads such files is missing")
    return RefusedError(
        413 if head.get("status") == 413 else 415 if head.get("status") == 415 else 422, str(head["reason"])
    )


def _samples(head: dict[str, Any], content: bytes) -> list[Encoded]:
    """The samples of an answer, which may come from a process that a file has taken over."""
    with suppress(SafetensorError, KeyError, TypeError, ValueError):
        tensors = load(content)
        found = zip(head["fields"], head["extents"], strict=True)
        return [
            ({str(name): tensors[f"{at}.{name}"] for name in fields}, _extents(extents))
            for at, (fields, extents) in enumerate(found)
        ]
    raise RefusedError(422, "The file ended the process that read it; it is damaged, or made to do so.")


def _extents(found: Any) -> list[Any]:
    """Shapes, as ``Task.extents`` gives them."""
    return [[tuple(int(size) for size in shape) for shape in column] for column in found]
