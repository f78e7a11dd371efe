"""Report of a run: ``metrics.json`` and a table."""

import resource
import sys
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metatx import __version__
from metatx.evaluation.missing import draw_missing
from metatx.files import json_text, written_whole
from metatx.storage.card import cell

if TYPE_CHECKING:
    from metatx.evaluation.budget import Plan
    from metatx.evaluation.missing import InputMeasures
    from metatx.task import Task

__all__ = ["Report", "peak_memory_mb", "versions"]

PACKAGES = ("torch", "timm", "accelerate", "scikit-learn", "datasets", "numpy")


@dataclass
class Report:
    """Numbers of one run, with data, split, seed and backbone.

    Attributes:
        task: Trained task.
        data: Name of the data.
        test_split: Split of the test numbers, in words.
        seed: Seed of the run.
        validation: Values of the metrics on the validation split; nan where one is not defined.
        test: Values of the metrics on the test split; nan where one is not defined.
        seconds: Seconds of training and evaluation, without the baselines.
        baselines: Metrics on the test split by role ("trivial", "classical") and name; empty for one that failed.
        published: Results of others for the table: metrics by name.
        left_out: Number of bad samples, in all splits.
        plan: Epochs and samples that a budget allowed, where there was one.
        inputs: Primary metric by what is left of each input, of a task of several.
        measured: Number of test samples that ``inputs`` were measured on.
    """

    task: "Task"
    data: str
    test_split: str
    seed: int
    validation: dict[str, float]
    test: dict[str, float]
    seconds: float
    baselines: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    published: dict[str, dict[str, float]] = field(default_factory=dict)
    left_out: int = 0
    plan: "Plan | None" = None
    inputs: dict[str, "InputMeasures"] = field(default_factory=dict)
    measured: int = 0

    def __str__(self) -> str:
        """Format the table: this run, the baselines, and what others published."""
        rows = {"metatx": self.test, **self._baseline_rows(), **self.published}
        columns = [name for name in self.test if name != "loss"]
        width = max(len(name) for name in rows)
        lines = [f"{self.data}, {self.test_split}, seed {self.seed}, backbone {self.task.backbone.spec}", ""]
        lines[0] += "" if self.task.tune == "frozen" else f", tune {self.task.tune}"
        lines.append(" " * width + "".join(f"{name:>{max(10, len(name) + 2)}}" for name in columns))
        for model, metrics in rows.items():
            cells = [(cell(metrics[name]) if name in metrics else "") for name in columns]
            cells = [f"{cell:>{max(10, len(name) + 2)}}" for cell, name in zip(cells, columns, strict=True)]
            lines.append(f"{model:<{width}}" + "".join(cells))
        trained = self.task.trainable_parameters
        backbones = (self.task.backbone, *self.task.model.others)
        frozen = sum(p.numel() for each in backbones for p in each.parameters() if not p.requires_grad)
        lines += ["", f"{trained:,} parameters trained on {frozen:,} frozen ones in {self.seconds:.0f} s"]
        warmup = self.task.token_warmup
        if warmup:
            distances = f"{warmup['before']:.1f} before, {warmup['after']:.1f} after"
            lines.append(f"{warmup['steps']} steps of token warm-up; distance to the stem's tokens {distances}")
        lines += [self.task.kept] if self.task.kept else []
        if self.left_out:
            lines.append(f"{self.left_out} samples that could not be used were left out")
        if self.inputs:
            primary = self.task.head.primary_metric
            lines.append(f"{primary} by what is left of the inputs, on {self.measured:,} test samples")
            lines += [f"  {name} ({input.modality}): {input}" for name, input in self.inputs.items()]
        return "\n".join(lines)

    def _baseline_rows(self) -> dict[str, dict[str, float]]:
        return {
            f"{name} ({role})" + ("" if m else ", failed"): m
            for role in ("classical", "trivial")
            for name, m in self.baselines.get(role, {}).items()
        }

    def rows(self) -> dict[str, dict[str, float]]:
        """Metrics of this run and of the baselines, without what others published, for model cards."""
        return {"metatx": {k: v for k, v in self.test.items() if k != "loss"}, **self._baseline_rows()}

    def write(self, path: Path) -> None:
        """Write ``metrics.json``."""
        values: dict[str, Any] = {
            "primary_metric": self.task.head.primary_metric,
            "data": self.data,
            "test_split": self.test_split,
            "validation": self.validation,
            "test": self.test,
            "majority_or_naive": _first(self.baselines.get("trivial")),
            "baseline": _first(self.baselines.get("classical")),
            "tune": self.task.tune,
            "adapter": self.task.adapter and self.task.adapter.options,
            "token_warmup": self.task.token_warmup or None,
            "trainable_parameters": self.task.trainable_parameters,
            "backbone_parameters": self.task.backbone.num_parameters,
            "backbone": self.task.backbone.spec,
            "backbone_fingerprint": self.task.backbone.fingerprint,
            "samples_left_out": self.left_out,
            "kept": self.task.kept,
            "seconds": round(self.seconds, 2),
            "peak_memory_mb": peak_memory_mb(),
            "seed": self.seed,
            "versions": versions(),
        }
        fusion = self.task.model.fusion
        if fusion is not None:
            values["fusion"] = {"name": fusion.name, "options": dict(fusion.options)}
        if self.inputs:
            values["inputs"] = {
                name: {"modality": each.modality, "missing": each.missing, "alone": each.alone, "without": each.without}
                for name, each in self.inputs.items()
            }
            values["missing"] = {
                name: {f"{share:g}": value for share, value in each.curve.items()} for name, each in self.inputs.items()
            }
            values["missing_samples"] = self.measured
        with written_whole(path) as temporary:
            temporary.write_text(json_text(values))

    def draw_missing(self, path: Path) -> None:
        """Plot what is left of the primary metric where inputs are left out, see ``missing.draw_missing``."""
        primary = self.task.head.primary_metric
        lines = {
            f"{name} ({role})": metrics.get(primary, float("nan"))
            for role, results in self.baselines.items()
            for name, metrics in list(results.items())[:1]
        }
        fusion = self.task.model.fusion
        about = f"{self.data}, {self.test_split}, seed {self.seed}, backbone {self.task.backbone.spec}"
        title = f"{about}\nfusion {fusion.name}, {self.measured:,} samples" if fusion is not None else about
        draw_missing(self.inputs, primary, lines, title, path)


def _first(results: dict[str, dict[str, float]] | None) -> dict[str, Any] | None:
    if not results:
        return None
    name, metrics = next(iter(results.items()))
    return {"name": name, **(metrics or {"failed": True})}


def peak_memory_mb() -> int:
    """Peak memory of this process in MiB: on the GPU if one was used, else resident memory."""
    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return round(torch.cuda.max_memory_allocated() / 2**20)
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(kilobytes / (2**20 if sys.platform == "darwin" else 2**10))


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a run's numbers."""
    return {"metatx": __version__, "python": sys.version.split()[0], **{name: version(name) for name in PACKAGES}}
