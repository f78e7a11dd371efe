"""Mid fusion: inputs meet from one of the backbone's blocks on."""

from metatx.fusion import Fusion

__all__ = ["MidFusion"]


class MidFusion(Fusion):
    """Inputs go through the first blocks apart, and through the others as one sequence (Nagrani et al. 2021, "mid").

    Args:
        dim: Width of the backbone.
        at: Number of the first block, from 0, in which all inputs attend to one another; None: two thirds of the depth.
        product, dropout, max_tokens: The options of ``Fusion``.
    """

    joins = True
    on_causal = True

    def __init__(
        self, dim: int, at: int | None = None, product: int = 0, dropout: float = 0.0, max_tokens: int = 4096
    ) -> None:
        super().__init__(dim, product, dropout, max_tokens)
        self.at = at

    def build(self, inputs: list[str], main: str, depth: int, class_token: bool) -> None:
        """Make the layers. Raises ValueError if the backbone has no block ``at``."""
        if self.at is not None and depth and not 0 <= self.at <= depth:
            raise ValueError(
                f"--fusion.at is {self.at}; this backbone has {depth} blocks, so 0 to {depth} are possible."
            )
        self.fuse_at = 2 * depth // 3 if self.at is None else self.at
        super().build(inputs, main, depth, class_token)
