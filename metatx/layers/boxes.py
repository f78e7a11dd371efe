"""Boxes on a grid of cells: which cell answers for which box, and which box found is a true one.

Boxes are left, top, right and bottom in shares of the picture's width and height.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["assign_cells", "cell_centres", "true_positives"]

RADIUS = 1.5  # cells around the centre of a box that answer for it
MATCH = 0.5  # intersection over union from which a box is the true one


def cell_centres(height: int, width: int, device: torch.device) -> Tensor:
    """Centres (height * width, 2) of the cells of a grid, row by row: across and down, in shares."""
    down = (torch.arange(height, device=device) + 0.5) / height
    across = (torch.arange(width, device=device) + 0.5) / width
    return torch.stack(torch.meshgrid(down, across, indexing="ij")[::-1], -1).flatten(0, 1)


def assign_cells(centres: Tensor, boxes: Tensor, height: int, width: int) -> Tensor:
    """Number of the box that each cell answers for, int64 (P,): the smallest around its centre and near; -1 for none.

    Args:
        centres: Centres of the cells (P, 2), as ``cell_centres`` gives them.
        boxes: True boxes (M, 4).
        height: Rows of cells.
        width: Columns of cells.
    """
    if not len(boxes):
        return torch.full((len(centres),), -1, device=centres.device)
    cell = torch.tensor([1 / width, 1 / height], device=centres.device)
    inside = ((centres[:, None] > boxes[:, :2]) & (centres[:, None] < boxes[:, 2:])).all(2)
    away = (centres[:, None] - (boxes[:, :2] + boxes[:, 2:]) / 2).abs() / cell
    # A box too small to hold the centre of a cell is given to the nearest cell.
    nearest = F.one_hot(away.amax(2).argmin(0), len(centres)).T.bool()
    candidate = (inside & (away <= RADIUS).all(2)) | nearest
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1).expand(len(centres), -1)
    least, owner = areas.masked_fill(~candidate, torch.inf).min(1)
    owners: Tensor = owner.masked_fill(least.isinf(), -1)
    return owners


def true_positives(found: Tensor, truth: Tensor) -> Tensor:
    """Boxes that find a true one of their class which none before them has found, bool (M,).

    Args:
        found: Class number and box (M, 5 or more), best first.
        truth: Class number and box (N, 5).
    """
    from torchvision.ops import box_iou

    overlaps = box_iou(found[:, 1:5], truth[:, 1:]) * (found[:, :1] == truth[:, 0])
    hits = torch.zeros(len(found), dtype=torch.bool, device=found.device)
    for i in range(len(found) if len(truth) else 0):
        best = overlaps[i].argmax()
        if overlaps[i, best] >= MATCH:
            hits[i] = True
            overlaps[:, best] = 0
    return hits
