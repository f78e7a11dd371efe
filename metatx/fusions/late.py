"""Late fusion: inputs meet behind the backbone."""

from metatx.fusion import Fusion

__all__ = ["LateFusion"]


class LateFusion(Fusion):
    """Each input goes through the backbone alone; what is pooled of them is fused, see ``Fusion``."""
