"""Novelty: how unusual a sample is beside those that a task was trained and validated on."""

from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["Distance", "Novelty", "NoveltyKind", "fitted_distance"]

NoveltyKind = Literal["mahalanobis", "energy"]
LEVELS = 1001  # quantiles of the validation split's scores that are kept: shares are told to about a thousandth


class Distance(nn.Module):
    """Mahalanobis distance of feature vectors to the nearest of K means, with one covariance for all.

    With a mean for each class it is that of Lee et al. (2018, arXiv 1807.03888); with K = 1 that to all samples. The
    factor of the covariance takes D * D floats: 147 kB for vectors of 192 numbers, 2.4 MB for 768.

    Args:
        means: Number of means, K.
        dim: Width of the vectors, D.
    """

    means: Tensor
    whitening: Tensor

    def __init__(self, means: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(means, dim))
        self.register_buffer("whitening", torch.zeros(dim, dim))

    def forward(self, vectors: Tensor) -> Tensor:
        """Vectors (B, D) to distances (B,), float32."""
        distances: Tensor = torch.cdist(vectors.float() @ self.whitening, self.means @ self.whitening).amin(1)
        return distances


def fitted_distance(vectors: Tensor, groups: Tensor) -> Distance:
    """Fit means of groups, and the covariance around them, shrunk as Ledoit and Wolf (2004) do.

    Args:
        vectors: Features of the training split, (N, D).
        groups: Number of each vector's group, int64 (N,), from 0; each number is there.
    """
    from sklearn.covariance import LedoitWolf

    vectors = vectors.double().cpu()
    counts = torch.bincount(groups)
    means = torch.zeros(len(counts), vectors.shape[1], dtype=torch.float64).index_add_(0, groups, vectors)
    means /= counts[:, None]
    around = vectors - means[groups]
    precision = torch.from_numpy(LedoitWolf(assume_centered=True).fit(around.numpy()).get_precision())
    distance = Distance(*means.shape)
    distance.means.copy_(means)
    distance.whitening.copy_(torch.linalg.cholesky(precision))
    return distance


class Novelty(nn.Module):
    """Share of a validation split whose samples were less unusual than a sample, by a score of how unusual each is.

    Args:
        distance: Distance of features, which is the score. None: the score is the energy of the head's outputs (Liu et
            al. 2020, arXiv 2010.03759).
    """

    quantiles: Tensor

    def __init__(self, distance: Distance | None) -> None:
        super().__init__()
        self.distance = distance
        self.register_buffer("quantiles", torch.zeros(LEVELS))

    @property
    def kind(self) -> NoveltyKind:
        """Name of the score."""
        return "energy" if self.distance is None else "mahalanobis"

    def calibrate(self, scores: Tensor) -> None:
        """Keep quantiles of the scores of a validation split, (N,)."""
        levels = torch.linspace(0, 1, LEVELS, dtype=torch.float64)
        self.quantiles.copy_(torch.quantile(scores.double().cpu(), levels))

    def forward(self, scores: Tensor) -> Tensor:
        """Scores (B,), larger where a sample is more unusual, to shares (B,) between 0 and 1."""
        return torch.searchsorted(self.quantiles, scores.to(self.quantiles).contiguous()) / LEVELS

    def card_note(self) -> str:
        """Sentence for the model card."""
        return (
            f"Records hold `novelty`: the share of the validation split that was less unusual ({self.kind}); one near "
            "1 says that the sample is unlike those that the task was validated on."
        )
