"""How the columns of point sets are distributed, as a whole and in slices."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["distributions"]


def distributions(
    sets: Sequence[Tensor], edges: Tensor, slicing: tuple[int, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Shares of each column's bins, mean and deviation (B, P, C, bins + 2), and shares of the points (B, P).

    Of the whole set first, then of its slices. An empty slice has zeros; where points are spread evenly over slices,
    the share of each is 1.

    Args:
        sets: B sets of points (N, C); numbers may differ.
        edges: Between the bins of each column (C, bins - 1), ascending.
        slicing: The column to slice by, and the values (P - 2,) between slices; None: the whole only, P is 1.
    """
    flat, device = torch.cat(list(sets)), edges.device
    columns, bins = edges.shape[0], edges.shape[1] + 1
    counts = torch.tensor([len(one) for one in sets], device=device)
    slices = 1 if slicing is None else len(slicing[1]) + 1
    cell = torch.arange(len(sets), device=device).repeat_interleave(counts) * slices
    if slicing is not None:
        cell = cell + torch.bucketize(flat[:, slicing[0]].contiguous(), slicing[1])
    codes = torch.stack([torch.bucketize(flat[:, i].contiguous(), edges[i]) for i in range(columns)], dim=1)
    at = (cell[:, None] * columns + torch.arange(columns, device=device)) * bins + codes
    # In float64, so that sums do not depend on the order of the points.
    held = flat.new_zeros(len(sets) * slices * columns * bins, dtype=torch.float64)
    held = held.index_add(0, at.flatten(), held.new_ones(at.numel())).view(len(sets), slices, columns, bins)
    powers = torch.stack([flat.double(), flat.double().square()], dim=2)
    sums = powers.new_zeros(len(sets) * slices, columns, 2).index_add(0, cell, powers)
    parts = torch.cat([held, sums.view(len(sets), slices, columns, 2)], dim=3)
    if slicing is not None:
        parts = torch.cat([parts.sum(1, keepdim=True), parts], dim=1)
    number = parts[:, :, 0, :bins].sum(2)
    parts = parts / number.clamp_min(1)[..., None, None]
    deviation = (parts[..., -1] - parts[..., -2].square()).clamp_min(0).sqrt()
    share = number / counts[:, None]
    share[:, 1:] *= slices
    return torch.cat([parts[..., :-1], deviation[..., None]], dim=3).float(), share.float()
