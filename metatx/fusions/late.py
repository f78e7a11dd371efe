"""Late fusion: inputs meet behind the backbone."""

from metatx.fusion import Fusion

__all__ = ["LateFusion"]


class LateFusion(Fusion):
    """Each input goes through the backbone alone; what is pooled of them is fused, see ``Fusion``."""

    def build(self, inputs: list[str], main: str, depth: int, class_token: bool, pools: bool = True) -> None:
        """Make the layers; none where ``pools`` is False."""
        self.pools = pools
        super().build(inputs, main, depth, class_token)
