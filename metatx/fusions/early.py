"""Early fusion: inputs meet from the first block on."""

from metatx.fusion import Fusion

__all__ = ["EarlyFusion"]


class EarlyFusion(Fusion):
    """All inputs of a sample are one sequence for the backbone (VisualBERT, arXiv 1908.03557; ViLT, 2102.03334).

    In a causal language model they are one text, in the order of the inputs (Frozen, Tsimpoukelli et al. 2021, arXiv
    2106.13884), so that what is asked stands behind what it is asked about.
    """

    joins = True
    on_causal = True
    fuse_at = 0

    def build(self, inputs: list[str], main: str, depth: int, class_token: bool, pools: bool = True) -> None:
        """Make the layers; the marks of inputs alone where ``pools`` is False."""
        self.pools = pools
        super().build(inputs, main, depth, class_token)
