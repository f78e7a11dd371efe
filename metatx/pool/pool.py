"""Pool of tasks on one backbone in memory; a batch that mixes tasks takes one pass."""

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metatx.adapters.batched import FixedAdapter, MixedAdapter
from metatx.backbone.base import Backbone, check_backbone
from metatx.backbone.exchange import MixedExchange
from metatx.backbone.names import Precision
from metatx.backbone.precision import set_precision
from metatx.disk.task_files import content_of
from metatx.errors import ChangedError, SampleError
from metatx.inputs.inputs import Inputs
from metatx.inputs.through import Others, backbones_by_name
from metatx.pool.memory import size_of, trim_heap
from metatx.pool.requests import ANSWERS, OutputKind, Request, ResidentTask, TokenBatch, grouped, tokenized
from metatx.registry import unknown
from metatx.sequence import TokenSequence, concatenate, divide
from metatx.storage.folder import check, describe, modalities, read
from metatx.storage.hub import task_folder
from metatx.task import Task

__all__ = ["OutputKind", "PooledTask", "Request", "TaskPool"]


@dataclass(frozen=True, kw_only=True)
class PooledTask:
    """Description of a task in a pool.

    Attributes:
        name: Name in the pool.
        folder: Folder that the task is loaded from; None if it was given as an object.
        modality: Name of the tokenizer; of several inputs, those of all tokenizers with commas.
        inputs: Modality of each input by its name; empty for a task of one modality.
        head: Name of the head.
        tune: Tier of tuning, as in ``Task.tune``.
        loaded: True if the task's weights are in memory.
        pinned: True if the weights stay in memory.
        bytes: Bytes of the weights while they are loaded, else 0; the backbone is not counted.
        answered: Number of samples answered so far.
    """

    name: str
    folder: Path | None
    modality: str
    inputs: Mapping[str, str]
    head: str
    tune: str
    loaded: bool
    pinned: bool
    bytes: int
    answered: int


Answers = list[Any]
Vectors = list[np.ndarray]
PooledTasks = list[PooledTask]


@dataclass(eq=False)
class _Slot:
    """Place of a task in the pool; ``loaded`` is None while its weights are not in memory."""

    folder: Path | None
    modality: str
    inputs: Mapping[str, str]
    head: str
    tune: str
    pinned: bool
    content: str | None
    loaded: ResidentTask | None = None


