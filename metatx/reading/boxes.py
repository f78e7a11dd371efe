"""Boxes of a picture as targets say them, and those of them that a detector can learn from."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from metatx.errors import SampleError
from metatx.examples import Examples

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["check_pixels", "crowds_of", "is_crowd", "learnable", "odd_boxes", "read_boxes"]

Boxes = TypeVar("Boxes", np.ndarray, "Tensor")

TINY = 1e-6  # of a picture's side: a box that is no longer has no size
ROUNDING = 2.0  # pixels that a box may stick out of its picture without a word
MANY = 0.1  # share of boxes over the edge, from which bbox may be corners
CORNERS = " If they are left, top, right, bottom: expected are left, top, width, height."
# What programs write for no crowd and for one.
CROWDS = dict.fromkeys(("0", "0.0", "false", "none", ""), False) | dict.fromkeys(("1", "1.0", "true"), True)


def crowds_of(target: Any) -> np.ndarray:
    """Which boxes of a target are crowds, bool (M,)."""
    flags = target.get("iscrowd")
    return np.array([False] * len(target["category"]) if flags is None else [is_crowd(flag) for flag in flags], bool)


def is_crowd(flag: Any) -> bool:
    """Whether ``iscrowd`` says a crowd. Raises ValueError for what says neither."""
    found = CROWDS.get(str(flag).lower())
    if found is None:
        raise ValueError(f"iscrowd is {flag!r:.40}; expected 0 or 1")
    return found


def check_pixels(targets: Sequence[Any]) -> None:
    """Raise ValueError where all boxes lie within a pixel of their picture's corner: they are shares of its sides."""
    ends: list[float] = []
    for target in targets:
        try:
            corners, size, _, _ = read_boxes(target)
        except SampleError:
            continue  # whoever encodes it names it
        ends += corners.max(1).tolist() if (size > ROUNDING).all() else [np.inf] * len(corners)
    if ends and np.nanmax(ends) <= 1:
        raise ValueError(
            f"All {len(ends)} boxes end within one pixel of their picture's corner, as shares of its sides do; "
            "expected left, top, width, height in pixels: multiply them by the picture's width and height."
        )


def read_boxes(target: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[Any]]:
    """Of a target the corners (M, 4) in pixels, its picture's width, height, width, height, crowds (M,), and classes.

    Raises:
        SampleError: If it has not all of that, or not of each box.
    """
    try:
        size = np.array([float(target["width"]), float(target["height"])] * 2)
        boxes = np.asarray(target["bbox"], dtype=np.float64).reshape(-1, 4)
        names, crowds = list(target["category"]), crowds_of(target)
    except (KeyError, TypeError, ValueError):
        raise SampleError("objects need bbox (M, 4), category (M), and width and height of the picture") from None
    if not len(names) == len(boxes) == len(crowds) or not (size > 0).all():
        raise SampleError(f"objects have {len(boxes)} boxes, {len(names)} categories, or a picture of no size")
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1), size, crowds, names


def learnable(boxes: Boxes) -> Boxes:
    """Of boxes (M, 5) as ``DetectionHead.encode`` gives them, those to learn from: no crowds, cut at the edges.

    What has no size then is left out.
    """
    found = boxes[boxes[:, 0] >= 0]
    found[:, 1:] = found[:, 1:].clip(0, 1)
    sized: Boxes = found[((found[:, 3:] - found[:, 1:3]) > TINY).all(1)]
    return sized


def odd_boxes(examples: Examples) -> str:
    """What is to be said of boxes that are not learned from as they are; empty where there is none."""
    gone = cut = count = 0
    first = ""
    for index, target in enumerate(examples.targets or ()):
        try:
            corners, size, crowds, _ = read_boxes(target)
        except SampleError:
            continue  # whoever encodes it names it
        corners = corners[~crowds]
        alone = [len(learnable(np.array([[0, *box]]))) for box in corners / size]
        over = ((corners < -ROUNDING) | (corners > size + ROUNDING)).any(1) & np.array(alone, dtype=bool)
        if not all(alone) or over.any():
            first = first or examples.place(index)
        gone, cut, count = gone + alone.count(0), cut + int(over.sum()), count + len(alone)
    if not first:
        return ""
    return (
        f"{examples.source}: boxes left out, of no size or outside their picture: {gone}; cut at its edge: {cut}; the "
        f"first is in {first}. Average precision is measured with all boxes as they are."
    ) + (CORNERS if cut > MANY * count else "")
