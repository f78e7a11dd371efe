"""Evaluation of a model on labelled data, on one process or many."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from metatx.encoding.collate import to_device, widened
from metatx.encoding.encoded import EncodedDataset
from metatx.metrics.evaluator import Measures
from metatx.model import Model
from metatx.progress import bar, tell
from metatx.registry import unknown
from metatx.settings import TrainingSettings
from metatx.training.batches import shares
from metatx.training.distributed import processes
from metatx.training.frozen_features import Batches, cached

__all__ = ["check_metric", "evaluate", "measure"]


def check_metric(model: Model, name: str) -> None:
    """Refuse a metric that the head does not measure, before anything is trained."""
    names = ["loss", *model.head.metrics()]
    if name not in names:
        raise ValueError(unknown("metric", name, names))


@torch.no_grad()
def measure(
    model: Model, module: nn.Module, batches: Iterable[Any], settings: TrainingSettings, *, calibrated: bool = False
) -> Measures:
    """Compute the head's metrics, and ``loss``, over the batches of all processes together.

    Args:
        model: Model that is measured.
        module: Module that returns the head's output: the model, or its head where batches hold cached features.
        batches: Inputs and targets of this process.
        settings: Settings that say the precision.
        calibrated: True to measure what the head's ``calibrate`` fitted too.
    """
    model.eval()
    measures = Measures(model.head, model.device, calibrated=calibrated, shared=processes().num_processes > 1)
    for inputs, targets in batches:
        targets = to_device(targets, model.device)
        with settings.autocast(model.device):
            read = to_device(inputs, model.device)
            output = widened(module(read, targets) if model.head.continues else module(read))
        measures.add(output, targets, model.head.loss(output, targets))
    return measures


def evaluate(model: Model, data: EncodedDataset, settings: TrainingSettings) -> dict[str, float]:
    """Compute the head's metrics, and ``loss``, on ``data``; on cached features of what is frozen.

    A metric that is not defined on ``data`` is nan, and this is told. If there are several processes, all must call
    this; each measures its share.
    """
    module: nn.Module = model
    items: Batches = data
    if settings.cache:
        module, items = cached(model, data, settings, bar)
    state = processes()
    positions = shares(len(items), settings.batch_size, state.process_index, state.num_processes)
    shown = bar(positions, "measuring") if state.is_main_process else positions
    measures = measure(model, module, (items.batch(batch) for batch in shown), settings, calibrated=True)
    values = measures.values()
    if measures.undefined and state.is_main_process:
        samples = "1 sample" if len(items) == 1 else f"{len(items)} samples"
        tell(f"Not defined on the split of {samples}: {measures.undefined}.")
    return values
