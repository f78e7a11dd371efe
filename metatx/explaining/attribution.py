"""Scores of a sample's tokens, without each or by gradients, and the deletion test that says whether to believe."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metatx.encoding.collate import widened
from metatx.model import Model
from metatx.progress import bar
from metatx.sequence import TokenSequence, joined

__all__ = ["Deletion", "Scorer", "deletion", "integrated_gradients", "occlusion"]

AT_ONCE = 4096  # tokens of a pass
STEPS = 32  # of the path from no tokens to all
POINTS = 11  # of a deletion curve
ORDERS = 19  # random orders; that none of them is better happens to one random order of twenty


@dataclass(frozen=True)
class Deletion:
    """Deletion test: how the answer's score falls when tokens are left out, those of the highest scores first.

    Attributes:
        shares: Share of the tokens that is left out, (P,), from 0 to 1.
        curve: Score of the answer then, (P,).
        random: The same for random orders, (R, P).
        area: Mean of the curve; the smaller, the better the scores.
        random_areas: Means of the random curves, (R,).
        believable: True if the score falls faster than in the mean of the random orders, and than in each of them.
    """

    shares: np.ndarray
    curve: np.ndarray
    random: np.ndarray

    @property
    def area(self) -> float:
        """Mean of the curve."""
        return float(_area(self.shares, self.curve))

    @property
    def random_areas(self) -> np.ndarray:
        """Means of the random curves, (R,)."""
        return _area(self.shares, self.random)

    @property
    def believable(self) -> bool:
        """True if the score falls faster than in the mean of the random orders, and than in each of them."""
        slack = 1e-4 * float(np.ptp(np.concatenate([self.curve, self.random.ravel()])))
        return self.area < self.random_areas.mean() - slack and not (self.random_areas < self.area - slack).any()


class Scorer:
    """Score of a model's answer, as a function of the tokens that are there.

    In the place of a token that is left out stands the mean of those that are there, which says nothing of its own: so
    lengths, grids and inputs stay as they are. Where none is there, all are zero.

    Args:
        model: Model that answers.
        sequence: Tokens of one sample, as they enter the backbone.
        target: Answer whose score it is, see ``Head.score``; None for the model's own answer.

    Attributes:
        free: Numbers of the tokens that may be left out, (F,): all but those that a fusion adds.
    """

    def __init__(self, model: Model, sequence: TokenSequence, target: Any = None) -> None:
        self.model = model
        self.sequence = sequence
        trailing = sequence.trailing or (0,) * len(sequence.lengths)
        flags = [
            at < length - behind
            for length, behind in zip(sequence.lengths, trailing, strict=True)
            for at in range(length)
        ]
        self.free = torch.tensor(flags).nonzero().flatten()
        with torch.no_grad():
            output = self._output(sequence)
        self.target = model.head.explained(output) if target is None else target
        self.score = model.head.score(output, self.target).item()

    def _output(self, sequence: TokenSequence) -> Tensor:
        model = self.model
        read = model.backbone(sequence, layers=model.head.layers, adapter=model.adapter, exchange=model.fusion)
        return widened(model.output(read))

    def of_embeddings(self, embeddings: Tensor) -> Tensor:
        """Scores (n,) of n variants of the tokens, (n, T, D)."""
        variants = replace(joined([self.sequence] * len(embeddings)), embeddings=embeddings.flatten(0, 1))
        return self.model.head.score(self._output(variants), self.target)

    def chunks(self, count: int) -> Iterator[range]:
        """Divide so many variants into those of a pass."""
        size = max(1, AT_ONCE // len(self.sequence.embeddings))
        for start in range(0, count, size):
            yield range(start, min(start + size, count))

    @torch.no_grad()
    def without(self, gone: Tensor, what: str = "") -> np.ndarray:
        """Scores (n,) without some of the free tokens, bool (n, F), True = left out; ``what`` names them in a bar."""
        tokens = self.sequence.embeddings
        scores = []
        for chunk in bar(list(self.chunks(len(gone))), what):
            kept = 1.0 - gone[list(chunk)].to(tokens)  # (n, F)
            rest = kept @ tokens[self.free] / kept.sum(1, keepdim=True).clamp(min=1)
            variants = tokens.repeat(len(chunk), 1, 1)
            variants[:, self.free] = torch.where(kept[..., None] > 0, tokens[self.free], rest[:, None])
            scores.append(self.of_embeddings(variants).float().cpu())
        return torch.cat(scores).numpy()


def occlusion(scorer: Scorer) -> np.ndarray:
    """Fall of the answer's score without each token, (F,) (Zeiler and Fergus 2014, arXiv 1311.2901)."""
    fallen: np.ndarray = scorer.score - scorer.without(torch.eye(len(scorer.free), dtype=torch.bool), "occlusion")
    return fallen


def integrated_gradients(scorer: Scorer) -> np.ndarray:
    """Gradients along the way from the tokens' mean to the tokens, times their difference, (F,).

    They sum to about the difference of the scores at both ends (Sundararajan et al. 2017, arXiv 1703.01365). A way from
    zeros misled on rows of Adult: behind a LayerNorm its gradients vanish, and the order was as good as a random one.
    """
    tokens = scorer.sequence.embeddings.detach()
    way = tokens - tokens[scorer.free].mean(0)
    total = torch.zeros_like(tokens)
    ways = (torch.arange(STEPS, device=tokens.device) + 0.5) / STEPS
    free = torch.zeros(len(tokens), 1, device=tokens.device)
    free[scorer.free] = 1.0
    for chunk in bar(list(scorer.chunks(STEPS)), "gradients"):
        scale = ways[list(chunk)][:, None, None]
        variants = (tokens - way * free * (1 - scale)).requires_grad_(True)
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(scorer.of_embeddings(variants).sum(), variants)
        total += gradient.sum(0)
    scores: np.ndarray = (total * way / STEPS).sum(1)[scorer.free].float().cpu().numpy()
    return scores


METHODS: dict[str, Callable[[Scorer], np.ndarray]] = {
    "occlusion": occlusion,
    "integrated_gradients": integrated_gradients,
}


def deletion(scorer: Scorer, scores: np.ndarray, seed: int = 0) -> Deletion:
    """Deletion test of scores (F,) (Samek et al. 2017, arXiv 1509.06321; Petsiuk et al. 2018, arXiv 1806.07421)."""
    count = len(scores)
    rng = np.random.default_rng(seed)
    orders = [np.argsort(-scores, kind="stable"), *(rng.permutation(count) for _ in range(ORDERS))]
    sizes = np.unique(np.linspace(0, count, POINTS).round().astype(int))
    gone = torch.zeros(len(orders), len(sizes), count, dtype=torch.bool)
    for row, order in enumerate(orders):
        for column, size in enumerate(sizes):
            gone[row, column, order[:size]] = True
    curves = scorer.without(gone.flatten(0, 1), "deletion").reshape(len(orders), len(sizes))
    return Deletion(sizes / max(count, 1), curves[0], curves[1:])


def _area(shares: np.ndarray, curves: np.ndarray) -> np.ndarray:
    area: np.ndarray = np.trapezoid(curves, shares, axis=-1)
    return area
