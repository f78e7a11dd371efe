"""Rotary and relative positions of timm's blocks, for sequences of any grid."""

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from timm.layers.mlp import Mlp
from timm.layers.pos_embed_rel import RelPosBias, RelPosMlp, gen_relative_log_coords, gen_relative_position_index
from torch import Tensor, nn
from torch.nn import functional as F

from metatx.backbone.attention import Packing
from metatx.sequence import TokenSequence

block_diag: Callable[..., Tensor] = torch.block_diag

__all__ = ["BiasMlp", "BiasTable", "Grids", "bias", "bias_module", "grids", "rotations"]

# For each sequence of a unit, its grid and the number of tokens behind it that lie on none.
Grids = tuple[tuple[tuple[int, ...], int], ...]


def grids(sequence: TokenSequence, packing: Packing) -> list[Grids]:
    """Grid of each sequence of each unit, in block order; a sequence without one is a row of tokens.

    Raises:
        ValueError: If a sequence does not fill its grid.
    """
    by_sequence = []
    for i, length in enumerate(sequence.lengths):
        behind = sequence.trailing[i] if sequence.trailing else 0
        grid = sequence.grids.get(sequence.sources[i] if sequence.sources else "", (length - behind,))
        if math.prod(grid) != length - behind:
            raise ValueError(f"Sequence {i} has {length} tokens, which do not fill its grid {grid}.")
        by_sequence.append((grid, behind))
    return [tuple(by_sequence[i] for i in unit) for unit in packing.units()]


def _planar(grid: tuple[int, ...]) -> tuple[int, tuple[int, int]]:
    """Number of frames, and their rows and columns; frames of a video have equal positions, a series is one row."""
    padded = (1, 1, *grid)
    return math.prod(padded[:-2]), (padded[-2], padded[-1])


def rotations(rope: nn.Module, units: list[Grids], prefix: int) -> Tensor:
    """Sines and cosines for a group of units, (..., L, 2 d), or with a dimension of units where their grids differ.

    Prefix tokens, and tokens behind a grid, are not rotated.

    Args:
        rope: timm's module of rotary positions.
        units: Grids of the units, all of length L.
        prefix: Number of prefix tokens of each sequence, P.
    """

    def of(unit: Grids) -> Tensor:
        parts = []
        for grid, behind in unit:
            frames, plane = _planar(grid)
            turned = cast(Any, rope).get_embed(shape=plane)
            still = torch.zeros_like(turned[..., :1, :])
            still[..., still.shape[-1] // 2 :] = 1
            still = still.expand(*still.shape[:-2], prefix + behind, -1)
            parts += [still[..., :prefix, :], *[turned] * frames, still[..., prefix:, :]]
        return torch.cat(parts, dim=-2)

    made = {unit: of(unit) for unit in dict.fromkeys(units)}
    if len(made) == 1:
        return made[units[0]]
    # (count, 1, L, 2 d), or (depth, count, heads, L, 2 d) where each block and head has its own rotations
    stacked = torch.stack([made[unit] for unit in units], dim=-4 if made[units[0]].ndim == 4 else 0)
    return stacked if stacked.ndim == 5 else stacked[:, None]


class BiasTable(nn.Module):
    """Table of attention biases by relative position (Shaw et al. 2018; BEiT, Bao et al. 2021).

    Args:
        table: Biases, ((2 H - 1) (2 W - 1), heads), with three more rows if there is a class token.
        window: Rows and columns of the table's grid, (H, W); the table is interpolated for other grids.
    """

    def __init__(self, table: nn.Parameter, window: tuple[int, int]) -> None:
        super().__init__()
        self.relative_position_bias_table = table
        self.window = window

    def forward(self, plane: tuple[int, int], prefix: int) -> Tensor:
        """Attention bias of a grid of N tokens and its prefix tokens, (heads, P + N, P + N)."""
        table: Tensor = self.relative_position_bias_table
        if plane != self.window:
            span = [2 * side - 1 for side in self.window]
            offsets = table[: math.prod(span)].T.reshape(1, -1, *span)
            size = [2 * side - 1 for side in plane]
            resized = F.interpolate(offsets, size, mode="bicubic")
            table = torch.cat([resized[0].flatten(1).T, table[math.prod(span) :]])
        index = gen_relative_position_index(plane, class_token=prefix > 0, device=table.device)
        return table[index].permute(2, 0, 1)


class BiasMlp(nn.Module):
    """Small network from relative positions to attention biases (Swin V2, Liu et al. 2021).

    Args:
        source: timm's module.
    """

    def __init__(self, source: RelPosMlp) -> None:
        super().__init__()
        self.mlp: Mlp = source.mlp
        self.mode = source.mode
        self.trained_on = source.pretrained_window_size

    def forward(self, plane: tuple[int, int], prefix: int) -> Tensor:
        """Attention bias of a grid of N tokens, (heads, P + N, P + N); zero for prefix tokens."""
        weight = self.mlp.fc1.weight
        offsets = gen_relative_log_coords(plane, self.trained_on, mode=self.mode, device=weight.device)
        table: Tensor = self.mlp(offsets.to(weight.dtype)).flatten(0, 1)
        of_grid = table[gen_relative_position_index(plane, device=weight.device)].permute(2, 0, 1)
        return F.pad(of_grid, [prefix, 0, prefix, 0])


def bias_module(source: Any) -> BiasTable | BiasMlp:
    """Convert timm's module of relative positions. Raises ValueError for an unknown kind."""
    if isinstance(source, RelPosMlp):
        if source.mode not in ("cr",):
            raise ValueError(f"has relative positions of another kind ({source.mode})")
        return BiasMlp(source)
    if isinstance(source, RelPosBias) or hasattr(source, "relative_position_bias_table"):
        return BiasTable(source.relative_position_bias_table, tuple(source.window_size))
    raise ValueError(f"has relative positions of another kind ({type(source).__name__})")


def bias(module: nn.Module, units: list[Grids], prefix: int) -> Tensor:
    """Attention bias of a group of units, (1 or count, heads, L, L).

    It is zero between sequences of a unit, and for tokens behind a grid.
    """

    def of(unit: Grids) -> Tensor:
        parts: list[Tensor] = []
        for grid, behind in unit:
            frames, plane = _planar(grid)
            made = module(plane, prefix)
            inside = torch.arange(prefix, made.shape[-1]).repeat(frames)
            index = torch.cat([torch.arange(prefix), inside]).to(made.device)
            parts.append(F.pad(made[:, index[:, None], index], [0, behind, 0, behind]))
        if len(parts) == 1:
            return parts[0]
        joined: list[Tensor] = [block_diag(*heads) for heads in zip(*parts, strict=True)]
        return torch.stack(joined)

    made = {unit: of(unit) for unit in dict.fromkeys(units)}
    return torch.stack(list(made.values()) if len(made) == 1 else [made[unit] for unit in units])
