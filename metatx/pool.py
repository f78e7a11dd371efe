"""TaskPool: one backbone in memory, many tasks on it, one pass for a batch that mixes them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from metatx.backbone import Backbone
from metatx.collate import collate, to_device
from metatx.registry import unknown
from metatx.sequence import TokenSequence, concatenate, divide
from metatx.task import Task

__all__ = ["TaskPool"]


class TaskPool:
    """Tasks that share one backbone.

    Args:
        backbone: What ``load_backbone`` gave; a task of another one is refused.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.tasks: dict[str, Task] = {}

    def add(self, name: str, task: Task | str | Path) -> None:
        """Take in a task, or the folder of one, or its name on the hub (``user/task``).

        Raises:
            ValueError: If the name is taken, or the task has a backbone of its own.
            TaskError: If the folder is damaged, or the task was trained on another backbone.
        """
        if name in self.tasks:
            raise ValueError(f"The pool has a task {name!r} already.")
        if isinstance(task, Task):
            if not task.backbone.frozen:
                raise ValueError(f"Task {name!r} has a backbone of its own (tune {task.tune}), which cannot be shared.")
            if task.backbone is not self.backbone:
                raise ValueError(
                    f"Task {name!r} stands on another backbone object; load it with backbone=pool.backbone."
                )
            self.tasks[name] = task.eval()
        else:
            self.tasks[name] = Task.from_pretrained(task, backbone=self.backbone)

    @torch.no_grad()
    def predict(self, requests: Sequence[tuple[str, Any]]) -> list[Any]:
        """Answer ``(task name, raw sample)`` pairs; answers in their order.

        All tasks without an adapter share one pass through the backbone; each other one has its own.

        Raises:
            ValueError: If a task is unknown, or there is no request.
            SampleError: If a sample cannot be used; names which.
        """
        if not requests:
            raise ValueError("There is nothing to predict.")
        asked: dict[str, list[int]] = {}
        for position, (name, _) in enumerate(requests):
            if name not in self.tasks:
                raise ValueError(unknown("task", name, list(self.tasks)))
            asked.setdefault(name, []).append(position)
        sequences, queries = {}, {}
        for name, positions in asked.items():
            task = self.tasks[name]
            queries[name] = [task.queries([requests[p][1]])[0] for p in positions]
            encoded = [task.encode_one(query, p) for query, p in zip(queries[name], positions, strict=True)]
            sequences[name] = task.tokens(to_device(collate(encoded), task.device))
        answers: list[Any] = [None] * len(requests)
        for name, sequence in self._read(sequences).items():
            positions = asked[name]
            head, extents = self.tasks[name].head, self.tasks[name].extents(queries[name])
            own = sequence.embeddings[:, -head.layers * self.backbone.dim :]
            decoded = head.decode(head(head.pool(sequence.with_embeddings(own))).float(), *extents)
            plain = decoded.tolist() if decoded.ndim == 1 else list(decoded)
            for position, answer in zip(positions, plain, strict=True):
                answers[position] = answer
        return answers

    def _read(self, sequences: dict[str, TokenSequence]) -> dict[str, TokenSequence]:
        """Tokens by task to what the backbone makes of them with the task's adapter."""
        adapted = [[name] for name in sequences if self.tasks[name].adapter is not None]
        frozen = [name for name in sequences if self.tasks[name].adapter is None]
        outputs: dict[str, TokenSequence] = {}
        for names in [*adapted, *([frozen] if frozen else [])]:
            layers = max(self.tasks[name].head.layers for name in names)
            tokens = [sequences[name] for name in names]
            batch = self.backbone(concatenate(tokens), layers=layers, adapter=self.tasks[names[0]].adapter)
            outputs |= zip(names, divide(batch, tokens), strict=True)
        return outputs
