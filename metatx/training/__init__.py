"""The training of one task: loop, checkpoints, frozen features, processes."""

from metatx.training.loop import evaluate, loader, measure, train

__all__ = ["evaluate", "loader", "measure", "train"]
