"""Pretraining of backbone and towers: contrastive objectives, teachers, paired data."""

from metatx.pretraining.loop import PretrainingSettings, pretrain

__all__ = ["PretrainingSettings", "pretrain"]
