"""Share of one process in one step of pretraining."""

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from metatx.pretraining.paired_data import part_of

__all__ = ["Batch"]


@dataclass(frozen=True)
class Batch:
    """The share of one process in one step: n pairs, the number of the step, its patch dropout."""

    sides: dict[str, Any]
    keys: Tensor  # int64 (K, n)
    positions: Tensor  # int64 (n,)
    number: int  # of the step, from 0
    dropout: float
    edges: tuple[tuple[int, int], ...] = ((0, 1),)  # sides that are compared

    def part(self, rows: slice) -> "Batch":
        return replace(self, sides=part_of(self.sides, rows), keys=self.keys[:, rows], positions=self.positions[rows])

    def split(self, size: int) -> "list[Batch]":
        return [self.part(slice(at, at + size)) for at in range(0, len(self.positions), size)]
