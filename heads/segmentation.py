"""A class for each pixel of a picture, or for each point of a cloud."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metatx.errors import SampleError, usable
from metatx.head import Head
from metatx.parts.views import mask_in_view
from metatx.reading.masks import IGNORED, SiteForest, is_mask, read_mask, write_masks
from metatx.sequence import TokenSequence

if TYPE_CHECKING:
    from torchmetrics import Metric

    from metatx.tokenizer import Tokenizer

__all__ = ["SegmentationHead"]

NEIGHBOURS = 3  # tokens that a point takes its features from (Qi et al. 2017, arXiv 1706.02413)


class SegmentationHead(Head):
    """Two layers on the grid of tokens, each token giving the classes of a few cells, upsampled to the pixels.

    Tokens of a point cloud give each point the features of the nearest ones, weighted by their inverse distance
    (PointNet++, Qi et al. 2017, arXiv 1706.02413), beside its own coordinates.

    Args:
        dim: Width of the backbone.
        layers: Of the backbone, the last so many, side by side.
        hidden: Width of the layers between.
        cells: Along each side of a token, classes of which it gives (sub-pixel convolution, Shi et al. 2016).
        dropout: On the layer before the last.
        dice: Weight of the soft Dice loss (Milletari et al. 2016) beside cross-entropy; it counts classes alike.
        ignore_index: Code of places that have no class.
        classes: Names of the codes 0, 1, ...; by default the codes that ``fit`` finds.
        places: What a sample's masks label; found by ``fit``.
    """

    primary = "miou"
    dense = True
    pooled_by = ("layers",)
    writes: ClassVar[tuple[str, ...]] = ("",)

    def __init__(
        self,
        dim: int,
        layers: int = 4,
        hidden: int = 256,
        cells: int = 4,
        dropout: float = 0.1,
        dice: float = 0.0,
        ignore_index: int = 255,
        classes: list[Any] | None = None,
        places: Literal["pixels", "points"] | None = None,
    ) -> None:
        super().__init__(dim)
        if min(layers, hidden, cells) < 1:
            raise ValueError(f"layers, hidden and cells are {layers}, {hidden} and {cells}; each is at least 1.")
        self.layers, self.hidden, self.cells, self.dropout = layers, hidden, cells, dropout
        self.dice, self.ignore_index, self.classes = dice, ignore_index, classes or []
        if classes and places:
            self._build(classes, places)

    def _build(self, classes: list[Any], places: str) -> None:
        self.classes, self.options["classes"], self.options["places"] = classes, classes, places
        self.codes = [c if isinstance(c, int) else i for i, c in enumerate(classes)]
        width, count = self.dim * self.layers, len(classes)
        if places == "pixels":
            self.decoder: nn.Module = PixelDecoder(width, self.hidden, self.cells, self.dropout, count)
        else:
            self.decoder = PointDecoder(width, self.hidden, self.dropout, count)

    @classmethod
    def accepts(cls, targets: Sequence[Any]) -> bool:
        """Files of masks, or arrays of codes."""
        return all(is_mask(target) for target in targets[:100])

    def fit(self, targets: Sequence[Any]) -> Self:
        """Collect the codes, where no names were given. Raises ValueError for fewer than two classes."""
        if not len(targets):
            raise ValueError("There are no masks to learn from; name their column with --target.")
        found = usable(_codes_and_axes, targets)
        classes = self.classes or sorted({code for codes, _ in found for code in codes} - {self.ignore_index})
        if len(classes) < 2:
            raise ValueError(f"The masks hold {len(classes)} class; segmentation needs two or more.")
        self._build(classes, "pixels" if found[0][1] == 2 else "points")
        return self

    def encode(self, target: Any) -> Tensor:
        """A mask of codes to class numbers, uint8 (H, W) or (N,), IGNORED where there is no class."""
        mask = read_mask(target)
        lookup = np.full(max(*self.codes, self.ignore_index, int(mask.max(initial=0))) + 1, -1, dtype=np.int16)
        lookup[self.codes] = np.arange(len(self.codes))
        lookup[self.ignore_index] = IGNORED
        numbers = lookup[mask]
        if (numbers < 0).any():
            strange = mask[numbers < 0].flat[0]
            raise SampleError(f"mask holds the code {strange}; expected one of {self.codes} or {self.ignore_index}")
        return torch.from_numpy(numbers.astype(np.uint8))

    def check(self, target: Tensor, tokenizer: "Tokenizer", sample: Any) -> None:
        """Raise SampleError if a mask has not a code for each pixel or point."""
        extent = tokenizer.sites(sample).shape[:-1]
        if tuple(target.shape) != extent:
            raise SampleError(f"mask is {tuple(target.shape)}, but its sample {extent}; expected a code for each place")

    def follow(self, target: Tensor, view: Tensor) -> Tensor:
        """The mask in a view of the picture."""
        return mask_in_view(target, view)

    def pool(self, sequence: TokenSequence) -> Any:
        """Features on the grid (B, h, w, layers * D); sequences of points as they are."""
        if sequence.grid is None:
            return sequence
        if len(sequence.grid) != 2:
            raise ValueError(f"The segmentation head labels pictures and points; these tokens lie on {sequence.grid}.")
        tokens = sequence.unpack()[0][:, sequence.prefix :]
        return tokens.reshape(len(sequence), *sequence.grid, -1)

    def forward(self, pooled: Any) -> Tensor:
        """Logits (B, K, h * cells, w * cells) on the grid, or (B, K, N) of points, N of the largest cloud."""
        logits: Tensor = self.decoder(pooled)
        return logits

    def loss(self, output: Tensor, target: Any) -> Tensor:
        """Mean over the samples of the cross-entropy of their labelled places, and of the Dice loss."""
        return torch.stack([self._loss(*sample) for sample in zip(output, target, strict=True)]).mean()

    def _loss(self, output: Tensor, target: Tensor) -> Tensor:
        logits, known = fitted(output, target.shape).flatten(1), target.flatten() != IGNORED
        if not known.any():
            return logits.sum() * 0
        logits, wanted = logits[:, known].T, target.flatten()[known].long()
        loss = F.cross_entropy(logits, wanted)
        if self.dice:
            shares, truth = logits.softmax(1), F.one_hot(wanted, len(self.classes)).to(logits.dtype)
            overlap = 2 * (shares * truth).sum(0) / (shares.sum(0) + truth.sum(0)).clamp(min=1)
            loss = loss + self.dice * (1 - overlap[truth.any(0)].mean())
        return loss

    def decode(self, output: Tensor, extents: Sequence[tuple[int, ...]] | None = None) -> np.ndarray:
        """Codes of each sample, uint8, with its extent (H, W) or (N,): an array (B,) of arrays."""
        extents = extents or [output.shape[2:]] * len(output)
        codes, decoded = np.array(self.codes, dtype=np.uint8), np.empty(len(output), dtype=object)
        for i, (logits, extent) in enumerate(zip(output, extents, strict=True)):
            decoded[i] = codes[fitted(logits, extent).argmax(0).cpu().numpy()]
        return decoded

    def records(self, output: Tensor, extents: Sequence[tuple[int, ...]] | None = None) -> list[dict[str, Any]]:
        """The share of each class among the places of a sample."""
        masks = self.decode(output, extents)
        return [
            {
                f"share({name})": float((mask == code).mean())
                for name, code in zip(self.classes, self.codes, strict=True)
            }
            for mask in masks
        ]

    def write(self, path: Path, queries: Sequence[Any], answers: Sequence[Any]) -> None:
        """A folder with the codes of each sample: a picture in PNG with a palette, or an array of a cloud's points."""
        write_masks(path, queries, answers)

    def metrics(self) -> "dict[str, Metric]":
        """Intersection over union, mean of the classes, over all labelled places together; and their accuracy.

        A class that is neither there nor found anywhere is not among them.
        """
        from metatx.parts.measures import ClassScores

        k = len(self.classes)
        return {"miou": ClassScores(k, "overlap"), "accuracy": ClassScores(k, "recall", pooled=True)}

    def scored(self, output: Any, target: Any) -> tuple[Tensor, Tensor]:
        """Class numbers of all labelled places, found and true (P,)."""
        found, truth = [], []
        for logits, numbers in zip(output, target, strict=True):
            known = numbers != IGNORED
            found.append(fitted(logits, numbers.shape).argmax(0)[known])
            truth.append(numbers[known].long())
        return torch.cat(found), torch.cat(truth)

    def describe(self, tokenizer: "Tokenizer", sample: Any) -> np.ndarray:
        """The values at each place (H, W, C) or (N, C)."""
        return tokenizer.sites(sample)

    def trivial(self) -> tuple[str, Any]:
        """The most frequent class everywhere."""
        return "majority class", SiteForest(trees=0)

    def classical(self, kind: str, count: int = 1) -> dict[str, Any]:
        """A random forest on the values, the place and the surroundings of each pixel or point."""
        return {"random forest on pixels": SiteForest(trees=50)}

    def estimate(self, estimator: Any, features: Any) -> list[Tensor]:
        """Log-probabilities (K, H, W) or (K, N) of each sample."""
        return [torch.from_numpy(shares) for shares in estimator.predict_log_proba(features, len(self.classes))]


