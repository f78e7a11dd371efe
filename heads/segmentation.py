"""Segmentation: a class for each pixel of an image, or for each point of a cloud."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metatx.baselines.segmentation import SiteForest
from metatx.errors import SampleError, read_all
from metatx.head import Head
from metatx.layers.decoders import PixelDecoder, PointDecoder, resize_logits
from metatx.layers.losses import dice_loss
from metatx.layers.views import mask_in_view
from metatx.progress import tell
from metatx.reading.segmentation import (
    GREY,
    IGNORED,
    NO_LABEL,
    MaskSurvey,
    coloured,
    is_mask,
    packed,
    read_colours,
    read_mask,
    survey,
    unpacked,
)
from metatx.sequence import TokenSequence
from metatx.writing.masks import write_masks

if TYPE_CHECKING:
    from torchmetrics import Metric

    from metatx.tokenizer import Tokenizer

__all__ = ["SegmentationHead"]

MUCH = 0.05  # share of all places: if more are ignored, it is told


class SegmentationHead(Head):
    """Two layers on the grid of tokens, each token giving the classes of a few cells, upsampled to the pixels.

    Tokens of a point cloud give each point the features of the nearest ones, weighted by their inverse distance
    (PointNet++, Qi et al. 2017, arXiv 1706.02413), beside its own coordinates.

    Args:
        dim: Width of the backbone.
        layers: Number of the backbone's last blocks that are read, side by side.
        hidden: Width of the layers between.
        cells: Number of cells along each side of a token, each with a class of its own (sub-pixel convolution, Shi et
            al. 2016).
        dropout: Dropout before the last layer, 0 to 1.
        dice: Weight of the soft Dice loss (Milletari et al. 2016) beside cross-entropy; it counts classes alike.
        ignore_index: Code of places that have no class, or colour [red, green, blue]; None where all have one. Where
            masks hold only one other code, both are classes, unless this option is given. -1 is never a class.
        classes: Names of the classes, in the order of their codes 0, 1, ... or colours. None: the codes in the masks of
            training, or the colours as ``#rrggbb``, sorted.

    Raises:
        ValueError: If a width or number is too small.

    Attributes:
        classes: Names of the classes, in the order of the outputs.
        codes: Code of each class; 0, 1, ... where masks are in colours.
        colours: Colours of the classes, uint8 (K, 3), where masks are in colours, else None.
        ignore_index: Value of the option; None if ``fit`` found that the code it names is a class.
    """

    primary_metric = "miou"
    tunable = {"dropout": (0.0, 0.1, 0.3), "dice": (0.0, 1.0)}
    dense = True
    per_token = True
    pool_options = ("layers",)
    output_suffixes: ClassVar[tuple[str, ...]] = ("",)

    def __init__(
        self,
        dim: int,
        layers: int = 4,
        hidden: int = 256,
        cells: int = 4,
        dropout: float = 0.1,
        dice: float = 0.0,
        ignore_index: int | list[int] | None = 255,
        classes: list[Any] | None = None,
    ) -> None:
        super().__init__(dim)
        if min(layers, hidden, cells) < 1:
            raise ValueError(f"layers, hidden and cells are {layers}, {hidden} and {cells}; each is at least 1.")
        self.layers = layers
        self.hidden = hidden
        self.cells = cells
        self.dropout = dropout
        self.dice = dice
        self.ignore_index = ignore_index
        self.classes = classes or []

    def build(
        self,
        classes: list[Any],
        places: Literal["pixels", "points"],
        codes: list[Any] | None = None,
        ignore_index: int | list[int] | None = 255,
    ) -> None:
        """Make the decoder.

        Args:
            classes: Names of the classes.
            places: Places that masks label.
            codes: Code of each class, or its colour [red, green, blue]; None: names that are numbers, else 0, 1, ...
            ignore_index: Code or colour of places that have no class.
        """
        self.classes = classes
        self.ignore_index = ignore_index
        codes = codes or _numbers(classes)
        self.colours = unpacked(packed(codes)) if isinstance(codes[0], list) else None
        self.codes = list(range(len(codes))) if self.colours is not None else codes
        width = self.dim * self.layers
        count = len(classes)
        if places == "pixels":
            self.decoder: nn.Module = PixelDecoder(width, self.hidden, self.cells, self.dropout, count)
        else:
            self.decoder = PointDecoder(width, self.hidden, self.dropout, count)

    @classmethod
    def accepts(cls, targets: Sequence[Any]) -> bool:
        """Files of masks, or arrays of codes."""
        return all(is_mask(target) for target in targets[:100])

    def fit(self, targets: Sequence[Any]) -> dict[str, Any]:
        """Codes or colours of the classes, as ``build`` takes them; places that are ignored are told.

        Raises:
            ValueError: If there are fewer than two classes, or more than 255.
        """
        if not len(targets):
            raise ValueError("There are no masks to learn from; name their column with --target.")
        held = read_all(survey, targets)
        by_colour = coloured(held)
        ignore_index = self.ignore_index
        ignored = ignore_index if isinstance(ignore_index, int) and not by_colour else None
        if by_colour and isinstance(ignore_index, list):
            ignored = int(packed(ignore_index))
        counts = _counts(held, by_colour)
        keys = sorted(counts.keys() - {ignored, NO_LABEL})
        share = 0.0 if ignored is None else counts[ignored] / counts.total()
        chosen = "ignore_index" in self.options
        if ignored is not None and share and not chosen and (len(keys) == 1 or ignored in self.classes):
            tell(f"Code {ignored} of the masks is a class beside {keys}; --head.ignore-index {ignored} makes it none.")
            keys = sorted([*keys, ignored])
            ignore_index = None
        elif share > MUCH:
            tell(
                f"{ignore_index} fills {share:.0%} of the masks and is no class (ignore_index); if it is one, "
                "give --head.ignore-index null, or another code."
            )
        names, codes = self._named(keys, by_colour)
        if not 2 <= len(names) <= IGNORED:
            found = f"{len(names)} class{'es' if len(names) > 1 else ''}, {str(names):.40}"
            raise ValueError(f"The masks hold {found}; segmentation needs two or more, to {IGNORED}.")
        places = "pixels" if held[0].axes == 2 else "points"
        return {"classes": names, "places": places, "codes": codes, "ignore_index": ignore_index}

    def _named(self, keys: list[int], by_colour: bool) -> tuple[list[Any], list[Any]]:
        """Names and codes of the classes. Raises ValueError where there is not one name for each colour.

        Args:
            keys: Codes, or packed colours, that the masks hold, sorted.
            by_colour: True where they are colours.
        """
        if not by_colour and not self.classes:
            return keys, keys
        if not by_colour:
            numbers = _numbers(self.classes)
            # As many names as codes that do not count from 0, such as 0 and 255, are of those.
            other = len(keys) == len(numbers) and not set(keys) <= set(numbers)
            return self.classes, keys if other else numbers
        colours = unpacked(keys).tolist()
        hexes = [f"#{key:06x}" for key in keys]
        names = self.classes or hexes
        if len(names) != len(colours):
            raise ValueError(f"The masks hold {len(colours)} colours, but {len(names)} names are given: {hexes}.")
        said = hexes if names == hexes else [f"{colour} {name}" for colour, name in zip(hexes, names, strict=True)]
        tell(f"The masks say classes by {len(said)} colours: {', '.join(said[:20])}.")
        return names, colours

    def encode(self, target: Any) -> Tensor:
        """A mask of codes to class numbers, uint8 (H, W) or (N,), IGNORED where there is no class."""
        if self.colours is not None:
            return self._encode_colours(read_colours(target))
        mask = read_mask(target)
        # The last is that of -1.
        lookup = np.full(257, -1, dtype=np.int16)
        lookup[self.codes] = np.arange(len(self.codes))
        lookup[[NO_LABEL] if self.ignore_index is None else [self.ignore_index, NO_LABEL]] = IGNORED
        numbers = lookup[mask]
        if (numbers < 0).any():
            strange = np.unique(mask[numbers < 0])
            more = f" and {len(strange) - 1} others" if len(strange) > 1 else ""
            known = f"{self.codes}" if self.ignore_index is None else f"{self.codes} or {self.ignore_index}"
            raise SampleError(f"mask holds the code {strange[0]}{more}; expected one of {known}")
        return torch.from_numpy(numbers.astype(np.uint8))

    def _encode_colours(self, mask: np.ndarray) -> Tensor:
        """Packed colours (H, W) to class numbers, as ``encode``."""
        keys = packed(self.colours)
        numbers = np.searchsorted(keys, mask).clip(max=len(keys) - 1)
        ignored = mask == NO_LABEL
        if isinstance(self.ignore_index, list):
            ignored |= mask == packed(self.ignore_index)
        strange = np.unique(mask[(keys[numbers] != mask) & ~ignored])
        if len(strange):
            more = f" and {len(strange) - 1} others" if len(strange) > 1 else ""
            raise SampleError(f"mask holds the colour #{strange[0]:06x}{more}, which the masks of training have not")
        return torch.from_numpy(np.where(ignored, IGNORED, numbers).astype(np.uint8))

    def check(self, target: Tensor, tokenizer: "Tokenizer", sample: Any) -> None:
        """Raise SampleError if a mask has not a code for each pixel or point."""
        extent = tokenizer.dense_values(sample).shape[:-1]
        if tuple(target.shape) != extent:
            raise SampleError(f"mask is {tuple(target.shape)}, but its sample {extent}; expected a code for each place")

    def transform_target(self, target: Tensor, view: Tensor) -> Tensor:
        """Mask (H, W) as it is in a view of the picture."""
        return mask_in_view(target, view)

    def pool(self, sequence: TokenSequence) -> Any:
        """Features on the grid (B, h, w, layers * D); sequences of points as they are."""
        if sequence.grid is None:
            return sequence
        if len(sequence.grid) != 2:
            raise ValueError(f"The segmentation head labels pictures and points; these tokens lie on {sequence.grid}.")
        tokens = sequence.unpack()[0][:, sequence.num_prefix_tokens :]
        return tokens.reshape(tokens.shape[0], *sequence.grid, -1)

    def forward(self, pooled: Any) -> Tensor:
        """Logits (B, K, h * cells, w * cells) on the grid, or (B, K, N) of points, N of the largest cloud."""
        logits: Tensor = self.decoder(pooled)
        return logits

    def loss(self, output: Tensor, target: Any) -> Tensor:
        """Mean over the samples of the cross-entropy of their labelled places, and of ``dice`` times the Dice loss."""
        return torch.stack([self._loss(*sample) for sample in zip(output, target, strict=True)]).mean()

    def _loss(self, output: Tensor, target: Tensor) -> Tensor:
        logits = resize_logits(output, target.shape).flatten(1)
        known = target.flatten() != IGNORED
        if not known.any():
            return logits.sum() * 0
        logits = logits[:, known].T
        wanted = target.flatten()[known].long()
        loss = F.cross_entropy(logits, wanted)
        return loss + self.dice * dice_loss(logits, wanted) if self.dice else loss

    def decode(self, output: Tensor, extents: Sequence[tuple[int, ...]] | None = None) -> np.ndarray:
        """Codes of each sample, uint8, with its extent (H, W) or (N,): an array (B,) of arrays.

        Where masks are in colours, numbers of the classes, which ``write`` turns into colours.
        """
        extents = extents or [output.shape[2:]] * len(output)
        codes = np.array(self.codes, dtype=np.uint8)
        decoded = np.empty(len(output), dtype=object)
        for i, (logits, extent) in enumerate(zip(output, extents, strict=True)):
            decoded[i] = codes[resize_logits(logits, extent).argmax(0).cpu().numpy()]
        return decoded

    def records(self, output: Tensor, extents: Sequence[tuple[int, ...]] | None = None) -> list[dict[str, Any]]:
        """``share(NAME)`` of each class among the places of a sample, 0 to 1."""
        masks = self.decode(output, extents)
        return [
            {
                f"share({name})": float((mask == code).mean())
                for name, code in zip(self.classes, self.codes, strict=True)
            }
            for mask in masks
        ]

    def exported(self, output: Tensor) -> dict[str, Tensor]:
        """``logits`` (B, K, rows, columns), which are resized to the picture before the largest is taken."""
        return {"logits": output}

    def export_facts(self) -> dict[str, Any]:
        """``classes`` and, in their order, the ``codes`` of a mask."""
        return {"classes": self.classes, "codes": list(self.codes)}

    def write(self, path: Path, queries: Sequence[Any], answers: Sequence[Any]) -> None:
        """Write a folder of masks: a PNG with a palette of each picture, an array of codes of each cloud.

        Where the masks of training were in colours, pictures are in RGB and in those colours.
        """
        write_masks(path, queries, answers, self.colours)

    def metrics(self) -> "dict[str, Metric]":
        """Intersection over union, mean of the classes, over all labelled places together; and their accuracy.

        A class that no place has and none is given does not count.
        """
        from metatx.metrics.labels import ClassScores

        k = len(self.classes)
        return {"miou": ClassScores(k, "overlap"), "accuracy": ClassScores(k, "recall", pooled=True)}

    def metric_inputs(self, output: Any, target: Any) -> tuple[Tensor, Tensor]:
        """Class numbers of all labelled places, predicted and true (P,)."""
        found: list[Tensor] = []
        truth: list[Tensor] = []
        for logits, numbers in zip(output, target, strict=True):
            known = numbers != IGNORED
            found.append(resize_logits(logits, numbers.shape).argmax(0)[known])
            truth.append(numbers[known].long())
        return torch.cat(found), torch.cat(truth)

    def baseline_features(self, tokenizer: "Tokenizer", sample: Any) -> np.ndarray:
        """Values at each place (H, W, C) or (N, C)."""
        return tokenizer.dense_values(sample)

    def trivial(self) -> tuple[str, Any]:
        """Estimator that answers with the most frequent class everywhere."""
        return "majority class", SiteForest(trees=0)

    def classical(self, kind: str, count: int = 1) -> dict[str, Any]:
        """Random forest on the values, the place and the surroundings of each pixel or point."""
        return {"random forest on pixels": SiteForest(trees=50)}

    def baseline_predict(self, estimator: Any, features: Any) -> list[Tensor]:
        """Log-probabilities (K, H, W) or (K, N) of each sample."""
        return [torch.from_numpy(shares) for shares in estimator.predict_log_proba(features, len(self.classes))]


def _numbers(classes: Sequence[Any]) -> list[int]:
    """Codes of classes: those that are their names, else 0, 1, ..."""
    return [name if isinstance(name, int) else number for number, name in enumerate(classes)]


def _counts(held: Sequence[MaskSurvey], by_colour: bool) -> Counter[int]:
    """Places of each code, or of each packed colour, in all masks."""
    counts: Counter[int] = Counter()
    for mask in held:
        if not by_colour:
            counts.update(mask.codes)
        elif mask.colours is not None:
            counts.update(mask.colours)
        else:
            grey = {code * GREY if code >= 0 else NO_LABEL: count for code, count in (mask.codes or {}).items()}
            counts.update(grey)
    return counts
