"""Linear maps of two sides that never change, in closed form: in seconds what contrastive training approaches."""

from itertools import product

import numpy as np
import torch

from metatx.baselines.cca import RegularisedCCA
from metatx.metrics.retrieval import partner_ranking
from metatx.pretraining.alignment import Alignment
from metatx.pretraining.fixed_sides import FixedSide
from metatx.pretraining.paired_data import PairedDataset

__all__ = ["solve_maps"]

STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # ridges that are tried, of each side


@torch.no_grad()
def solve_maps(alignment: Alignment, pairs: PairedDataset, validation: PairedDataset) -> tuple[float, float]:
    """Set the linear maps of two modalities to those of regularised canonical correlation analysis, ``RegularisedCCA``.

    Maps without a constant cannot take means away: second moments stand in place of covariances, and the first pair of
    directions, which is that of the means, is left out. The ridges are those of the best mean reciprocal rank, over
    both ways, on the validation pairs. The maps may be trained on by ``pretrain``.

    Args:
        alignment: Alignment whose maps are set; nothing else of it changes.
        pairs: Training pairs, read with ``cache=True``.
        validation: Pairs that choose the ridges, read in the same way.

    Returns:
        The ridges, of the first and of the second modality.

    Raises:
        ValueError: If there are not two modalities, or one of them is not fixed or has no map to be set.
    """
    names = list(pairs.sides)
    if len(names) != 2 or list(validation.sides) != names:
        raise ValueError(f"Maps are solved between two modalities; found {', '.join(names)}.")
    for name in names:
        if not (isinstance(pairs.sides[name], FixedSide) and alignment.aligned(name).maps):
            raise ValueError(
                f"{name} has no linear map behind features that never change: train it, or freeze its tokenizer and "
                "read the pairs with cache=True."
            )
    left, right = (_features(pairs, name) for name in names)
    grid = list(product(STRENGTHS, STRENGTHS))
    models = RegularisedCCA.path(left, right, grid, components=alignment.size + 1, centred=False)
    unseen = [_features(validation, name) for name in names]
    best = models[int(np.argmax([_score(model, unseen, validation.keys.numpy()) for model in models]))]
    for side, name in enumerate(names):
        weight = alignment.aligned(name).get_parameter("proj.weight")
        solved = torch.zeros_like(weight)
        solved[: len(best.correlations_) - 1] = torch.from_numpy(_weighted(best, side).T)
        weight.copy_(solved * (weight.norm() / solved.norm()))  # as long as before, for a training that goes on
    return best.strengths


def _weighted(model: RegularisedCCA, side: int) -> np.ndarray:
    """Directions (W, C) of a side, each as long as its correlation, without those of the means."""
    directions: np.ndarray = model.sides_[side][1] * model.correlations_
    return directions[:, 1:]


def _features(pairs: PairedDataset, name: str) -> np.ndarray:
    """Features (B, W) of one side of all pairs."""
    side = pairs.sides[name]
    assert isinstance(side, FixedSide)
    number = list(pairs.sides).index(name)
    features: np.ndarray = side.features[[row[number] for row in pairs.rows]].double().numpy()
    return features


def _score(model: RegularisedCCA, features: list[np.ndarray], keys: np.ndarray) -> float:
    """Mean reciprocal rank over both ways, among different samples; partners share the sample of the first side."""
    first = [np.unique(side, return_index=True)[1] for side in keys]
    projected = [features[side][at] @ _weighted(model, side) for side, at in enumerate(first)]
    left, right = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in projected)
    asked, given = (keys[0][at] for at in first)
    there = partner_ranking(left, right, asked, given, at=())["mrr"]
    back = partner_ranking(right, left, given, asked, at=())["mrr"]
    return (there + back) / 2
