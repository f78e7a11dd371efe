"""Store of encoded samples in memory, field by field: small tensors of single samples would take far more memory."""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Block", "Column", "Columns"]

ROWS = 1024  # most samples of a block
BYTES = 64 << 20  # size of a block beyond which it takes no more samples

Sample = dict[str, Tensor]


class Column:
    """One field of several samples, stacked if their shapes are equal, else concatenated.

    Args:
        values: Stacked values (n, ...); or, with ``shapes``, all values concatenated (m,).
        shapes: Shape of each sample's tensor, (n, ndim) int64; None where all are equal.
    """

    def __init__(self, values: Tensor, shapes: Tensor | None = None) -> None:
        self.values = values
        self.shapes = shapes
        self.ends = None if shapes is None else nn.functional.pad(shapes.prod(1).cumsum(0), (1, 0))

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> "Column":
        """Make a column of tensors that have the same dtype and number of dimensions."""
        if all(tensor.shape == tensors[0].shape for tensor in tensors):
            return cls(torch.stack(list(tensors)))
        shapes = torch.tensor([tuple(tensor.shape) for tensor in tensors])
        return cls(torch.cat([tensor.reshape(-1) for tensor in tensors]), shapes)

    def __len__(self) -> int:
        return len(self.values if self.shapes is None else self.shapes)

    def __getitem__(self, at: int) -> Tensor:
        if self.shapes is None or self.ends is None:
            return self.values[at]
        start, end = self.ends[at : at + 2].tolist()
        return self.values[start:end].view(self.shapes[at].tolist())

    @property
    def bytes(self) -> int:
        """Size in bytes."""
        return sum(tensor.nbytes for tensor in (self.values, self.shapes, self.ends) if tensor is not None)

    def feed(self, digest: Any) -> None:
        """Add dtype, shapes and values to a hash."""
        shapes = list(self.values.shape) if self.shapes is None else [tuple(shape) for shape in self.shapes.tolist()]
        digest.update(f"{self.values.dtype}{shapes}".encode())
        digest.update(self.values.detach().cpu().view(-1).view(torch.uint8).numpy().data)


@dataclass(frozen=True)
class Block:
    """Consecutive samples with the same fields.

    Attributes:
        fields: Column of each field, by name.
        targets: Column of the targets.
    """

    fields: dict[str, Column]
    targets: Column

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, at: int) -> tuple[Sample, Tensor]:
        return {name: column[at] for name, column in self.fields.items()}, self.targets[at]

    @property
    def bytes(self) -> int:
        """Size in bytes."""
        return sum(column.bytes for column in (*self.fields.values(), self.targets))


class Columns:
    """Encoded samples and targets in blocks, in the order in which they are added.

    Args:
        room: Most bytes that are kept; further blocks are counted and hashed, but not kept.

    Attributes:
        content: SHA-256 (hex) of all samples and of all targets, kept or not; set by ``finish``.
        added_bytes: Size of all samples and targets that were added, in bytes.
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
        """Add a sample and its target."""
        # Fields in any order make one block: samples read from the disk have theirs sorted by name.
        form = {name: (value.dtype, value.ndim) for name, value in (*sample.items(), ("", target))}
        full = len(self._open) == ROWS or self._open_bytes > BYTES
        if self._open and (full or form != self._form):
            self._close()
        self._form = form
        self._open.append((sample, target))
        taken = sum(tensor.nbytes for tensor in sample.values()) + target.nbytes
        self._open_bytes += taken
        self.added_bytes += taken

    def finish(self) -> None:
        """Close the last block and compute ``content``; nothing may be added afterwards."""
        if self._open:
            self._close()
        self.content = self._hashes[0].hexdigest(), self._hashes[1].hexdigest()
        del self._hashes  # the rest is sent to worker processes, but hashes cannot be pickled

    def _close(self) -> None:
        """Make a block of the samples added last."""
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
        self._open = []
        self._open_bytes = 0

    def get(self, position: int) -> tuple[Sample, Tensor] | None:
        """Sample and target at ``position``, as views; None if they are not kept."""
        number = bisect_right(self.starts, position) - 1
        if number < 0 or position - self.starts[number] >= len(self.blocks[number]):
            return None
        return self.blocks[number][position - self.starts[number]]

    @property
    def whole(self) -> bool:
        """True if all samples are kept."""
        return sum(map(len, self.blocks)) == self.count
