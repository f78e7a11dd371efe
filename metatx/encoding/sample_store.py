"""Encoded samples in memory, field by field: a tensor for each field of each sample costs more than it holds."""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

__all__ = ["Block", "Column", "Columns"]

ROWS = 1024  # of a block, at most
BYTES = 64 << 20  # of a block, from which on it is closed

Sample = dict[str, Tensor]


class Column:
    """One field of some samples: stacked where their shapes agree, end to end where they do not.

    Args:
        values: (n, ...); or, with ``shapes``, all values in a row.
        shapes: Of each sample's tensor, (n, ndim) int64; None where all are alike.
    """

    def __init__(self, values: Tensor, shapes: Tensor | None = None) -> None:
        self.values, self.shapes = values, shapes
        if shapes is not None:
            self.sizes = [tuple(shape) for shape in shapes.tolist()]
            self.ends = [0, *accumulate(shapes.prod(1).tolist())]

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> "Column":
        """The column of tensors with one dtype and one number of dimensions."""
        if all(tensor.shape == tensors[0].shape for tensor in tensors):
            return cls(torch.stack(list(tensors)))
        shapes = torch.tensor([tuple(tensor.shape) for tensor in tensors])
        return cls(torch.cat([tensor.reshape(-1) for tensor in tensors]), shapes)

    def __len__(self) -> int:
        return len(self.values if self.shapes is None else self.shapes)

    def __getitem__(self, at: int) -> Tensor:
        if self.shapes is None:
            return self.values[at]
        return self.values[self.ends[at] : self.ends[at + 1]].view(self.sizes[at])

    @property
    def bytes(self) -> int:
        """What it takes."""
        return self.values.nbytes + (0 if self.shapes is None else self.shapes.nbytes)

    def feed(self, digest: Any) -> None:
        """Give type, shapes and values to a hash."""
        shapes = list(self.values.shape) if self.shapes is None else self.sizes
        digest.update(f"{self.values.dtype}{shapes}".encode())
        digest.update(self.values.detach().cpu().view(-1).view(torch.uint8).numpy().data)


@dataclass(frozen=True)
class Block:
    """Samples that follow each other and have the same fields."""

    fields: dict[str, Column]
    targets: Column

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, at: int) -> tuple[Sample, Tensor]:
        return {name: column[at] for name, column in self.fields.items()}, self.targets[at]

    @property
    def bytes(self) -> int:
        """What it takes."""
        return sum(column.bytes for column in (*self.fields.values(), self.targets))


class Columns:
    """Encoded samples and targets in the order in which they come, the first of them kept as far as there is room.

    Args:
        room: Bytes; the blocks beyond are counted and hashed, and not kept.

    Attributes:
        content: SHA-256 (hex) of all samples, and of all targets, whether kept or not; once all came.
        added_bytes: Bytes of all samples and targets that came.
    """

    content: tuple[str, str]

    def __init__(self, room: int) -> None:
        self.room = room
        self.blocks: list[Block] = []
        self.starts: list[int] = []
        self.count = 0
        self.added_bytes = 0
        self._open: list[tuple[Sample, Tensor]] = []
        self._open_bytes = 0
        self._form: Any = None
        self._hashes = hashlib.sha256(), hashlib.sha256()

    def add(self, sample: Sample, target: Tensor) -> None:
        """Take in one more."""
        form = [(name, value.dtype, value.ndim) for name, value in (*sample.items(), ("", target))]
        full = len(self._open) == ROWS or self._open_bytes > BYTES
        if self._open and (full or form != self._form):
            self._close()
        self._form = form
        self._open.append((sample, target))
        taken = sum(tensor.nbytes for tensor in sample.values()) + target.nbytes
        self._open_bytes += taken
        self.added_bytes += taken

    def finish(self) -> None:
        """Say that no more comes."""
        if self._open:
            self._close()
        self.content = self._hashes[0].hexdigest(), self._hashes[1].hexdigest()
        del self._hashes  # worker processes are sent all the rest, and hashes cannot be

    def _close(self) -> None:
        """Put away what came last."""
        samples, targets = zip(*self._open, strict=True)
        fields = {name: Column.of([sample[name] for sample in samples]) for name in samples[0]}
        block = Block(fields, Column.of(targets))
        for name, column in fields.items():
            self._hashes[0].update(name.encode())
            column.feed(self._hashes[0])
        block.targets.feed(self._hashes[1])
        self.room -= block.bytes
        if self.room > 0:
            self.starts.append(self.count)
            self.blocks.append(block)
        self.count += len(block)
        self._open, self._open_bytes = [], 0

    def get(self, position: int) -> tuple[Sample, Tensor] | None:
        """Sample and target at ``position``, views of what is kept; None where they are not."""
        number = bisect_right(self.starts, position) - 1
        if number < 0 or position - self.starts[number] >= len(self.blocks[number]):
            return None
        return self.blocks[number][position - self.starts[number]]

    @property
    def whole(self) -> bool:
        """Whether all that came is kept."""
        return sum(map(len, self.blocks)) == self.count
