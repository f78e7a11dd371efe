"""The measures of a head over batches, of one process or of several together."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import gather_object, send_to_device
from torch import Tensor

if TYPE_CHECKING:
    from torchmetrics import Metric

    from metatx.head import Head

__all__ = ["Measures", "rank"]


class Measures:
    """The metrics of a head, and the mean loss where there is one, over batches that are added one by one.

    Args:
        head: Whose ``metric_inputs`` and ``metrics`` are used.
        device: Of the batches.
        shared: Whether each process adds its share of the samples. ``values`` then counts those of all, in the order of
            the processes; all must call it, also one without a sample.
    """

    def __init__(self, head: "Head", device: torch.device | None = None, shared: bool = False) -> None:
        self.head, self.shared = head, shared
        self.metrics = {name: metric.to(device or "cpu") for name, metric in head.metrics().items()}
        self.undefined = ""  # which metrics were, and why where one says so; once ``values`` was called
        self.losses: list[Tensor] = []
        self.counts: list[int] = []
        for metric in self._parts():
            # What torchmetrics does between processes takes it for granted that their lists are of one length.
            metric.distributed_available_fn = lambda: False

    def _parts(self) -> "list[Metric]":
        """All metrics, also those inside others."""
        from torchmetrics import Metric

        return [part for metric in self.metrics.values() for part in metric.modules() if isinstance(part, Metric)]

    def add(self, output: Any, target: Any, loss: Tensor | None = None) -> None:
        """A batch of outputs and encoded targets, as ``Head.metric_inputs`` takes them, and its mean loss."""
        if loss is not None:
            self.losses.append(loss.detach())
            self.counts.append(len(output))
        scored = self.head.metric_inputs(output, target)
        for metric in self.metrics.values():
            metric.update(*scored)

    def values(self) -> dict[str, float]:
        """Metric to value, with ``loss`` first if there was one; nan where a measure is not defined on the samples."""
        losses = [(loss.item(), count) for loss, count in zip(self.losses, self.counts, strict=True)]
        if self.shared:
            parts = self._parts()
            own = send_to_device([part.metric_state for part in parts], "cpu")
            gathered = gather_object([(losses, own)])
            # A process without a sample has states that some metrics take for numbers.
            filled = [pair for pair in gathered if pair[0]] or gathered
            losses = [loss for found, _ in filled for loss in found]
            for part, states in zip(parts, zip(*(states for _, states in filled), strict=True), strict=True):
                _join(part, states)
        total = sum(count for _, count in losses)
        mean = {"loss": sum(loss * count for loss, count in losses) / total} if total else {}
        found = {name: _value(metric) for name, metric in self.metrics.items()}
        self.undefined = ", ".join(name + reason for name, (value, reason) in found.items() if value != value)
        return mean | {name: value for name, (value, _) in found.items()}


def _join(metric: "Metric", states: Sequence[dict[str, Any]]) -> None:
    """Give a metric what its states hold in all processes, as torchmetrics reduces them."""
    for name, reduce in metric._reductions.items():
        found = [state[name] for state in states]
        joined: Any
        if isinstance(found[0], list):
            joined = [element for elements in found for element in elements]
        else:
            joined = torch.stack(found) if reduce is None else reduce(torch.stack(found))  # type: ignore[operator]
        setattr(metric, name, send_to_device(joined, metric.device))


def _value(metric: "Metric") -> tuple[float, str]:
    """What a metric computes; nan, and what it says, where it refuses, as R2Score of one sample does."""
    with warnings.catch_warnings():  # that it is not defined: it is nan then
        warnings.simplefilter("ignore", UserWarning)
        try:
            return float(metric.compute()), ""
        except ValueError as error:
            return float("nan"), f" ({error})"


def rank(value: float | None, higher_is_better: bool) -> float:
    """A number by which values of a metric are sorted, best first; nan and None come last."""
    if value is None or value != value:
        return float("inf")
    return -value if higher_is_better else value
