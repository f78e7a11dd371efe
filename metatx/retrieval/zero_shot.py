"""Measures of aligned modalities: retrieval in both directions, and classification by the names of classes."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from metatx.metrics.retrieval import cross_recall

__all__ = ["recalls", "zero_shot_accuracy"]


def recalls(vectors: Mapping[str, np.ndarray], partners: Sequence[str], at: Sequence[int] = (1, 5)) -> dict[str, float]:
    """Share of samples whose partner is among the ``k`` nearest samples of the other modality, in both directions.

    Args:
        vectors: Unit vectors (B, E) of the pairs, by modality; two modalities.
        partners: B texts, equal where pairs share a partner (two images with one caption): each counts as right then.
        at: Values of ``k``.

    Returns:
        Shares by name, such as ``image_to_text_recall@1``.
    """
    (left, a), (right, b) = ((name, torch.from_numpy(side)) for name, side in vectors.items())
    codes = torch.from_numpy(np.unique(np.asarray(partners), return_inverse=True)[1])
    same = codes[:, None] == codes
    ways = {f"{left}_to_{right}": (a, b), f"{right}_to_{left}": (b, a)}
    return {f"{name}_recall@{k}": cross_recall(*way, same, k) for name, way in ways.items() for k in at}


def zero_shot_accuracy(vectors: np.ndarray, texts: np.ndarray, names: Sequence[str], labels: Sequence[str]) -> float:
    """Share of samples whose nearest text is that of their own class.

    Args:
        vectors: Unit vectors of the samples (B, E).
        texts: Unit vectors of one text a class (K, E).
        names: Names of the classes, K.
        labels: Name of each sample's class, B.
    """
    nearest = (vectors @ texts.T).argmax(1)
    return float(np.mean([names[i] == label for i, label in zip(nearest, labels, strict=True)]))
