"""TaskPool: one backbone in memory, many tasks on it, one pass for a batch that mixes them."""

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metatx.adapters.batched import FixedAdapter, MixedAdapter
from metatx.backbone.base import Backbone
from metatx.disk.task_files import content_of
from metatx.errors import ChangedError, SampleError
from metatx.pool.memory import size_of, trim_heap
from metatx.pool.requests import ANSWERS, OutputKind, Request, ResidentTask, grouped, tokenized
from metatx.registry import unknown
from metatx.sequence import TokenSequence, concatenate, divide, joined
from metatx.storage.folder import check, describe
from metatx.storage.hub import task_folder
from metatx.task import Task

__all__ = ["OutputKind", "PooledTask", "Request", "TaskPool"]


@dataclass(frozen=True, kw_only=True)
class PooledTask:
    """What a pool knows of one of its tasks.

    Attributes:
        name: In the pool.
        folder: It is loaded from; None if it was given as an object.
        modality: Name of its tokenizer.
        head: Name of its head.
        tune: What of the backbone is its own, as in ``Task.tune``.
        loaded: Whether its weights are in memory.
        pinned: Whether they stay there.
        bytes: That they take while loaded; the backbone is not counted.
        answered: Requests so far.
    """

    name: str
    folder: Path | None
    modality: str
    head: str
    tune: str
    loaded: bool
    pinned: bool
    bytes: int
    answered: int


# By these names, for inside the pool ``tasks`` is its method.
Answers = list[Any]
Vectors = list[np.ndarray]
PooledTasks = list[PooledTask]


@dataclass(eq=False)
class _Slot:
    """A task's place in the pool; ``loaded`` comes and goes."""

    folder: Path | None
    modality: str
    head: str
    tune: str
    pinned: bool
    content: str | None
    loaded: ResidentTask | None = None


