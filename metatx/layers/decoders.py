"""Decoders of masks: from tokens to class logits of pixels, or of points."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metatx.layers.linear import zero_linear
from metatx.sequence import TokenSequence

__all__ = ["PixelDecoder", "PointDecoder", "resize_logits"]

NEIGHBOURS = 3  # tokens that a point takes its features from (Qi et al. 2017, arXiv 1706.02413)


class PixelDecoder(nn.Module):
    """Two layers on the grid of tokens, each token giving the classes of ``cells`` x ``cells`` places.

    Args:
        width: Width of the features, C.
        hidden: Width of the layers between.
        cells: Places along each side of a token (sub-pixel convolution, Shi et al. 2016).
        dropout: Dropout before the last layer, 0 to 1.
        classes: Number of classes, K.
    """

    def __init__(self, width: int, hidden: int, cells: int, dropout: float, classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.narrow = nn.Linear(width, hidden)
        self.mix = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.output = zero_linear(hidden, classes * cells**2)
        self.cells = cells

    def forward(self, features: Any) -> Tensor:
        """Features (B, h, w, C) to logits (B, K, h * cells, w * cells). Raises ValueError for tokens without a grid."""
        if isinstance(features, TokenSequence):
            raise ValueError("The masks are of pictures, but these tokens lie on no grid.")
        narrow = F.gelu(self.narrow(self.norm(features))).permute(0, 3, 1, 2)
        mixed = F.gelu(self.mix(narrow)) + narrow
        logits = self.output(self.dropout(mixed.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        return F.pixel_shuffle(logits, self.cells)


class PointDecoder(nn.Module):
    """Two layers on points, each with the features of the nearest tokens, weighted by their inverse distance.

    It is the feature propagation of PointNet++ (Qi et al. 2017, arXiv 1706.02413), beside a point's own coordinates.

    Args:
        width: Width of the tokens, C.
        hidden: Width of the layers between.
        dropout: Dropout before the last layer, 0 to 1.
        classes: Number of classes, K.
    """

    def __init__(self, width: int, hidden: int, dropout: float, classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.narrow = nn.Linear(width, hidden)
        self.mix = nn.Linear(hidden + 3, hidden)
        self.dropout = nn.Dropout(dropout)
        self.output = zero_linear(hidden, classes)

    def forward(self, sequence: Any) -> Tensor:
        """Tokens at ``context["centres"]`` to logits (B, K, N) at ``context["points"]``, N of the largest cloud.

        Logits behind the last point of a smaller cloud are 0.

        Raises:
            ValueError: If the tokens come without points.
        """
        if not isinstance(sequence, TokenSequence) or "points" not in sequence.context:
            raise ValueError("The masks are of points, but these tokens come with none.")
        tokens = F.gelu(self.narrow(self.norm(sequence.unpack()[0][:, sequence.prefix :])))
        samples = zip(tokens, sequence.context["centres"], sequence.context["points"], strict=True)
        logits = [self._logits(*sample) for sample in samples]
        longest = max(len(sample) for sample in logits)
        return torch.stack([F.pad(sample, (0, 0, 0, longest - len(sample))) for sample in logits]).transpose(1, 2)

    def _logits(self, tokens: Tensor, centres: Tensor, points: Tensor) -> Tensor:
        """Logits (N, K) of points (N, 3), from tokens at centres (G, 3); tokens behind those are of the whole cloud."""
        near = min(NEIGHBOURS, len(centres))
        distances, nearest = torch.cdist(points.float(), centres.float()).topk(near, largest=False)
        weights = 1 / (distances + 1e-6)
        weights = (weights / weights.sum(1, keepdim=True)).to(tokens.dtype)
        features = (tokens[: len(centres)][nearest] * weights[..., None]).sum(1)
        mixed = F.gelu(self.mix(torch.cat([features, points.to(features.dtype)], 1))) + features
        logits: Tensor = self.output(self.dropout(mixed))
        return logits


def resize_logits(logits: Tensor, extent: tuple[int, ...]) -> Tensor:
    """Logits (K, h, w) upsampled to (K, H, W), or (K, N) without the points that only pad the batch.

    Args:
        logits: Logits of one sample.
        extent: (H, W) of a picture, (N,) of points.
    """
    if logits.ndim == 2:
        return logits[:, : extent[0]]
    if tuple(logits.shape[1:]) == tuple(extent):
        return logits
    return F.interpolate(logits[None], tuple(extent), mode="bilinear", align_corners=False)[0]
