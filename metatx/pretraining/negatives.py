"""Pairs that are compared in a step, and the drawing of negatives among them."""

from dataclasses import dataclass
from typing import Any, Self

import torch
from accelerate.utils import gather_object
from torch import Tensor

from metatx.encoding.collate import collate, to_device
from metatx.pretraining.batch import Batch
from metatx.pretraining.paired_data import part_of

__all__ = ["Compared", "draw_negatives"]


@dataclass(frozen=True)
class Compared:
    """The N pairs of all processes that are compared with each other in a step, by ascending position.

    Attributes:
        positions: Positions of the pairs, int64 (N,), on the CPU.
        logits: Scaled cosines of left (rows) and right sides, (N, N), on the CPU, without gradient.
        same: Pairs that belong together, bool (N, N), on the CPU.
        samples: Encoded samples of each modality, N dicts of tensors; empty if no objective reads them.
    """

    positions: Tensor
    logits: Tensor
    same: Tensor
    samples: dict[str, list[dict[str, Tensor]]]

    @classmethod
    def of(cls, parts: list[Batch], positions: Tensor, logits: Tensor, same: Tensor, *, samples: bool) -> Self:
        """Sort the pairs by position, so that what is drawn does not depend on how they are cut and spread.

        Args:
            parts: Micro-batches of this process.
            positions: Positions of the pairs of all processes, (N,), in the order of ``logits``.
            logits: Scaled cosines, (N, N).
            same: Pairs that belong together, bool (N, N).
            samples: True collects the encoded samples, from all processes.
        """
        order = positions.cpu().argsort()
        collected: dict[str, list[dict[str, Tensor]]] = {}
        for modality in parts[0].sides if samples else ():
            local = [part_of(part.sides[modality], row) for part in parts for row in range(len(part.positions))]
            gathered = gather_object([to_device(sample, torch.device("cpu")) for sample in local])
            collected[modality] = [gathered[row] for row in order.tolist()]
        square = (order[:, None], order)
        return cls(positions.cpu()[order], logits.detach().float().cpu()[square], same.cpu()[square], collected)

    def rows(self, batch: Batch) -> Tensor:
        """Numbers of the pairs of a micro-batch among the N, int64 (n,)."""
        return torch.searchsorted(self.positions, batch.positions.cpu())

    def collated(self, modality: str, rows: Tensor, device: torch.device) -> dict[str, Any]:
        """Collated tensors of the samples of a modality with these numbers, on a device."""
        fields: dict[str, Any] = to_device(collate([self.samples[modality][row] for row in rows.tolist()]), device)
        return fields


def draw_negatives(logits: Tensor, same: Tensor, generator: torch.Generator) -> Tensor:
    """Draw for each row a column that does not belong to it, with the probability of its softmax: int64 (N,).

    Args:
        logits: Logits of the columns, (N, N).
        same: Pairs that belong together, bool (N, N), which are never drawn.
        generator: Source of the randomness.

    Returns:
        Numbers of columns; -1 where all columns belong to the row.
    """
    lonely = same.all(1)
    weights = logits.masked_fill(same, -torch.inf).masked_fill(lonely[:, None], 0.0).softmax(1)
    # A weight that underflows to zero must not leave a row without any: the largest of each row is far above.
    drawn = torch.multinomial(weights, 1, generator=generator).flatten()
    return drawn.masked_fill(lonely, -1)
