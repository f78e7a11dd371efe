"""Balanced sampling: the order of samples in which all classes come equally often."""

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from metatx.encoding.encoded import EncodedDataset

__all__ = ["balanced_order", "class_numbers"]


def class_numbers(data: "EncodedDataset") -> np.ndarray:
    """Class number of each sample, (N,) int64.

    Raises:
        ValueError: If the head's encoded targets are no class numbers.
    """
    targets = data.targets()
    if not isinstance(targets, torch.Tensor) or targets.ndim != 1 or targets.dtype != torch.int64:
        raise ValueError(
            f"sampling is 'balanced', but the targets of the {data.head.name} head are no class numbers; "
            "choose sampling 'plain'."
        )
    return targets.numpy()


def balanced_order(classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw as many sample numbers as there are samples, each class equally often (up to one), in random order.

    No sample is drawn again before all others of its class have been drawn.

    Args:
        classes: Class number of each sample, (N,).
        rng: Random generator.
    """
    present, members = np.unique(classes, return_inverse=True)
    each, rest = divmod(len(classes), len(present))
    more = set(rng.permutation(len(present))[:rest].tolist())
    drawn = []
    for code in range(len(present)):
        positions = np.flatnonzero(members == code)
        wanted = each + (code in more)
        rounds = [rng.permutation(positions) for _ in range(-(-wanted // len(positions)))]
        drawn.append(np.concatenate([positions[:0], *rounds])[:wanted])
    return rng.permutation(np.concatenate(drawn))
