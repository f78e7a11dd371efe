"""Boxes around the objects in a picture, each with a class and a score."""

from collections.abc import Collection, Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metatx.baselines.detection import BlobForest, MedianBoxes
from metatx.errors import SampleError, read_all
from metatx.examples import Examples
from metatx.head import Head
from metatx.layers.boxes import assign_cells, cell_centres, true_positives
from metatx.layers.views import boxes_in_view
from metatx.progress import tell
from metatx.reading.boxes import check_pixels, crowds_of, learnable, odd_boxes, read_boxes
from metatx.reading.coco import listed
from metatx.sequence import TokenSequence
from metatx.writing.coco import write_coco

if TYPE_CHECKING:
    from datasets import Dataset
    from torchmetrics import Metric

    from metatx.tokenizer import Tokenizer

__all__ = ["DetectionHead"]

PRIOR = 0.01  # probability of each class at the start (Lin et al. 2017, arXiv 1708.02002)
UNCHOSEN = 0.3  # least score of an answer, where no validation split says which
CANDIDATES = 1000  # boxes of a picture, by score, that compete


class DetectionHead(Head):
    """Class scores, distances to four sides and centrality from every cell of the token grid.

    One level of an anchor-free detector (FCOS, Tian et al. 2019, arXiv 1904.01355) on a plain Vision Transformer's
    last grid (ViTDet, Li et al. 2022, arXiv 2203.16527): focal loss, generalised IoU loss, non-maximum suppression.

    Args:
        dim: Width of the backbone.
        layers: Number of the backbone's last blocks that are read, side by side.
        hidden: Width of the layers between.
        cells: Number of cells along each side of a token.
        dropout: Dropout before the last layer, 0 to 1.
        threshold: Least score of a box in an answer of ``predict``, 0 to 1. None: that of the best F1 on the validation
            split, and 0.3 where there is none.
        overlap: Largest intersection over union of two boxes of a class in an answer.
        max_boxes: Most boxes of a picture.

    Attributes:
        classes: Names of the classes, in the order of the outputs; learned by ``fit``.
    """

    primary_metric = "ap50"
    tunable = {"dropout": (0.0, 0.1, 0.3)}
    dense = True
    per_token = True
    pool_options = ("layers",)
    output_suffixes: ClassVar[tuple[str, ...]] = (".json",)
    scale: Tensor
    threshold: Tensor

    def __init__(
        self,
        dim: int,
        layers: int = 4,
        hidden: int = 128,
        cells: int = 1,
        dropout: float = 0.1,
        threshold: float | None = None,
        overlap: float = 0.5,
        max_boxes: int = 100,
    ) -> None:
        super().__init__(dim)
        if min(layers, hidden, cells, max_boxes) < 1:
            raise ValueError("layers, hidden, cells and max_boxes must each be at least 1.")
        self.layers = layers
        self.cells = cells
        self.overlap = overlap
        self.max_boxes = max_boxes
        self.calibrates = threshold is None
        self.register_buffer("threshold", torch.tensor(UNCHOSEN if threshold is None else threshold))
        self.norm = nn.LayerNorm(dim * layers)
        self.narrow = nn.Linear(dim * layers, hidden * cells**2)
        self.tower = nn.Sequential(
            nn.GELU(), nn.Conv2d(hidden, hidden, 3, padding=1), nn.GroupNorm(8, hidden), nn.GELU(),
            nn.Conv2d(hidden, hidden, 3, padding=1), nn.GroupNorm(8, hidden), nn.GELU(), nn.Dropout(dropout),
        )  # fmt: skip
        self.sides = nn.Conv2d(hidden, 4, 1)
        self.centrality = nn.Conv2d(hidden, 1, 1)
        self.hidden = hidden
        self.register_buffer("scale", torch.ones(2))
        self.classes: list[Any] = []
        self.told: set[str] = set()  # each of these lines is said once

    def build(self, classes: list[Any]) -> None:
        """Make the layer of class scores."""
        self.classes = classes
        self.index = {label: i for i, label in enumerate(classes)}
        self.scores = nn.Conv2d(self.hidden, len(classes), 1)
        for layer in (self.scores, self.sides, self.centrality):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.scores.bias, -float(np.log((1 - PRIOR) / PRIOR)))  # type: ignore[arg-type]

    @classmethod
    def accepts(cls, targets: Sequence[Any]) -> bool:
        """Dicts with ``bbox`` and ``category``, as Hugging Face's object detection data have them."""
        return all(isinstance(target, dict) and {"bbox", "category"} <= target.keys() for target in targets)

    def examples(
        self, table: "Dataset", inputs: list[str], target: str | None, tokenizer: "Tokenizer", source: str
    ) -> Examples:
        """Pictures and their boxes, one a row; boxes of no size or over the edge are told, once."""
        found = super().examples(table, inputs, target, tokenizer, source)
        line = odd_boxes(found)
        if line and line not in self.told:
            self.told.add(line)
            tell(line)
        return found

    def queries(self, table: "Dataset", inputs: list[str], tokenizer: "Tokenizer") -> Sequence[Any]:
        """Pictures of a table to predict; those of a COCO file know their ids there, for ``write``."""
        found = super().queries(table, inputs, tokenizer)
        return listed(found, table) if "coco" in table.column_names and len(inputs) == 1 else found

    def labels(self, target: Any) -> Collection[Hashable]:
        """Categories of a target's boxes."""
        return list(target["category"]) if isinstance(target, dict) and "category" in target else ()

    def fit(self, targets: Sequence[Any]) -> dict[str, Any]:
        """``classes``, sorted, and ``scale``: half the median width and height of a box, in shares.

        Raises:
            ValueError: If there are no boxes, or they are not in pixels.
        """
        # Not strict: a target with fewer categories than boxes is a bad sample, which the core names later.
        pairs = (zip(target["category"], crowds_of(target), strict=False) for target in targets)
        names = {name for found in pairs for name, crowd in found if not crowd}
        if not names:
            raise ValueError(f"None of the {len(targets)} pictures has a box; there is nothing to learn.")
        classes = sorted(names, key=lambda name: (isinstance(name, str), name))
        index = {label: i for i, label in enumerate(classes)}
        with_boxes = [target for target in targets if len(target["category"])]
        boxes = torch.cat(read_all(lambda target: learnable(_encoded(target, index)).float(), with_boxes))
        if not len(boxes):
            raise ValueError(f"None of the {len(targets)} pictures has a box of some size; there is nothing to learn.")
        check_pixels(targets)
        return {"classes": classes, "scale": (boxes[:, 3:] - boxes[:, 1:3]).median(0).values / 2}

    def encode(self, target: Any) -> Tensor:
        """Boxes (M, 5), float64: class number, then left, top, right, bottom in shares of width and height.

        They are those of the target, unclipped, as average precision counts them; training leaves out what
        ``learnable`` does. A crowd of class k has the number -1 - k.

        Args:
            target: ``bbox`` (left, top, width, height in pixels) and ``category`` of each box; ``width`` and
                ``height`` of the picture; perhaps ``iscrowd`` of each box.
        """
        return _encoded(target, self.index)

    def transform_target(self, target: Tensor, view: Tensor) -> Tensor:
        """The boxes to learn from in a view of the picture."""
        target = learnable(target).float()
        boxes, kept = boxes_in_view(target[:, 1:], view)
        return torch.cat([target[kept, :1], boxes], 1)

    def pool(self, sequence: TokenSequence) -> Tensor:
        """Features on the grid (B, h, w, layers * D)."""
        if sequence.grid is None or len(sequence.grid) != 2:
            raise ValueError("The detection head finds boxes in pictures; these tokens lie on no grid of rows.")
        tokens = sequence.unpack()[0][:, sequence.num_prefix_tokens :]
        return tokens.reshape(tokens.shape[0], *sequence.grid, -1)

    def forward(self, pooled: Tensor) -> Tensor:
        """(B, h, w, layers * D) to (B, K + 5, h * cells, w * cells): class logits, four sides, centrality.

        The sides are logarithms of the distances from the cell's centre, divided by half the median size of a box.
        """
        narrow = self.narrow(self.norm(pooled)).permute(0, 3, 1, 2)
        features = self.tower(F.pixel_shuffle(narrow, self.cells))
        return torch.cat([self.scores(features), self.sides(features), self.centrality(features)], 1)

    def _boxes(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Centres of the cells (P, 2) and the boxes they give (P, 4), of one sample, in shares."""
        centres = cell_centres(output.shape[-2], output.shape[-1], output.device)
        sides = output[-5:-1].flatten(1).T.clamp(-5, 5).exp() * self.scale.repeat(2)
        return centres, torch.cat([centres - sides[:, :2], centres + sides[:, 2:]], 1)

    def loss(self, output: Tensor, target: Any) -> Tensor:
        """Mean over pictures of (B, K + 5, h, w) and boxes (M, 5) each: focal, generalised IoU and centrality loss."""
        return torch.stack([self._loss(*sample) for sample in zip(output, target, strict=True)]).mean()

    def _loss(self, output: Tensor, target: Tensor) -> Tensor:
        from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

        k = len(self.classes)
        target = learnable(target).float()
        centres, boxes = self._boxes(output)
        owner = assign_cells(centres, target[:, 1:], output.shape[-2], output.shape[-1])
        owned = owner >= 0
        count = owned.sum().clamp(min=1)
        wanted = torch.zeros(len(centres), k, device=output.device)
        wanted[owned, target[owner[owned], 0].long()] = 1
        focal = sigmoid_focal_loss(output[:k].flatten(1).T, wanted, reduction="sum") / count
        truth = target[owner[owned], 1:]
        near = torch.cat([centres[owned] - truth[:, :2], truth[:, 2:] - centres[owned]], 1).clamp(min=1e-6)
        ratio = torch.minimum(near[:, :2], near[:, 2:]) / torch.maximum(near[:, :2], near[:, 2:])
        central = ratio.prod(1).sqrt()
        overlap = (generalized_box_iou_loss(boxes[owned], truth) * central).sum() / central.sum().clamp(min=1e-6)
        centrality = F.binary_cross_entropy_with_logits(output[-1].flatten()[owned], central, reduction="sum") / count
        total: Tensor = focal + overlap + centrality
        return total

    def exported(self, output: Tensor) -> dict[str, Tensor]:
        """``boxes`` (B, P, 4), left, top, right, bottom in shares of the picture, and ``scores`` (B, P, K)."""
        centres = cell_centres(output.shape[-2], output.shape[-1], output.device)
        sides = output[:, -5:-1].flatten(2).mT.clamp(-5, 5).exp() * self.scale.repeat(2)
        boxes = torch.cat([centres - sides[..., :2], centres + sides[..., 2:]], dim=2).clamp(0, 1)
        scores = (output[:, : len(self.classes)].sigmoid() * output[:, -1:].sigmoid()).sqrt()
        return {"boxes": boxes, "scores": scores.flatten(2).mT}

    def export_facts(self) -> dict[str, Any]:
        """``classes`` of the scores, and what chooses among the boxes: least score, non-maximum suppression."""
        chosen = {"threshold": self.threshold.item(), "overlap": self.overlap, "max_boxes": self.max_boxes}
        return {"classes": self.classes, **chosen}

    def _found(self, output: Tensor) -> Tensor:
        """Boxes of one sample, best first (M, 6): class number, left, top, right, bottom in shares, score."""
        from torchvision.ops import batched_nms

        k = len(self.classes)
        _, boxes = self._boxes(output)
        scores = (output[:k].sigmoid() * output[-1:].sigmoid()).sqrt().flatten(1).T
        best, flat = scores.flatten().topk(min(CANDIDATES, scores.numel()))
        boxes = boxes[flat // k].clamp(0, 1)
        labels = flat % k
        kept = batched_nms(boxes, best, labels, self.overlap)[: self.max_boxes]
        return torch.cat([labels[kept, None].to(boxes.dtype), boxes[kept], best[kept, None]], 1)

    def calibrate(self, output: Tensor, target: Any) -> None:
        """Choose the least score of an answer by its F1 on outputs (B, K + 5, h, w) and boxes (M, 5) of each."""
        scores: list[Tensor] = []
        hits: list[Tensor] = []
        target = [learnable(boxes).float() for boxes in target]
        for sample, boxes in zip(output, target, strict=True):
            found = self._found(sample)
            scores.append(found[:, 5])
            hits.append(true_positives(found, boxes))
        ordered, at = torch.cat(scores).sort(descending=True)
        right = torch.cat(hits)[at].cumsum(0)
        f1 = 2 * right / (torch.arange(1, len(right) + 1, device=right.device) + sum(map(len, target)))
        if right.any():
            self.threshold.copy_(ordered[f1.argmax()])

    def card_note(self) -> str:
        """One sentence that says which boxes are left out."""
        return f"Boxes of a score below {self.threshold.item():.3f} are left out; scores are not calibrated."

    def decode(self, output: Tensor, extents: Sequence[tuple[int, ...]] | None = None) -> np.ndarray:
        """Boxes found in each picture, an array (B,) of dicts.

        ``boxes`` (M, 4): left, top, right, bottom in pixels; ``labels``; ``scores``; ``extent``: (H, W) of the picture;
        ``all``: boxes, labels and scores of every box that average precision counts, whatever its score.
        """
        answers = np.empty(len(output), dtype=object)
        for i, extent in enumerate(extents or [(1, 1)] * len(output)):
            found = self._found(output[i]).cpu().numpy()
            whole = self._answer(found, extent)
            answers[i] = {**self._answer(found[found[:, 5] >= self.threshold.item()], extent), "all": whole}
            answers[i]["extent"] = tuple(extent)
        return answers

    def _answer(self, found: np.ndarray, extent: tuple[int, ...]) -> dict[str, Any]:
        """Boxes (M, 6) of ``_found`` in pixels, in the precision that they are measured in, with names of classes."""
        return {
            "boxes": found[:, 1:5].astype(np.float64) * [extent[1], extent[0], extent[1], extent[0]],
            "labels": [self.classes[int(number)] for number in found[:, 0]],
            "scores": found[:, 5],
        }

    def records(self, output: Tensor, extents: Sequence[tuple[int, ...]] | None = None) -> list[dict[str, Any]]:
        """``boxes``, ``labels`` and ``scores`` as lists."""
        return [
            {
                "boxes": answer["boxes"].round(2).tolist(),
                "labels": answer["labels"],
                "scores": answer["scores"].round(4).tolist(),
            }
            for answer in self.decode(output, extents)
        ]

    def write(self, path: Path, queries: Sequence[Any], answers: Sequence[Any]) -> None:
        """Answers of ``decode`` as a COCO file, with every box that average precision counts."""
        least = self.threshold.item()
        write_coco(path, queries, answers, self.classes, least)
        tell(
            f"{path} holds all boxes that average precision counts, to the lowest score; predict answers with those "
            f"from {least:.3f} on (info.threshold)."
        )

    def metrics(self) -> "dict[str, Metric]":
        """Average precision, mean of the classes, at an overlap of 0.5; and mean over overlaps of 0.5 to 0.95."""
        from metatx.metrics.boxes import box_metrics

        return {**box_metrics()}

    def metric_inputs(self, output: Any, target: Any) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
        """Boxes found, of any score, and true ones, as torchmetrics takes them; both in shares.

        They are measured as pycocotools does: true boxes unclipped, and crowds hide the boxes found within them.
        """
        found = output if isinstance(output, list) else [self._found(sample) for sample in output]
        predictions = [{"labels": f[:, 0].long(), "boxes": f[:, 1:5].double(), "scores": f[:, 5]} for f in found]
        return predictions, [_truth(boxes) for boxes in target]

    def baseline_features(self, tokenizer: "Tokenizer", sample: Any) -> np.ndarray:
        """Pixels (H, W, C) of a picture."""
        return tokenizer.dense_values(sample)

    def trivial(self) -> tuple[str, Any]:
        """Estimator that answers with the median box of each class in every picture."""
        return "median boxes", MedianBoxes()

    def classical(self, kind: str, count: int = 1) -> dict[str, Any]:
        """Random forest on the shapes of connected areas of one colour."""
        return {"random forest on colour areas": BlobForest()}

    def baseline_predict(self, estimator: Any, features: Any) -> list[Tensor]:
        """Boxes (M, 6) of each picture, which ``metric_inputs`` takes in place of outputs."""
        return [torch.from_numpy(found).float() for found in estimator.predict(features)]


def _encoded(target: Any, index: Mapping[Any, int]) -> Tensor:
    """Boxes (M, 5) of a raw target, as ``encode`` gives them, with the class numbers of ``index``."""
    corners, size, crowds, names = read_boxes(target)
    rows = [np.zeros((0, 5))]
    for box, crowd, name in zip(corners / size, crowds, names, strict=True):
        if name not in index and not crowd:
            raise SampleError(f"category {name!r} was not among the {len(index)} of the training split")
        # A box of NaN is none, and a crowd of a class that is not answered hides nothing.
        if name in index and np.isfinite(box).all():
            number = index[name]
            rows.append(np.array([[-1 - number if crowd else number, *box]]))
    return torch.from_numpy(np.concatenate(rows))


def _truth(boxes: Tensor) -> dict[str, Tensor]:
    """True boxes (M, 5) of a picture as torchmetrics takes them."""
    crowd = boxes[:, 0] < 0
    return {
        "labels": torch.where(crowd, -1 - boxes[:, 0], boxes[:, 0]).long(),
        "boxes": boxes[:, 1:].double(),
        "iscrowd": crowd.long(),
        "area": torch.ones_like(boxes[:, 0]),  # one for all, so that a box of no size counts too
    }
