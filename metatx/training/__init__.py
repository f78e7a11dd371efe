"""Training of one task: loop, checkpoints, cached features, processes."""

from metatx.training.loop import train
from metatx.training.measuring import evaluate, measure

__all__ = ["evaluate", "measure", "train"]
