"""Boxes of an image: read from targets, checked, and cut to those that a detector can learn from."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from metatx.errors import SampleError
from metatx.examples import Examples

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["check_pixels", "crowds_of", "is_crowd", "learnable", "odd_boxes", "read_boxes"]

Boxes = TypeVar("Boxes", np.ndarray, "Tensor")

TINY = 1e-6  # share of an image's side: a box whose sides are not longer has no size
ROUNDING = 2.0  # pixels by which a box may leave its image without a report
MANY = 0.1  # share of boxes over the edge above which bbox probably holds two corners
CORNERS = " If they are left, top, right, bottom: expected are left, top, width, height."
# Spellings of "no crowd" and "crowd" in files.
CROWDS = dict.fromkeys(("0", "0.0", "false", "none", ""), False) | dict.fromkeys(("1", "1.0", "true"), True)


def crowds_of(target: Any) -> np.ndarray:
    """Flags of the boxes that are crowds, bool (M,)."""
    flags = target.get("iscrowd")
    return np.array([False] * len(target["category"]) if flags is None else [is_crowd(flag) for flag in flags], bool)


def is_crowd(flag: Any) -> bool:
    """Read a flag ``iscrowd``. Raises ValueError if it says neither yes nor no."""
    crowd = CROWDS.get(str(flag).lower())
    if crowd is None:
        raise ValueError(f"iscrowd is {flag!r:.40}; expected 0 or 1")
    return crowd


def check_pixels(targets: Sequence[Any]) -> None:
    """Raise ValueError if all boxes lie within one pixel of their image's corner: then they are shares of its sides."""
    ends: list[float] = []
    for target in targets:
        try:
            corners, size, _, _ = read_boxes(target)
        except SampleError:
            continue  # encoding this target reports its fault
        ends += corners.max(1).tolist() if (size > ROUNDING).all() else [np.inf] * len(corners)
    if ends and np.nanmax(ends) <= 1:
        raise ValueError(
            f"All {len(ends)} boxes end within one pixel of their image's corner, as shares of its sides do; "
            "expected left, top, width, height in pixels: multiply them by the image's width and height."
        )


def read_boxes(target: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[Any]]:
    """Read a target.

    Returns:
        Corners left, top, right, bottom (M, 4) in pixels; width, height, width, height of the image (4,); flags of
        crowds (M,); names of the classes, M.

    Raises:
        SampleError: If a field is missing, or they differ in the number of boxes.
    """
    try:
        size = np.array([float(target["width"]), float(target["height"])] * 2)
        boxes = np.asarray(target["bbox"], dtype=np.float64).reshape(-1, 4)
        names = list(target["category"])
        crowds = crowds_of(target)
    except (KeyError, TypeError, ValueError):
        raise SampleError("objects need bbox (M, 4), category (M), and width and height of the image") from None
    if not len(names) == len(boxes) == len(crowds) or not (size > 0).all():
        raise SampleError(f"objects have {len(boxes)} boxes, {len(names)} categories, or an image of no size")
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1), size, crowds, names


def learnable(boxes: Boxes) -> Boxes:
    """Select the boxes to learn from, cut at the edges of the image; crowds and boxes without a size are left out.

    Args:
        boxes: Class (negative for a crowd), left, top, right, bottom as shares of the image's sides, (M, 5).
    """
    inside = boxes[boxes[:, 0] >= 0]
    inside[:, 1:] = inside[:, 1:].clip(0, 1)
    sized: Boxes = inside[((inside[:, 3:] - inside[:, 1:3]) > TINY).all(1)]
    return sized


def odd_boxes(examples: Examples) -> str:
    """Message about boxes that are left out or cut before they are learned from; empty if there are none."""
    gone = cut = count = 0
    first = ""
    for index, target in enumerate(examples.targets or ()):
        try:
            corners, size, crowds, _ = read_boxes(target)
        except SampleError:
            continue  # encoding this target reports its fault
        corners = corners[~crowds]
        alone = [len(learnable(np.array([[0, *box]]))) for box in corners / size]
        over = ((corners < -ROUNDING) | (corners > size + ROUNDING)).any(1) & np.array(alone, dtype=bool)
        if not all(alone) or over.any():
            first = first or examples.place(index)
        gone += alone.count(0)
        cut += int(over.sum())
        count += len(alone)
    if not first:
        return ""
    return (
        f"{examples.source}: boxes left out, of no size or outside their image: {gone}; cut at its edge: {cut}; the "
        f"first is in {first}. Average precision is measured with all boxes as they are."
    ) + (CORNERS if cut > MANY * count else "")
