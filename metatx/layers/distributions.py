"""Distributions of the columns of point sets, of the whole set and of slices."""

from collections.abc import Sequence

import torch
from torch import Tensor

from metatx.sequence import sent

__all__ = ["distributions"]


def distributions(
    sets: Sequence[Tensor], edges: Tensor, slicing: tuple[int, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Histograms, means and standard deviations of columns (B, P, C, bins + 2), and shares of the points (B, P).

    The first of the P parts is the whole set, the others are its slices. Bins hold shares of the part's points. An
    empty slice has zeros; the share of a slice is relative to an even division, in which each has 1.

    Args:
        sets: B sets of points (N, C), N may differ.
        edges: Edges between the bins of each column (C, bins - 1), ascending.
        slicing: Column to slice by, and the values (P - 2,) between slices; None for the whole only, P = 1.
    """
    flat = torch.cat(list(sets))
    device = edges.device
    columns = edges.shape[0]
    bins = edges.shape[1] + 1
    counts = torch.tensor([len(points) for points in sets])
    slices = 1 if slicing is None else len(slicing[1]) + 1
    cell = sent(torch.arange(len(sets)).repeat_interleave(counts) * slices, device)
    if slicing is not None:
        cell = cell + torch.bucketize(flat[:, slicing[0]].contiguous(), slicing[1])
    codes = torch.stack([torch.bucketize(flat[:, i].contiguous(), edges[i]) for i in range(columns)], dim=1)
    at = (cell[:, None] * columns + torch.arange(columns, device=device)) * bins + codes
    # float64, so that sums do not depend on the order of the points.
    histograms = flat.new_zeros(len(sets) * slices * columns * bins, dtype=torch.float64)
    histograms = histograms.index_add(0, at.flatten(), histograms.new_ones(at.numel()))
    histograms = histograms.view(len(sets), slices, columns, bins)
    powers = torch.stack([flat.double(), flat.double().square()], dim=2)
    sums = powers.new_zeros(len(sets) * slices, columns, 2).index_add(0, cell, powers)
    parts = torch.cat([histograms, sums.view(len(sets), slices, columns, 2)], dim=3)
    if slicing is not None:
        parts = torch.cat([parts.sum(1, keepdim=True), parts], dim=1)
    number = parts[:, :, 0, :bins].sum(2)
    parts = parts / number.clamp_min(1)[..., None, None]
    std = (parts[..., -1] - parts[..., -2].square()).clamp_min(0).sqrt()
    share = number / sent(counts[:, None], device)
    share[:, 1:] *= slices
    return torch.cat([parts[..., :-1], std[..., None]], dim=3).float(), share.float()
