"""Linear layers with a start of their own: at zero, or as a regression on the training data."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["LinearBypass", "silent_linear", "zero_linear"]


def zero_linear(in_features: int, out_features: int) -> nn.Linear:
    """Linear layer whose weights and bias are zero, so that the first output does not depend on the features."""
    linear = nn.Linear(in_features, out_features)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def silent_linear(in_features: int, out_features: int) -> nn.Linear | None:
    """Linear map without bias that starts at zero; None where there is nothing to map."""
    if not in_features:
        return None
    linear = nn.Linear(in_features, out_features, bias=False)
    nn.init.zeros_(linear.weight)
    return linear


class LinearBypass(nn.Linear):
    """Linear map from the last steps of each channel to a forecast, past the backbone (DLinear, arXiv 2205.13504).

    It starts at zero. Weights are shared by all channels.

    Args:
        steps: Number of last steps that it reads, L.
        outputs: Numbers it gives for a channel, H * Q.
    """

    def __init__(self, steps: int, outputs: int) -> None:
        super().__init__(steps, outputs)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, series: Tensor) -> Tensor:
        """Series (B, C, T) to (B, C, H * Q); a series shorter than L is taken to be 0 before its first step."""
        recent = series[..., -self.in_features :]
        recent = F.pad(recent, (self.in_features - recent.shape[-1], 0))
        return super().forward(recent)

    @staticmethod
    def start(weights: np.ndarray, quantiles: int = 1) -> dict[str, Tensor]:
        """``weight`` and ``bias`` of a layer that starts as a regression with the same answer for each quantile.

        Args:
            weights: Weights of the regression (L + 1, H), the last row the bias.
            quantiles: Number of quantiles, Q.
        """
        repeated = torch.as_tensor(weights).repeat_interleave(quantiles, dim=1).float()
        return {"weight": repeated[:-1].T, "bias": repeated[-1]}
