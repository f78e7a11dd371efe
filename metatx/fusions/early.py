"""Early fusion: inputs meet from the first block on."""

from metatx.fusion import Fusion

__all__ = ["EarlyFusion"]


class EarlyFusion(Fusion):
    """All inputs of a sample are one sequence for the backbone (VisualBERT, arXiv 1908.03557; ViLT, 2102.03334)."""

    joins = True
    fuse_at = 0
