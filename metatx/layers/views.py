"""Views, the parts of images that random crops and mirror images show, and targets that follow them.

A view (4,) is left, top, right and bottom as shares of the image's width and height; left and right are exchanged
if it is mirrored. The whole image is (0, 0, 1, 1).
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["boxes_in_view", "coarser", "mask_in_view", "places_in_view", "random_view"]

ASPECT = (3 / 4, 4 / 3)  # aspect ratio of a crop relative to the image's (Szegedy et al. 2014)
COARSE = (0.3, 0.9)  # range of the share of the sides to which an image is reduced


def random_view(image: Tensor, flip: float, area: tuple[float, float] | None = None) -> tuple[Tensor, Tensor]:
    """Take a random view of an image, resized to the image's size.

    Args:
        image: Image, uint8 (C, H, W).
        flip: Probability of a mirror image, left and right exchanged.
        area: Least and largest share of the area that a crop keeps; None for no crop.

    Returns:
        Image of the view, uint8 (C, H, W), and the view (4,).
    """
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import resized_crop

    height, width = image.shape[-2:]
    top = left = 0
    rows = height
    columns = width
    if area is not None:
        share = torch.empty(()).uniform_(*area)
        stretch = torch.empty(()).uniform_(*map(math.log, ASPECT)).exp()
        rows = max(1, min(height, round(float(height * (share / stretch).sqrt()))))
        columns = max(1, min(width, round(float(width * (share * stretch).sqrt()))))
        top, left = (int(torch.randint(room + 1, ())) for room in (height - rows, width - columns))
        image = resized_crop(image, top, left, rows, columns, [height, width], InterpolationMode.BICUBIC)
    view = torch.tensor([left / width, top / height, (left + columns) / width, (top + rows) / height])
    if torch.rand(()) < flip:
        return image.flip(-1), view[[2, 1, 0, 3]]
    return image, view


def coarser(image: Tensor) -> Tensor:
    """Reduce an image uint8 (C, H, W) to a random smaller size, and enlarge it again."""
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import resize

    share = float(torch.empty(()).uniform_(*COARSE))
    size = list(image.shape[-2:])
    small = resize(image, [max(1, round(share * side)) for side in size], InterpolationMode.BICUBIC)
    enlarged: Tensor = resize(small, size, InterpolationMode.BICUBIC)
    return enlarged


def places_in_view(views: Tensor, size: tuple[int, int]) -> Tensor:
    """Places in the whole image of the cells of a view, in the form of ``grid_sample``.

    Args:
        views: Views (B, 4).
        size: Rows and columns of cells.

    Returns:
        Centres of the cells (B, rows, columns, 2): across and down, from -1 to 1.
    """
    centres = [(torch.arange(count, device=views.device) + 0.5) / count for count in size]
    sides = zip((1, 0), centres, strict=True)
    down, across = (views[:, at, None] + centre * (views[:, at + 2] - views[:, at])[:, None] for at, centre in sides)
    shape = len(views), *size
    return torch.stack([across[:, None].expand(shape), down[:, :, None].expand(shape)], -1) * 2 - 1


def mask_in_view(mask: Tensor, view: Tensor) -> Tensor:
    """Codes (H, W) of an image in a view of it, resized to (H, W) by the nearest pixel."""
    if view.tolist() == [0, 0, 1, 1]:
        return mask
    places = places_in_view(view[None], (mask.shape[0], mask.shape[1]))
    return F.grid_sample(mask[None, None].float(), places, "nearest", align_corners=False)[0, 0].to(mask.dtype)


def boxes_in_view(boxes: Tensor, view: Tensor, least: float = 0.25) -> tuple[Tensor, Tensor]:
    """Boxes of an image in a view of it, cut at the view's edges.

    Args:
        boxes: Left, top, right, bottom as shares of the image's width and height (M, 4).
        view: View of the image (4,).
        least: Share of a box's area that the view must show for the box to stay, 0 to 1.

    Returns:
        Boxes that stay, as shares of the view's sides (M', 4); flags of those boxes, bool (M,).
    """
    start = view[:2].repeat(2)
    size = (view[2:] - view[:2]).repeat(2)
    moved = (boxes - start) / size
    corners = torch.cat([torch.minimum(moved[:, :2], moved[:, 2:]), torch.maximum(moved[:, :2], moved[:, 2:])], 1)
    cut = corners.clamp(0, 1)
    whole, left = ((box[:, 2:] - box[:, :2]).prod(1) for box in (corners, cut))
    kept = left >= least * whole.clamp(min=1e-12)
    return cut[kept], kept
