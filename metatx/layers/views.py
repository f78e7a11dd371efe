"""Views: which part of an image a random crop or mirror image shows, and targets that follow it.

A view (4,) is left, top, right and bottom as shares of the image's width and height; left and right are exchanged
where it is mirrored. The whole image is (0, 0, 1, 1).
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["boxes_in_view", "coarser", "mask_in_view", "places_in_view", "random_view"]

ASPECT = (3 / 4, 4 / 3)  # of a crop, beside the image's own (Szegedy et al. 2014)
COARSE = (0.3, 0.9)  # share of the sides to which an image is reduced


def random_view(image: Tensor, flip: float, area: tuple[float, float] | None = None) -> tuple[Tensor, Tensor]:
    """A random view of an image, as large as it was.

    Args:
        image: uint8 (C, H, W).
        flip: Probability of a mirror image, left and right exchanged.
        area: Least and largest share of the area that a crop keeps; None crops nothing.

    Returns:
        The view uint8 (C, H, W), and where it lies (4,).
    """
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import resized_crop

    height, width = image.shape[-2:]
    top, left, rows, columns = 0, 0, height, width
    if area is not None:
        share, stretch = torch.empty(()).uniform_(*area), torch.empty(()).uniform_(*map(math.log, ASPECT)).exp()
        rows = max(1, min(height, round(float(height * (share / stretch).sqrt()))))
        columns = max(1, min(width, round(float(width * (share * stretch).sqrt()))))
        top, left = (int(torch.randint(room + 1, ())) for room in (height - rows, width - columns))
        image = resized_crop(image, top, left, rows, columns, [height, width], InterpolationMode.BICUBIC)
    view = torch.tensor([left / width, top / height, (left + columns) / width, (top + rows) / height])
    if torch.rand(()) < flip:
        return image.flip(-1), view[[2, 1, 0, 3]]
    return image, view


def coarser(image: Tensor) -> Tensor:
    """An image uint8 (C, H, W) as it is after it was reduced to a random smaller size and enlarged again."""
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import resize

    share, size = float(torch.empty(()).uniform_(*COARSE)), list(image.shape[-2:])
    small = resize(image, [max(1, round(share * side)) for side in size], InterpolationMode.BICUBIC)
    enlarged: Tensor = resize(small, size, InterpolationMode.BICUBIC)
    return enlarged


def places_in_view(views: Tensor, size: tuple[int, int]) -> Tensor:
    """Where in the whole image the cells of a view lie, as ``grid_sample`` reads them.

    Args:
        views: (B, 4).
        size: Rows and columns of cells.

    Returns:
        The cells' middles (B, rows, columns, 2): across and down, from -1 to 1.
    """
    middles = [(torch.arange(count, device=views.device) + 0.5) / count for count in size]
    sides = zip((1, 0), middles, strict=True)
    down, across = (views[:, at, None] + middle * (views[:, at + 2] - views[:, at])[:, None] for at, middle in sides)
    shape = len(views), *size
    return torch.stack([across[:, None].expand(shape), down[:, :, None].expand(shape)], -1) * 2 - 1


def mask_in_view(mask: Tensor, view: Tensor) -> Tensor:
    """Codes (H, W) of an image as they are in a view of it, as large as before, to the nearest pixel."""
    if view.tolist() == [0, 0, 1, 1]:
        return mask
    places = places_in_view(view[None], (mask.shape[0], mask.shape[1]))
    return F.grid_sample(mask[None, None].float(), places, "nearest", align_corners=False)[0, 0].to(mask.dtype)


def boxes_in_view(boxes: Tensor, view: Tensor, least: float = 0.25) -> tuple[Tensor, Tensor]:
    """Boxes (M, 4), left, top, right, bottom in shares, as they are in a view, cut off at its edges.

    Args:
        boxes: In shares of the image's width and height.
        view: Of that image.
        least: Share of a box's area that the view must show for it to stay.

    Returns:
        The boxes that stay (M', 4), in shares of the view, and which they are, bool (M,).
    """
    start, size = view[:2].repeat(2), (view[2:] - view[:2]).repeat(2)
    moved = (boxes - start) / size
    corners = torch.cat([torch.minimum(moved[:, :2], moved[:, 2:]), torch.maximum(moved[:, :2], moved[:, 2:])], 1)
    cut = corners.clamp(0, 1)
    whole, left = ((box[:, 2:] - box[:, :2]).prod(1) for box in (corners, cut))
    kept = left >= least * whole.clamp(min=1e-12)
    return cut[kept], kept