class TaskPool:
    """Tasks that share one backbone.

    Tasks given as folders are checked at once and loaded when they are first asked. All methods may be called from any
    thread. It computes in the backbone's own precision (fp32), whatever the tasks' settings say.

    Args:
        backbone: What ``load_backbone`` gave; a task of another one is refused.
        memory_mb: For the weights of tasks, in 10^6 bytes; beyond it those least recently used are dropped, to be
            loaded again from their folder. Pinned tasks, objects and what requests still hold stay. None: no bound.

    Example:
        >>> import pandas as pd
        >>> sizes = pd.DataFrame({"size": [1.0, 2.0, 8.0, 9.0] * 8, "kind": ["small", "small", "large", "large"] * 8})
        >>> pool = metatx.TaskPool(metatx.load_backbone("nano"))
        >>> task = metatx.Task.from_data(pool.backbone, "tabular", sizes, target="kind")
        >>> pool.add("sizes", task.fit(sizes, epochs=10, lr=1e-2))
        >>> pool.predict([("sizes", {"size": 1.5})])[0] == "small"
        True
    """

    def __init__(self, backbone: Backbone, *, memory_mb: float | None = None) -> None:
        if memory_mb is not None and memory_mb <= 0:
            raise ValueError(f"memory_mb is {memory_mb}; it must be above 0, or None for no bound.")
        self.backbone = backbone
        self.memory_mb = memory_mb
        self._fingerprint = backbone.fingerprint  # once: to hash a large backbone takes longer than to load a task
        self._entries: OrderedDict[str, _Slot] = OrderedDict()  # least recently used first
        self._answered: Counter[str] = Counter()
        self._lock = threading.Lock()  # held for moments, to look things up and to change them
        self._loading = threading.Lock()  # held while a task is read from disk, so that none is read twice

    # Tasks come and go

    def add(self, name: str, task: Task | str | Path, *, pinned: bool = False, content: str | None = None) -> None:
        """Take in a task, its folder or its name on the hub (``hf:user/task``); config and backbone are checked.

        Args:
            name: By which it is asked.
            task: Its weights are loaded when they are first needed; a pinned one's now.
            pinned: Never dropped to save memory.
            content: Of its files, as ``content_of`` gives it, where they must not change: others are refused,
                also when they are loaded again after they were dropped.

        Raises:
            ValueError: If the name is taken, or the task has a backbone of its own.
            FileNotFoundError: If there is no such folder.
            TaskError: If the folder is damaged, or the task was trained on another backbone.
        """
        self._check_free(name)
        entry = self._entry(name, task, pinned, content)
        if pinned and entry.loaded is None:
            entry.loaded = self._read_task(name, entry)
        with self._lock:
            self._check_free(name)
            self._entries[name] = entry
        self._make_room()

    def remove(self, name: str) -> None:
        """Drop a task; requests that are prepared are still answered. Raises ValueError if there is none."""
        with self._lock:
            self._get(name)
            del self._entries[name], self._answered[name]
        trim_heap()

    def reload(self, name: str, task: Task | str | Path | None = None) -> None:
        """Put a task in the place of one, at once and wholly loaded; requests prepared before finish on the old one.

        Args:
            name: In the pool.
            task: None: the folder the old one came from, read again.

        Raises:
            ValueError, FileNotFoundError, TaskError: As ``add``, or if there is nothing to reload; the old one stays.
        """
        with self._lock:
            old = self._get(name)
        source = old.folder if task is None else task
        if source is None:
            raise ValueError(f"Task {name!r} was given as an object; give the task or folder to put in its place.")
        entry = self._entry(name, source, old.pinned, None)
        entry.loaded = entry.loaded or self._read_task(name, entry)
        with self._lock:
            self._get(name)
            self._entries[name] = entry
        self._make_room()
        trim_heap()

    def task(self, name: str) -> Task:
        """The task of this name, loaded if it was not. Raises ValueError if there is none, TaskError if damaged."""
        return self.loaded(name).task

    def loaded(self, name: str) -> ResidentTask:
        """The task as requests hold it, most recently used from now on; raises as ``task``."""
        with self._lock:
            entry = self._get(name)
            self._entries.move_to_end(name)
            loaded = entry.loaded
        if loaded is not None:
            return loaded
        with self._loading:
            loaded = entry.loaded or self._read_task(name, entry)
            with self._lock:
                entry.loaded = loaded
        self._make_room()
        return loaded

    # Answers

    def predict(self, requests: Sequence[tuple[str, Any]]) -> Answers:
        """OutputKind ``(task name, raw sample)`` pairs in one pass through the backbone; answers in their order.

        Raises:
            ValueError: If a task is unknown, or there is no request.
            SampleError: If a sample cannot be used; names which.
            TaskError: If a task turns out to be damaged.
        """
        return self._answer_all(requests, "predict")

    def embed(self, requests: Sequence[tuple[str, Any]]) -> Vectors:
        """The mean of each sample's tokens behind the backbone (D,), float32; raises as ``predict``."""
        return self._answer_all(requests, "embed")

    def prepare(self, name: str, sample: Any, answer: OutputKind = "predict") -> Request:
        """The first half of ``predict``, ``embed`` and, for JSON-able rows, ``records``: from a raw sample to tokens.

        Raises:
            ValueError, SampleError, TaskError: As ``predict``.
        """
        return self._prepare(name, [sample], [0], answer)

    def answer(self, requests: Sequence[Request]) -> Answers:
        """The second half: one pass through the backbone for all requests, whatever they ask for.

        Raises:
            SampleError: If an answer is no finite number.
        """
        return _all_good(self.outcomes(requests))

    def outcomes(self, requests: Sequence[Request]) -> Answers:
        """As ``answer``, but for one that is no finite number its SampleError: it spoils no other of the pass."""
        return [answer for answers in self._run(requests) for answer in answers]

    def tasks(self) -> PooledTasks:
        """The tasks, by name."""
        with self._lock:
            entries, answered = dict(self._entries), dict(self._answered)
        return [
            PooledTask(
                name=name,
                folder=entry.folder,
                modality=entry.modality,
                head=entry.head,
                tune=entry.tune,
                loaded=entry.loaded is not None,
                pinned=entry.pinned,
                bytes=0 if entry.loaded is None else entry.loaded.bytes,
                answered=answered.get(name, 0),
            )
            for name, entry in sorted(entries.items())
        ]

    # Inside

    def _answer_all(self, asked: Sequence[tuple[str, Any]], answer: OutputKind) -> Answers:
        if not asked:
            raise ValueError("There is nothing to predict.")
        positions: dict[str, Answers] = {}
        for position, (name, _) in enumerate(asked):
            positions.setdefault(name, []).append(position)
        # A task's samples are made tokens together, which for short ones takes a fraction of the time.
        requests = [self._prepare(name, [asked[p][1] for p in own], own, answer) for name, own in positions.items()]
        answers: Answers = [None] * len(asked)
        for own, found in zip(positions.values(), self._run(requests), strict=True):
            for position, value in zip(own, found, strict=True):
                answers[position] = value
        return _all_good(answers)

    def _prepare(self, name: str, samples: Answers, positions: Sequence[int], answer: OutputKind) -> Request:
        if answer not in ANSWERS:
            raise ValueError(unknown("kind of answer", answer, list(ANSWERS)))
        return self.loaded(name).prepare(name, samples, positions, answer)

    @torch.no_grad()
    def _run(self, requests: Sequence[Request]) -> Sequence[Answers]:
        """One pass; the answers of each request."""
        if not requests:
            return []
        # Heads take all that one task has to answer together; tasks with adapters lie side by side, so that these can
        # be multiplied together.
        groups = grouped(tokenized(requests))
        firsts = [group[0].request for group in groups]
        sequences = [joined([part.sequence for part in group]) for group in groups]
        answers: dict[int, Answers] = {}
        for group, first, sequence in zip(groups, firsts, self._read(firsts, sequences), strict=True):
            indices = [index for part in group for index in part.indices]
            extents = [list(chain(*own)) for own in zip(*(requests[index].extents for index in indices), strict=True)]
            made = iter(first.answers(sequence, extents))
            for index in indices:
                answers[index] = list(islice(made, requests[index].samples))
        with self._lock:
            for request in requests:
                self._answered[request.name] += request.samples
        return [answers[index] for index in range(len(requests))]

    def _read(self, firsts: Sequence[Request], sequences: Sequence[TokenSequence]) -> Iterator[TokenSequence]:
        """What the backbone makes of them with their tasks' adapters, as many layers as each head reads."""
        batch = concatenate(sequences)
        layers = [1 if first.answer == "embed" else first.loaded.task.head.layers for first in firsts]
        owners = [first.loaded.adapter for first, own in zip(firsts, sequences, strict=True) for _ in own.lengths]
        mixed = MixedAdapter(owners) if any(owners) else None
        outputs = divide(self.backbone(batch, layers=max(layers), adapter=mixed), sequences)
        for output, depth in zip(outputs, layers, strict=True):
            yield output.with_embeddings(output.embeddings[:, -self.backbone.width(depth) :])

    def _get(self, name: str) -> _Slot:
        if name not in self._entries:
            raise ValueError(unknown("task", name, sorted(self._entries)))
        return self._entries[name]

    def _check_free(self, name: str) -> None:
        if name in self._entries:
            raise ValueError(f"The pool has a task {name!r} already.")

    def _entry(self, name: str, task: Task | str | Path, pinned: bool, content: str | None) -> _Slot:
        if isinstance(task, Task):
            if not task.backbone.frozen:
                raise ValueError(f"Task {name!r} has a backbone of its own (tune {task.tune}), which cannot be shared.")
            if task.backbone is not self.backbone:
                raise ValueError(
                    f"Task {name!r} stands on another backbone object; load it with backbone=pool.backbone."
                )
            ready = self._ready(task.eval())
            return _Slot(None, task.tokenizer.name, task.head.name, task.tune, pinned, None, ready)
        folder = task_folder(task)
        config = describe(folder)
        check(config, folder, self.backbone, self._fingerprint)
        return _Slot(folder, config["tokenizer"]["name"], config["head"]["name"], config["tune"], pinned, content)

    def _ready(self, task: Task) -> ResidentTask:
        adapter = None if task.adapter is None else FixedAdapter(task.adapter, self.backbone)
        return ResidentTask(task, adapter, size_of(task.model.state_dict().values()), self.backbone.num_prefix_tokens)

    def _read_task(self, name: str, entry: _Slot) -> ResidentTask:
        assert entry.folder is not None
        if not entry.folder.exists():
            raise ChangedError(f"The folder of task {name!r} is gone, so it cannot be loaded again.")
        if entry.content is not None and entry.content != content_of(entry.folder):
            raise ChangedError(f"{name} changed on disk, but versions never change; save another version.")
        return self._ready(Task.from_folder(entry.folder, self.backbone, self._fingerprint))

    def _make_room(self) -> None:
        """Drop what was least recently used, until the rest fits; the latest stays in any case."""
        if self.memory_mb is None:
            return
        dropped = False
        with self._lock:
            held = {name: entry.loaded.bytes for name, entry in self._entries.items() if entry.loaded is not None}
            excess = sum(held.values()) - self.memory_mb * 1e6
            for name in list(held)[:-1]:
                entry = self._entries[name]
                if excess > 0 and not entry.pinned and entry.folder is not None:
                    entry.loaded, dropped = None, True
                    excess -= held[name]
        if dropped:
            trim_heap()


def _all_good(outcomes: Answers) -> Answers:
    for outcome in outcomes:
        if isinstance(outcome, SampleError):
            raise outcome
    return outcomes