class TaskPool:
    """Pool of tasks that share one backbone.

    Tasks given as folders are checked at once and loaded when they are first used. All methods may be called from any
    thread. The pool computes in the backbone's precision (fp32 by default), whatever the tasks' settings say.

    Args:
        backbone: Backbone from ``load_backbone``; tasks of another backbone are refused.
        others: Backbones that read inputs of some tasks first, as ``TaskSpec`` takes them; tasks of yet others are
            refused.
        memory_mb: Memory for the weights of tasks, in 10^6 bytes. Beyond it, the least recently used tasks are dropped
            and loaded again when they are needed. Pinned tasks, tasks given as objects, and tasks that requests hold
            stay. None: no bound.
        precision: Precision that the backbones get, for all that use them, see ``load_backbone``; None: as they are.

    Example:
        >>> import pandas as pd
        >>> sizes = pd.DataFrame({"size": [1.0, 2.0, 8.0, 9.0] * 8, "kind": ["small", "small", "large", "large"] * 8})
        >>> pool = metatx.TaskPool(metatx.load_backbone("nano"))
        >>> task = metatx.Task.from_data(pool.backbone, "tabular", sizes, target="kind")
        >>> pool.add("sizes", task.fit(sizes, epochs=10, lr=1e-2))
        >>> pool.predict([("sizes", {"size": 1.5})])[0] == "small"
        True
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        others: Others = None,
        memory_mb: float | None = None,
        precision: Precision | None = None,
    ) -> None:
        if memory_mb is not None and memory_mb <= 0:
            raise ValueError(f"memory_mb is {memory_mb}; it must be above 0, or None for no bound.")
        check_backbone(backbone)
        self.backbone = backbone
        self.memory_mb = memory_mb
        self._fingerprint = backbone.fingerprint  # once: hashing a large backbone takes longer than loading a task
        self._others = {other.fingerprint: other.to(backbone.device) for other in backbones_by_name(others).values()}
        for each in (backbone, *self._others.values()) if precision else ():
            set_precision(each, precision)
        self._entries: OrderedDict[str, _Slot] = OrderedDict()  # least recently used first
        self._answered: Counter[str] = Counter()
        self._lock = threading.Lock()  # protects the dicts; held only for lookups and changes
        self._loading = threading.Lock()  # held while a task is read from disk, so that none is read twice

    def __repr__(self) -> str:
        return f"TaskPool({self.backbone!r}, tasks={[task.name for task in self.tasks()]}, memory_mb={self.memory_mb})"

    # Adding and removing tasks

    def add(self, name: str, task: Task | str | Path, *, pinned: bool = False, content: str | None = None) -> None:
        """Add a task, after a check of its config and backbone.

        Args:
            name: Name of the task in the pool.
            task: Task, its folder, or its name on the hub (``hf:user/task``). Weights of a folder are loaded when they
                are first needed, or now if the task is pinned.
            pinned: Never drop the task to save memory.
            content: Hash of the task's files from ``content_of``. Files with another hash are refused whenever they
                are loaded. None: the files may change.

        Raises:
            ValueError: If the name is taken, or the task has its own backbone.
            FileNotFoundError: If the folder does not exist.
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
        """Remove a task; requests that are prepared are still answered. Raises ValueError if there is no such task."""
        with self._lock:
            self._get(name)
            del self._entries[name], self._answered[name]
        trim_heap()

    def reload(self, name: str, task: Task | str | Path | None = None) -> None:
        """Replace a task by a loaded one, at once; requests prepared before are answered by the old one.

        Args:
            name: Name of the task in the pool.
            task: New task, its folder or its name on the hub; by default the folder of the old one is read again.

        Raises:
            ValueError, FileNotFoundError, TaskError: If ``add`` raises it, or the old task has no folder.
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
        """Return the task of this name, loaded. Raises ValueError if there is none, TaskError if it is damaged."""
        return self.loaded(name).task

    def loaded(self, name: str) -> ResidentTask:
        """Return the task as requests hold it, and mark it as used. Raises the errors of ``task``."""
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
        """Answer ``(task name, raw sample)`` pairs in one pass through the backbone, in their order.

        Raises:
            ValueError: If a task is unknown, or there is no request.
            SampleError: If a sample cannot be used; names which.
            TaskError: If a task turns out to be damaged.
        """
        return self._answer_all(requests, "predict")

    def embed(self, requests: Sequence[tuple[str, Any]]) -> Vectors:
        """Return the mean of each sample's output tokens, (D,) float32. Raises the errors of ``predict``."""
        return self._answer_all(requests, "embed")

    def prepare(self, name: str, sample: Any, answer: OutputKind = "predict") -> Request:
        """Turn a raw sample into a request, the first half of ``predict`` and ``embed``.

        Args:
            name: Name of the task.
            sample: Raw sample.
            answer: Kind of answer: ``"predict"``, ``"embed"``, or ``"records"`` for JSON-able rows.

        Raises:
            ValueError, SampleError, TaskError: If ``predict`` raises it.
        """
        return self._prepare(name, [sample], [0], answer)

    def answer(self, requests: Sequence[Request]) -> Answers:
        """Answer requests of any kinds in one pass through the backbone, the second half of ``predict``.

        Raises:
            SampleError: If an answer is no finite number.
        """
        return _all_good(self.outcomes(requests))

    def outcomes(self, requests: Sequence[Request]) -> Answers:
        """Answer requests as ``answer`` does, but return the SampleError of an answer instead of raising it."""
        return [answer for answers in self._run(requests) for answer in answers]

    def tasks(self) -> PooledTasks:
        """Describe all tasks, sorted by name."""
        with self._lock:
            entries = dict(self._entries)
            answered = dict(self._answered)
        return [
            PooledTask(
                name=name,
                folder=entry.folder,
                modality=", ".join(dict.fromkeys(entry.inputs.values())) or entry.modality,
                inputs=entry.inputs,
                head=entry.head,
                tune=entry.tune,
                loaded=entry.loaded is not None,
                pinned=entry.pinned,
                bytes=0 if entry.loaded is None else entry.loaded.bytes,
                answered=answered.get(name, 0),
            )
            for name, entry in sorted(entries.items())
        ]

    # Implementation

    def _answer_all(self, pairs: Sequence[tuple[str, Any]], answer: OutputKind) -> Answers:
        if not pairs:
            raise ValueError("There is nothing to predict.")
        by_task: dict[str, list[int]] = {}
        for position, (name, _) in enumerate(pairs):
            by_task.setdefault(name, []).append(position)
        # A task's samples are tokenized together, which for short ones takes a fraction of the time.
        requests = [
            self._prepare(name, [pairs[position][1] for position in positions], positions, answer)
            for name, positions in by_task.items()
        ]
        answers: Answers = [None] * len(pairs)
        for positions, answers_of_task in zip(by_task.values(), self._run(requests), strict=True):
            for position, value in zip(positions, answers_of_task, strict=True):
                answers[position] = value
        return _all_good(answers)

    def _prepare(self, name: str, samples: Answers, positions: Sequence[int], answer: OutputKind) -> Request:
        if answer not in ANSWERS:
            raise ValueError(unknown("kind of answer", answer, list(ANSWERS)))
        return self.loaded(name).prepare(name, samples, positions, answer)

    @torch.no_grad()
    def _run(self, requests: Sequence[Request]) -> Sequence[Answers]:
        """Run one pass and return the answers of each request."""
        if not requests:
            return []
        groups = grouped(tokenized(requests))
        answers: dict[int, Answers] = {}
        for group, sequence in zip(groups, self._read(groups), strict=True):
            answers.update(zip(group.indices, group.answers(sequence), strict=True))
        with self._lock:
            for request in requests:
                self._answered[request.name] += request.samples
        return [answers[index] for index in range(len(requests))]

    def _read(self, groups: Sequence[TokenBatch]) -> Iterator[TokenSequence]:
        """Read what each head reads of the backbone; sequences that are continued stay, until the backbone writes."""
        passing = [group for group in groups if not group.requests[0].continues]
        read = self._passed(passing) if passing else iter(())
        for group in groups:
            yield group.sequence if group.requests[0].continues else next(read)

    def _passed(self, groups: Sequence[TokenBatch]) -> Iterator[TokenSequence]:
        firsts = [group.requests[0] for group in groups]
        sequences = [group.sequence for group in groups]
        layers = [1 if first.answer == "embed" else first.loaded.task.head.layers for first in firsts]
        adapters = [adapter for group in groups for adapter in group.adapters]
        mixed = MixedAdapter(adapters) if any(adapters) else None
        exchange = MixedExchange.of([first.loaded.task.model.fusion for first in firsts], sequences)
        batch = concatenate(sequences)
        outputs = divide(self.backbone(batch, layers=max(layers), adapter=mixed, exchange=exchange), sequences)
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
                raise ValueError(f"Task {name!r} has its own backbone (tune {task.tune}), which cannot be shared.")
            if task.backbone is not self.backbone:
                raise ValueError(f"Task {name!r} has another backbone object; load it with backbone=pool.backbone.")
            if not {id(other) for other in task.model.others} <= {id(other) for other in self._others.values()}:
                raise ValueError(f"Inputs of task {name!r} are read by a backbone that is not among the pool's others.")
            task.model.eval()
            ready = self._ready(task)
            tokenizer = task.tokenizer
            inputs = {}
            if isinstance(tokenizer, Inputs):
                inputs = {input: part.modality for input, part in tokenizer.inputs.items()}
            return _Slot(None, tokenizer.name, inputs, task.head.name, task.tune, pinned, None, ready)
        folder = task_folder(task)
        config = describe(folder)
        check(config, folder, self.backbone, self._fingerprint, self._others)
        kind = config["tokenizer"]["name"]
        return _Slot(folder, kind, modalities(config, folder), config["head"]["name"], config["tune"], pinned, content)

    def _ready(self, task: Task) -> ResidentTask:
        adapter = None if task.adapter is None else FixedAdapter(task.adapter, self.backbone)
        return ResidentTask(task, adapter, size_of(task.model.state_dict().values()), self.backbone.num_prefix_tokens)

    def _read_task(self, name: str, entry: _Slot) -> ResidentTask:
        assert entry.folder is not None
        if not entry.folder.exists():
            raise ChangedError(f"The folder of task {name!r} is gone, so it cannot be loaded again.")
        if entry.content is not None and entry.content != content_of(entry.folder):
            raise ChangedError(f"{name} changed on disk, but a version must not change; save another version.")
        return self._ready(Task.of_record(*read(entry.folder, self.backbone, self._fingerprint, self._others)))

    def _make_room(self) -> None:
        """Drop the least recently used tasks until the rest fits; the most recently used task always stays."""
        if self.memory_mb is None:
            return
        with self._lock:
            sizes = {name: entry.loaded.bytes for name, entry in self._entries.items() if entry.loaded is not None}
            before = excess = sum(sizes.values()) - self.memory_mb * 1e6
            for name in list(sizes)[:-1]:
                entry = self._entries[name]
                if excess > 0 and not entry.pinned and entry.folder is not None:
                    entry.loaded = None
                    excess -= sizes[name]
        if excess < before:
            trim_heap()


def _all_good(outcomes: Answers) -> Answers:
    for outcome in outcomes:
        if isinstance(outcome, SampleError):
            raise outcome
    return outcomes
