"""Metrics of a head, accumulated over batches, in one process or several together."""

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
    """Metrics of a head and the mean loss, if given, over batches that are added one by one.

    Args:
        head: Head that provides ``metrics`` and ``metric_inputs``.
        device: Device of the batches; None for the CPU.
        calibrated: True to add ``calibration_metrics`` of the head.
        shared: True if each process adds its share of the samples. ``values`` then covers the samples of all, in the
            order of the processes; all processes must call it, also one without samples.

    Attributes:
        undefined: Names of the metrics that were not defined in the last ``values``, with their reasons.
    """

    def __init__(
        self, head: "Head", device: torch.device | None = None, *, calibrated: bool = False, shared: bool = False
    ) -> None:
        self.head = head
        self.shared = shared
        metrics = head.metrics() | (head.calibration_metrics() if calibrated else {})
        self.metrics = {name: metric.to(device or "cpu") for name, metric in metrics.items()}
        self.undefined = ""
        self.losses: list[Tensor] = []
        self.counts: list[int] = []
        for metric in self._parts():
            # torchmetrics' own exchange between processes assumes lists of equal length.
            metric.distributed_available_fn = lambda: False

    def _parts(self) -> "list[Metric]":
        """All metrics, including those inside others."""
        from torchmetrics import Metric

        return [part for metric in self.metrics.values() for part in metric.modules() if isinstance(part, Metric)]

    def add(self, output: Any, target: Any, loss: Tensor | None = None) -> None:
        """Add a batch of outputs and encoded targets, in the form of ``Head.metric_inputs``, and its mean loss."""
        if loss is not None:
            self.losses.append(loss.detach())
            self.counts.append(len(output))
        scored = self.head.metric_inputs(output, target)
        for metric in self.metrics.values():
            metric.update(*scored)

    def values(self) -> dict[str, float]:
        """Values by metric, ``loss`` first if given; nan where a metric is not defined on the samples."""
        losses = [(loss.item(), count) for loss, count in zip(self.losses, self.counts, strict=True)]
        if self.shared:
            parts = self._parts()
            states = send_to_device([part.metric_state for part in parts], "cpu")
            gathered = gather_object([(losses, states)])
            # Left out: processes without samples, whose initial states some metrics would count.
            filled = [pair for pair in gathered if pair[0]] or gathered
            losses = [loss for of_process, _ in filled for loss in of_process]
            for part, states in zip(parts, zip(*(states for _, states in filled), strict=True), strict=True):
                _join(part, states)
        total = sum(count for _, count in losses)
        mean = {"loss": sum(loss * count for loss, count in losses) / total} if total else {}
        results = {name: _value(metric) for name, metric in self.metrics.items()}
        self.undefined = ", ".join(name + reason for name, (value, reason) in results.items() if value != value)
        return mean | {name: value for name, (value, _) in results.items()}


def _join(metric: "Metric", states: Sequence[dict[str, Any]]) -> None:
    """Set the states of a metric to those of all processes, joined by the metric's own reductions."""
    for name, reduce in metric._reductions.items():
        parts = [state[name] for state in states]
        joined: Any
        if isinstance(parts[0], list):
            joined = [element for elements in parts for element in elements]
        else:
            joined = torch.stack(parts) if reduce is None else reduce(torch.stack(parts))  # type: ignore[operator]
        setattr(metric, name, send_to_device(joined, metric.device))


def _value(metric: "Metric") -> tuple[float, str]:
    """Value of a metric and an empty text; nan and the reason if it refuses, as R2Score does for one sample."""
    with warnings.catch_warnings():  # a metric that is not defined warns and returns nan
        warnings.simplefilter("ignore", UserWarning)
        try:
            return float(metric.compute()), ""
        except ValueError as error:
            return float("nan"), f" ({error})"


def rank(value: float | None, higher_is_better: bool) -> float:
    """Sort key of a metric's value, best first; nan and None come last."""
    if value is None or value != value:
        return float("inf")
    return -value if higher_is_better else value
