"""Base class of objectives: the losses whose weighted sum pretraining makes smaller."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from metatx.component import Component

if TYPE_CHECKING:
    from metatx.pretraining.alignment import Alignment
    from metatx.pretraining.batch import Batch
    from metatx.pretraining.negatives import Compared

__all__ = ["Objective"]


class Objective(Component):
    """Base class of objectives. A subclass writes ``compare``, or ``prepare`` and ``forward``.

    One that ``compares`` reads the vectors of all pairs of a step at once, and has one value for all processes. Any
    other reads tokens: it is called for each micro-batch, with gradients, and gives the mean of what each pair costs,
    so that the sum over micro-batches and processes is the loss of the whole batch. What it trains is needed in
    pretraining only: it is kept in the checkpoint of a run, and not saved with the alignment. ``Component`` explains
    options.

    Args:
        dim: Width of the backbone, D.

    Attributes:
        compares: True if ``compare`` is the loss, False if ``forward`` is.
        reads_negatives: True if ``forward`` reads the samples of other pairs, see ``Compared``.

    Example:
        >>> objective = metatx.create("objectives", "matching", 192, hard=False)
        >>> isinstance(objective, metatx.Objective), objective.compares
        (True, False)
    """

    compares: ClassVar[bool] = False
    reads_negatives: ClassVar[bool] = False

    def prepare(self, alignment: "Alignment", sample: Mapping[str, dict[str, Any]], seed: int) -> None:
        """Make the layers; called once, before the first step and before a checkpoint is read.

        Args:
            alignment: Alignment as it is before training.
            sample: Collated tensors of the first pair, by modality.
            seed: Seed of what the objective draws in training.

        Raises:
            ValueError: If the objective cannot be computed for these modalities.
        """

    def facts(self) -> dict[str, Any]:
        """Facts that a resumed run must share, by their names in messages; called after ``prepare``."""
        return {}

    def compare(self, alignment: "Alignment", left: Tensor, right: Tensor, same: Tensor) -> Tensor:
        """Return the loss of N pairs, a scalar.

        Args:
            alignment: Alignment that is trained.
            left: Unit vectors (N, E) of the left sides.
            right: Unit vectors (N, E) of the right sides.
            same: Pairs that belong together, bool (N, N), as ``matches`` gives them.
        """
        raise NotImplementedError(f"{type(self).__name__} has no compare(alignment, left, right, same).")

    def forward(self, alignment: "Alignment", batch: "Batch", compared: "Compared") -> Tensor:
        """Return the loss of a micro-batch, a scalar: the mean over its pairs.

        Args:
            alignment: Alignment that is trained.
            batch: Micro-batch. What is drawn for a pair depends on the seed, the number of the step and the pair's
                position alone, so that it does not depend on how a batch is cut and spread.
            compared: All pairs of the step, of which ``batch`` is a part.
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward(alignment, batch, compared).")
