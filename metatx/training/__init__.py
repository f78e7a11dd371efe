"""The training of one task: loop, checkpoints, frozen features, processes."""

from metatx.training.loop import train
from metatx.training.measuring import evaluate, measure

__all__ = ["evaluate", "measure", "train"]
