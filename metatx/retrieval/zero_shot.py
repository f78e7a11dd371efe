"""How well aligned modalities find each other: retrieval both ways, and classes known by name alone."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from metatx.metrics.retrieval import cross_recall

__all__ = ["recalls", "zero_shot_accuracy"]


def recalls(vectors: Mapping[str, np.ndarray], partners: Sequence[str], at: Sequence[int] = (1, 5)) -> dict[str, float]:
    """Share of samples whose partner is among the ``k`` nearest of the other modality, both ways.

    Args:
        vectors: By modality, two of them: unit vectors (B, E) of the pairs.
        partners: B texts, equal where pairs share a partner, as two pictures with one caption do: each is right then.
        at: The ``k``.
    """
    (left, a), (right, b) = ((name, torch.from_numpy(side)) for name, side in vectors.items())
    codes = torch.from_numpy(np.unique(np.asarray(partners), return_inverse=True)[1])
    same = codes[:, None] == codes
    ways = {f"{left}_to_{right}": (a, b), f"{right}_to_{left}": (b, a)}
    return {f"{name}_recall@{k}": cross_recall(*way, same, k) for name, way in ways.items() for k in at}


def zero_shot_accuracy(vectors: np.ndarray, texts: np.ndarray, names: Sequence[str], labels: Sequence[str]) -> float:
    """Share of samples to which the text about their class is nearest.

    Args:
        vectors: Of the samples (B, E).
        texts: Of what is said about each class (K, E).
        names: Of the classes, K.
        labels: The name of each sample's class, B.
    """
    nearest = (vectors @ texts.T).argmax(1)
    return float(np.mean([names[i] == label for i, label in zip(nearest, labels, strict=True)]))