def fitted(logits: Tensor, extent: Sequence[int]) -> Tensor:
    """Logits (K, h, w) upsampled to (K, H, W), or (K, N) without the points that only pad the batch."""
    if logits.ndim == 2:
        return logits[:, : extent[0]]
    if tuple(logits.shape[1:]) == tuple(extent):
        return logits
    return F.interpolate(logits[None], tuple(extent), mode="bilinear", align_corners=False)[0]


def _codes_and_axes(target: Any) -> tuple[list[int], int]:
    """The codes that a mask holds, and 2 for one of a picture, 1 for one of points."""
    mask = read_mask(target)
    return np.unique(mask).tolist(), mask.ndim


class PixelDecoder(nn.Module):
    """Features (B, h, w, C) to logits (B, K, h * cells, w * cells)."""

    def __init__(self, width: int, hidden: int, cells: int, dropout: float, classes: int) -> None:
        super().__init__()
        self.norm, self.narrow = nn.LayerNorm(width), nn.Linear(width, hidden)
        self.mix, self.dropout = nn.Conv2d(hidden, hidden, 3, padding=1), nn.Dropout(dropout)
        self.output, self.cells = _zero_linear(hidden, classes * cells**2), cells

    def forward(self, features: Any) -> Tensor:
        if isinstance(features, TokenSequence):
            raise ValueError("The masks are of pictures, but these tokens lie on no grid.")
        narrow = F.gelu(self.narrow(self.norm(features))).permute(0, 3, 1, 2)
        mixed = F.gelu(self.mix(narrow)) + narrow
        logits = self.output(self.dropout(mixed.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        return F.pixel_shuffle(logits, self.cells)


class PointDecoder(nn.Module):
    """Tokens at ``context["centres"]`` to logits (B, K, N) at ``context["points"]``, zero behind a cloud's last."""

    def __init__(self, width: int, hidden: int, dropout: float, classes: int) -> None:
        super().__init__()
        self.norm, self.narrow = nn.LayerNorm(width), nn.Linear(width, hidden)
        self.mix, self.dropout = nn.Linear(hidden + 3, hidden), nn.Dropout(dropout)
        self.output = _zero_linear(hidden, classes)

    def forward(self, sequence: Any) -> Tensor:
        if not isinstance(sequence, TokenSequence) or "points" not in sequence.context:
            raise ValueError("The masks are of points, but these tokens come with none.")
        tokens = F.gelu(self.narrow(self.norm(sequence.unpack()[0][:, sequence.prefix :])))
        centres, points = sequence.context["centres"], sequence.context["points"]
        logits = [self._logits(*sample) for sample in zip(tokens, centres, points, strict=True)]
        longest = max(len(sample) for sample in logits)
        return torch.stack([F.pad(sample, (0, 0, 0, longest - len(sample))) for sample in logits]).transpose(1, 2)

    def _logits(self, tokens: Tensor, centres: Tensor, points: Tensor) -> Tensor:
        """(N, K) for points (N, 3) from the tokens at centres (G, 3); tokens behind those are of the whole cloud."""
        near = min(NEIGHBOURS, len(centres))
        distances, nearest = torch.cdist(points.float(), centres.float()).topk(near, largest=False)
        weights = 1 / (distances + 1e-6)
        weights = (weights / weights.sum(1, keepdim=True)).to(tokens.dtype)
        features = (tokens[: len(centres)][nearest] * weights[..., None]).sum(1)
        mixed = F.gelu(self.mix(torch.cat([features, points.to(features.dtype)], 1))) + features
        logits: Tensor = self.output(self.dropout(mixed))
        return logits


def _zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """A last layer that starts at zero, so that every class is equally likely."""
    linear = nn.Linear(inputs, outputs)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
