"""Records of many classes: the likeliest ones alone."""

from typing import Any

import numpy as np
from torch import Tensor

__all__ = ["check_top_k", "shown_classes", "top_classes"]

MANY = 1000  # classes beyond which records name the likeliest alone
USUAL = 10  # number of those


def check_top_k(top_k: int | None) -> None:
    """Raise ValueError unless the option is a number of classes."""
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k is {top_k}; records name at least 1 class.")


def shown_classes(top_k: int | None, count: int) -> int | None:
    """Number of the likeliest classes that records name, by the option and the number of all; None: all, each by name.

    >>> shown_classes(None, 1000), shown_classes(None, 1001), shown_classes(5, 3)
    (None, 10, 3)
    """
    if top_k is None:
        return USUAL if count > MANY else None
    return min(top_k, count)


def top_classes(probabilities: Tensor, classes: np.ndarray, most: int) -> list[list[dict[str, Any]]]:
    """``label`` and ``probability`` of the likeliest classes of each sample, the likeliest first.

    Args:
        probabilities: Probabilities (B, K).
        classes: Labels (K,).
        most: Number of classes of a sample, at most K.
    """
    shares, places = probabilities.topk(most)
    labels = classes[places.cpu().numpy()].tolist()
    return [
        [{"label": label, "probability": share} for label, share in zip(*pair, strict=True)]
        for pair in zip(labels, shares.tolist(), strict=True)
    ]
