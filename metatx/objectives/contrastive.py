"""Contrastive objective: partners are nearer to one another than to the others of a batch."""

from typing import TYPE_CHECKING

from torch import Tensor

from metatx.objective import Objective

if TYPE_CHECKING:
    from metatx.pretraining.alignment import Alignment

__all__ = ["ContrastiveObjective"]


class ContrastiveObjective(Objective):
    """Each sample finds its partner among all samples of the other side (CLIP, SigLIP): the loss of the alignment."""

    compares = True

    def compare(self, alignment: "Alignment", left: Tensor, right: Tensor, same: Tensor) -> Tensor:
        """Return the alignment's ``ContrastiveLoss``, whose scale is saved with it."""
        loss: Tensor = alignment.contrast(left, right, same)
        return loss
