"""Several sets of pairs, which the steps of a run take in turn."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metatx.pretraining.paired_data import PairedDataset

__all__ = ["NoPairs", "PairSets"]


class PairSets(torch.utils.data.Dataset[Any]):
    """Sets of pairs one after the other, with the batches of ``PairedDataset``; each batch is of one set.

    Args:
        sets: Sets of pairs, of any modalities.
        batch_size: Pairs of one step.
        weights: Share of the steps of an epoch that each set takes, as any positive numbers; by default each takes as
            many as it has whole batches.

    Attributes:
        steps: Number of steps of an epoch that each set takes; their sum is that of the whole batches of all sets,
            apart from rounding. A set with more steps than batches is passed through more than once.

    Raises:
        ValueError: If there is no set, one has fewer pairs than a batch, or there is not a positive weight for each.
    """

    def __init__(self, sets: Sequence[PairedDataset], batch_size: int, weights: Sequence[float] = ()) -> None:
        if not sets:
            raise ValueError("There are no pairs to train on; give one set of pairs or several.")
        small = next((pairs for pairs in sets if len(pairs) < batch_size), None)
        if small is not None:
            raise ValueError(f"A batch of {batch_size} needs as many pairs; there are {len(small)}.")
        if weights and (len(weights) != len(sets) or min(weights) <= 0):
            raise ValueError(
                f"pair_weights is {list(weights)} for {len(sets)} sets of pairs; give a positive number for each."
            )
        self.sets = list(sets)
        self.batch_size = batch_size
        self.starts = np.cumsum([0, *(len(pairs) for pairs in sets)]).tolist()
        self.steps = [len(pairs) // batch_size for pairs in sets]
        if weights:
            total = sum(self.steps)
            self.steps = [max(1, round(total * weight / sum(weights))) for weight in weights]

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def modalities(self) -> list[str]:
        """Modalities of all sets."""
        return list(dict.fromkeys(modality for pairs in self.sets for modality in pairs.sides))

    def start(self, seed: int, epoch: int) -> None:
        """Set the seed and the epoch (from 0) that decide how samples are augmented from now on."""
        for pairs in self.sets:
            pairs.start(seed, epoch)

    def batches(self, seed: int, epoch: int) -> list[list[int]]:
        """Positions of the pairs of each step of an epoch; equal arguments give equal positions.

        The turns of a set are spread evenly over the epoch.
        """
        drawn = [iter(self._of_set(number, seed, epoch)) for number in range(len(self.sets))]
        turns = [((turn + 0.5) / count, number) for number, count in enumerate(self.steps) for turn in range(count)]
        return [next(drawn[number]) for _, number in sorted(turns)]

    def edges(self, positions: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """Pairs of sides that are compared in the batch at ``positions``."""
        return self.sets[self._set_of(positions)].edges

    def batch(self, positions: Sequence[int]) -> tuple[dict[str, dict[str, Any]], Tensor, Tensor]:
        """Batches by modality, keys (K, b) and positions (b,) of the pairs at ``positions``, all of one set."""
        number = self._set_of(positions)
        start = self.starts[number]
        batches, keys, index = self.sets[number].batch([position - start for position in positions])
        return batches, keys, index + start

    __getitems__ = batch  # the hook of torch's loaders

    def _set_of(self, positions: Sequence[int]) -> int:
        return int(np.searchsorted(self.starts, positions[0], side="right")) - 1

    def _of_set(self, number: int, seed: int, epoch: int) -> list[list[int]]:
        """Positions of the pairs of each step that a set takes in an epoch."""
        # The first set is drawn as the only one is, whose numbers then do not depend on how many sets there are.
        rng = np.random.default_rng((seed, epoch, number) if number else (seed, epoch))
        size = self.batch_size
        count = len(self.sets[number])
        batches: list[list[int]] = []
        while len(batches) < self.steps[number]:
            order = (self.starts[number] + rng.permutation(count)).tolist()
            batches += [order[at : at + size] for at in range(0, count // size * size, size)]
        return batches[: self.steps[number]]


class NoPairs(PairSets):
    """Steps without pairs, for a run of tasks alone, with the batches of ``PairSets``, which hold no samples.

    Args:
        steps: Number of steps of an epoch.
        batch_size: Batch size of the settings, of which each process takes its share.

    Raises:
        ValueError: If there is no step.
    """

    def __init__(self, steps: int, batch_size: int) -> None:
        if steps < 1:
            raise ValueError(f"An epoch without pairs has {steps} steps; name at least 1.")
        self.sets = []
        self.batch_size = batch_size
        self.starts = [0]
        self.steps = [steps]

    def batches(self, seed: int, epoch: int) -> list[list[int]]:
        """Number of the step, as often as a batch has places, for each step of an epoch."""
        return [[step] * self.batch_size for step in range(self.steps[0])]

    def edges(self, positions: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """Nothing is compared."""
        return ()

    def batch(self, positions: Sequence[int]) -> tuple[dict[str, dict[str, Any]], Tensor, Tensor]:
        """No modality, keys (0, b), and the positions (b,)."""
        index = torch.as_tensor(positions)
        return {}, index.new_zeros(0, len(index)), index

    __getitems__ = batch  # the hook of torch's loaders
