"""Grid bridge: few tokens of a picture, each the mean of a part of it."""

from dataclasses import replace

from torch import nn

from metatx.bridge import Bridge
from metatx.sequence import TokenSequence
from metatx.tokenizer import LearnedPositions

__all__ = ["GridBridge"]


class GridBridge(Bridge):
    """Means of n x n parts of the grid, through one linear map, with learned positions (MMBT, Kiela et al. 2019).

    MMBT (arXiv 1909.02950) pools a ResNet's grid, and trains the map before it thaws the blocks.

    Args:
        dim: Width of the task's backbone, D.
        side: Number of parts along each side of the grid, n; each sequence gives n x n tokens.

    Raises:
        ValueError: If ``side`` is below 1.
    """

    pool_options = ("side",)

    def __init__(self, dim: int, side: int = 3) -> None:
        super().__init__(dim)
        if side < 1:
            raise ValueError(f"The grid bridge's side is {side}; give at least 1.")
        self.side = side

    def build(self, width: int) -> None:
        """Make the map and the positions."""
        self.map = nn.Linear(width, self.dim)
        self.positions = LearnedPositions(self.dim, self.side**2)

    def pool(self, sequence: TokenSequence) -> TokenSequence:
        """Mean of each part of the grid.

        Raises:
            ValueError: If the tokens do not lie on a grid of rows and columns.
        """
        grid = sequence.grid
        if grid is None or len(grid) != 2:
            said = "no grid" if grid is None else f"a grid of {len(grid)} axes"
            raise ValueError(
                f"The grid bridge reads rows and columns, but the tokens lie on {said}; choose another bridge, such as "
                "linear or resampler."
            )
        tokens = super().pool(sequence)
        cells = tokens.embeddings.view(-1, *grid, tokens.embeddings.shape[1]).movedim(3, 1)  # (S, E, H, W)
        parts = nn.functional.adaptive_avg_pool2d(cells, self.side)
        return replace(
            tokens,
            embeddings=parts.flatten(2).transpose(1, 2).flatten(0, 1),
            lengths=(self.side**2,) * len(tokens.lengths),
            grids={"": (self.side, self.side)},
        )

    def forward(self, sequence: TokenSequence) -> TokenSequence:
        """Map each part."""
        positions = self.positions(self.side**2).repeat(len(sequence.lengths), 1)
        return sequence.with_embeddings(self.map(sequence.embeddings) + positions)
