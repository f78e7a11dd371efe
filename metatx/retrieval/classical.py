"""Lines that stand beside an alignment: towers without training, and CCA of classical or of frozen features."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from metatx.baselines.cca import RegularisedCCA
from metatx.baselines.described import NumbersOfFeatures
from metatx.encoding.head_choice import build_tokenizer
from metatx.metrics.retrieval import partner_ranking
from metatx.pretraining.alignment import Alignment
from metatx.pretraining.towers import ExternalTower, Tower
from metatx.progress import tell
from metatx.registry import all_options

__all__ = ["CanonicalLine", "Features", "classical_features", "frozen_features", "untrained"]

STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
MOST = 20_000  # pairs that a model learns from; of more, as many are drawn
HELD_OUT = 5  # each fifth pair of the training split chooses where there is no validation split

Features = Callable[[Mapping[str, Sequence[Any]]], dict[str, np.ndarray]]  # samples by split to features (N, F)


def untrained(alignment: Alignment) -> Alignment:
    """Alignment of the same modalities with first, random weights, and statistics as they are; of the same backbone."""
    fresh = Alignment(alignment.backbone, alignment.size)
    for modality in alignment.towers:
        tower = alignment.aligned(modality)
        if isinstance(tower, ExternalTower):
            fresh.towers[modality] = tower
            continue
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            tokenizer = build_tokenizer(modality, alignment.backbone, all_options(tower.tokenizer))
            tokenizer.restore(tower.tokenizer.fitted)
        tokenizer.load_state_dict(dict(tower.tokenizer.named_buffers()), strict=False)
        fresh.towers[modality] = Tower(alignment.backbone, tokenizer, alignment.size, tower.pooling)
    return fresh.to(alignment.backbone.device).eval()


def classical_features(alignment: Alignment, modality: str) -> Features:
    """Function to the classical features of a modality; for an anchor of another model they are its vectors."""
    tower = alignment.aligned(modality)
    if isinstance(tower, ExternalTower):
        return lambda splits: {split: alignment.features(modality, part) for split, part in splits.items()}
    describe = tower.tokenizer.baseline_features

    def features(splits: Mapping[str, Sequence[Any]]) -> dict[str, np.ndarray]:
        rows = {split: [describe(sample) for sample in part] for split, part in splits.items()}
        numbers = NumbersOfFeatures().fit(rows["train"])
        return {split: numbers.transform(part) for split, part in rows.items()}

    return features


def frozen_features(fresh: Alignment, modality: str) -> Features | None:
    """Function to features that nobody trained here: of another model, or of the backbone behind its own stem.

    Args:
        fresh: Alignment without training, see ``untrained``.
        modality: Aligned modality.

    Returns:
        The function; None where the tokenizer has random weights.
    """
    tower = fresh.aligned(modality)
    if not isinstance(tower, ExternalTower) and not tower.tokenizer.uses_stem_tokens:
        return None
    return lambda splits: {split: fresh.features(modality, part) for split, part in splits.items()}


class CanonicalLine:
    """Regularised CCA of any two of several sides, each with a strength that unseen pairs choose.

    Args:
        sides: Features (N, F) by split and name: ``train``, ``test``, and where there is one ``validation``.
        numbers: Number of the pair of each sample (N,), by split and name.
    """

    def __init__(
        self, sides: Mapping[str, Mapping[str, np.ndarray]], numbers: Mapping[str, Mapping[str, np.ndarray]]
    ) -> None:
        self.sides = sides
        self.numbers = numbers
        self.strengths: dict[frozenset[str], float | tuple[float, float]] = {}
        self._models: dict[frozenset[str], tuple[RegularisedCCA, list[str]]] = {}

    def vectors(self, query: str, answer: str) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors of the test samples of two names."""
        ways = frozenset((query, answer))
        if ways not in self._models:
            self._models[ways] = (self._fitted(query, answer), [query, answer])
        model, order = self._models[ways]
        left, right = (model.transform(self.sides["test"][name], order.index(name)) for name in (query, answer))
        return left, right

    def _fitted(self, left: str, right: str) -> RegularisedCCA:
        rows = matched(self.numbers["train"][left], self.numbers["train"][right])
        if len(rows) > MOST:
            tell(f"CCA learns from {MOST:,} of {len(rows):,} pairs of {left} and {right}.")
            rows = rows[np.random.default_rng(0).choice(len(rows), MOST, replace=False)]
        pairs = [self.sides["train"][name][rows[:, side]] for side, name in enumerate((left, right))]
        if "validation" in self.sides:
            models = RegularisedCCA.path(pairs[0], pairs[1], STRENGTHS)
            unseen = {name: self.sides["validation"][name] for name in (left, right)}
            numbers = self.numbers["validation"]
        else:
            held = self.numbers["train"][left][rows[:, 0]] % HELD_OUT == 0
            models = RegularisedCCA.path(pairs[0][~held], pairs[1][~held], STRENGTHS)
            unseen = {name: side[held] for name, side in zip((left, right), pairs, strict=True)}
            numbers = dict.fromkeys((left, right), self.numbers["train"][left][rows[held, 0]])
        scores = [_score(model, unseen, numbers, (left, right)) for model in models]
        best = models[int(np.argmax(scores))]
        self.strengths[frozenset((left, right))] = best.strength
        return best if "validation" in self.sides else RegularisedCCA(best.strength).fit(*pairs)


def matched(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Positions of all partners (P, 2), from the numbers of the pairs of both sides. Raises ValueError without any."""
    places: dict[int, list[int]] = {}
    for at, number in enumerate(right.tolist()):
        places.setdefault(number, []).append(at)
    rows = [(at, place) for at, number in enumerate(left.tolist()) for place in places.get(number, ())]
    if len(rows) < HELD_OUT:
        raise ValueError(f"The training split has {len(rows)} pairs of these modalities; CCA needs {HELD_OUT}.")
    return np.array(rows)


def _score(
    model: RegularisedCCA,
    features: Mapping[str, np.ndarray],
    numbers: Mapping[str, np.ndarray],
    names: tuple[str, str],
) -> float:
    """Mean reciprocal rank over both ways."""
    left, right = (model.transform(features[name], side) for side, name in enumerate(names))
    asked, given = (numbers[name] for name in names)
    there = partner_ranking(left, right, asked, given, at=())["mrr"]
    back = partner_ranking(right, left, given, asked, at=())["mrr"]
    return (there + back) / 2
