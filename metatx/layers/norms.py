"""Normalisation of pooled features before a head's own layers."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

__all__ = ["BatchNorm", "Norm", "feature_norm"]

Norm = Literal["layer", "batch"]
MOMENTUM = 0.1  # weight of the last batch in the running averages


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe & Szegedy 2015, arXiv 1502.03167) without learned weights.

    In training, mean and standard deviation are those of the batches of all processes together, on CPUs too, where
    torch's SyncBatchNorm does not run. Prediction uses running averages, so that a sample's result depends on no other.

    Args:
        width: Number of features.
        eps: Constant added to the variance.
    """

    mean: Tensor
    variance: Tensor
    batches: Tensor

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def forward(self, features: Tensor) -> Tensor:
        """Normalise features (B, width); returns float32."""
        features = features.float()
        mean = self.mean
        variance = self.variance
        count = _over_processes(features.new_tensor(len(features))) if self.training else 0
        if count > 1:  # one sample has no standard deviation
            mean = _over_processes(features.sum(0)) / count
            variance = _over_processes((features - mean).square().sum(0)) / count
            self._average(mean.detach(), variance.detach() * count / (count - 1))
        return (features - mean) * (variance + self.eps).rsqrt()

    def _average(self, mean: Tensor, variance: Tensor) -> None:
        self.batches += 1
        weight = max(MOMENTUM, 1 / self.batches.item())  # a plain mean over the first batches
        self.mean.lerp_(mean, weight)
        self.variance.lerp_(variance, weight)


def _over_processes(value: Tensor) -> Tensor:
    """Sum of a value over the processes of a run, differentiable in each."""
    several = torch.distributed.is_available() and torch.distributed.is_initialized()
    return all_reduce(value) if several else value  # type: ignore[no-untyped-call]


def feature_norm(norm: Norm, width: int) -> nn.Module:
    """Norm of pooled features (B, width): ``"layer"``, a LayerNorm; ``"batch"``, a ``BatchNorm``."""
    norms: dict[Norm, type[nn.Module]] = {"layer": nn.LayerNorm, "batch": BatchNorm}
    return norms[norm](width)
