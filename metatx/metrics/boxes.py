"""Average precision of boxes, as COCO's own program counts it."""

from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision

__all__ = ["box_metrics"]

# COCO's, in the numbers of its own program: torch's are of float32, and a recall of 0.55 is then below 0.55.
OVERLAPS = np.linspace(0.5, 0.95, 10).tolist()
RECALLS = np.linspace(0, 1, 101).tolist()


class AveragePrecision(MeanAveragePrecision):
    """Average precision, mean of the classes and of some overlaps; nan where there is no true box.

    Args:
        overlaps: Intersections over union from which a box found is a true one.
    """

    warn_on_many_detections = False

    def __init__(self, overlaps: list[float]) -> None:
        super().__init__(iou_thresholds=overlaps, rec_thresholds=RECALLS)

    def compute(self) -> Tensor:  # type: ignore[override]
        """The mean, a scalar."""
        value: Tensor = super().compute()["map"]
        return value.masked_fill(value < 0, torch.nan)  # -1 says that there was no box at all


def box_metrics() -> dict[str, AveragePrecision]:
    """``ap50`` at an overlap of 0.5, and ``ap``, mean over overlaps of 0.5 to 0.95.

    Raises:
        ImportError: If pycocotools is missing.
    """
    if not find_spec("pycocotools"):
        raise ImportError("The detection head needs pycocotools: pip install 'metatx[detection]'")
    return {"ap50": AveragePrecision(OVERLAPS[:1]), "ap": AveragePrecision(OVERLAPS)}
