"""What pooled features pass through before a head's own layers."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

__all__ = ["BatchNorm", "Norm", "feature_norm"]

Norm = Literal["layer", "batch"]
MOMENTUM = 0.1  # weight of the last batch in what prediction uses


class BatchNorm(nn.Module):
    """Each feature by its mean and deviation over the batch (Ioffe & Szegedy 2015, arXiv 1502.03167), with no weights.

    The batch is that of all processes together, on CPUs too, where torch's SyncBatchNorm does not run. Prediction
    uses running averages, so there a sample's result depends on no other.

    Args:
        width: Features.
        eps: Added to the variance.
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
        """(B, width) to the same, float32."""
        features = features.float()
        mean, variance = self.mean, self.variance
        count = _over_processes(features.new_tensor(len(features))) if self.training else 0
        if count > 1:  # one sample has no deviation
            mean = _over_processes(features.sum(0)) / count
            variance = _over_processes((features - mean).square().sum(0)) / count
            self._average(mean.detach(), variance.detach() * count / (count - 1))
        return (features - mean) * (variance + self.eps).rsqrt()

    def _average(self, mean: Tensor, variance: Tensor) -> None:
        self.batches += 1
        weight = max(MOMENTUM, 1 / self.batches.item())  # the first few count alike
        self.mean.lerp_(mean, weight)
        self.variance.lerp_(variance, weight)


def _over_processes(value: Tensor) -> Tensor:
    """Its sum over the processes of a run, through which gradients go back to each."""
    several = torch.distributed.is_available() and torch.distributed.is_initialized()
    return all_reduce(value) if several else value  # type: ignore[no-untyped-call]


def feature_norm(norm: Norm, width: int) -> nn.Module:
    """Norm of pooled features (B, width): ``"layer"``, a LayerNorm; ``"batch"``, a ``BatchNorm``."""
    norms: dict[Norm, type[nn.Module]] = {"layer": nn.LayerNorm, "batch": BatchNorm}
    return norms[norm](width)
