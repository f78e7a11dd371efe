"""Inputs left out: how well a task of several inputs answers with fewer of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metatx.encoding.collate import collate, to_device, widened
from metatx.encoding.encoded import EncodedDataset
from metatx.examples import Examples
from metatx.files import written_whole
from metatx.inputs.inputs import Inputs
from metatx.metrics.evaluator import Measures
from metatx.model import Model
from metatx.progress import bar
from metatx.registry import unknown
from metatx.settings import TrainingSettings
from metatx.storage.card import cell
from metatx.task import Task

__all__ = ["SHARES", "InputMeasures", "draw_missing", "evaluate_without", "measures_of_inputs", "shares_missing"]

SHARES = (0.0, 0.1, 0.3, 0.5, 0.7, 1.0)  # shares of the samples that lose an input
DRAWS = (0, 1, 2)  # seeds of the choice of these samples; the values are means over them
MOST = 2_000  # samples that are measured, drawn with a seed, where there are more
MOST_DENSE = 100  # the same for a head whose answers are as large as the samples


@dataclass(frozen=True, kw_only=True)
class InputMeasures:
    """Primary metric of a trained task by what is left of one input.

    Attributes:
        modality: Name of the input's tokenizer.
        missing: Share of the samples that lack the input, by split.
        alone: Value on the samples that have the input, from this input alone; None where the task needs another.
        without: Value where every sample lost the input, but those that have no other; None where the task needs it.
        curve: Value by share of the samples that lost the input, of ``SHARES``; empty where the task needs it.
    """

    modality: str
    missing: dict[str, float]
    alone: float | None
    without: float | None
    curve: dict[float, float]

    def __str__(self) -> str:
        """Format the input in one line."""
        if not self.curve:
            return "the task needs it"
        shares = ", ".join(f"{cell(value)} at {share:g}" for share, value in self.curve.items() if 0 < share < 1)
        gaps = ", ".join(f"{share:.1%} of {split}" for split, share in self.missing.items() if share)
        alone = "" if self.alone is None else f"alone {cell(self.alone)}, "
        missing = f"; missing in {gaps}" if gaps else ""
        return f"{alone}without {cell(self.curve[1.0])} ({shares}){missing}"


def measures_of_inputs(
    model: Model, data: EncodedDataset, settings: TrainingSettings, missing: Mapping[str, Mapping[str, float]]
) -> tuple[dict[str, InputMeasures], int]:
    """Measure a task with each input left out of more and more samples, and with each input alone.

    A sample keeps at least one input. Which samples lose an input is drawn with seeds. Each sample is answered once for
    each set of inputs, and the answers are put together for each share: answers do not depend on the batch.

    Args:
        model: Trained model of several inputs.
        data: Encoded samples, of which at most 2,000 are measured (100 of a head whose answers are masks or boxes).
        settings: Settings that say batch size and precision.
        missing: Share of the samples that lack an input, by input and split.

    Returns:
        Measures by input, and the number of samples.
    """
    tokenizer = model.tokenizer
    assert isinstance(tokenizer, Inputs)
    names = list(tokenizer.inputs)
    most = MOST_DENSE if model.head.dense else MOST
    positions = np.sort(np.random.default_rng(0).permutation(len(data))[:most]).tolist()
    samples = [data.encoded(position) for position in positions]
    encoded = data.targets()
    targets = [encoded[position] for position in positions]
    present = np.array([[name in {_input_of(field) for field in sample} for name in names] for sample in samples])
    answers = Answers(model, samples, settings)
    whole = answers(present)
    needed = tokenizer.main if tokenizer.requires_main else None
    results: dict[str, InputMeasures] = {}
    for at, name in enumerate(names):
        modality = tokenizer.inputs[name].modality
        if name == needed or len(names) == 1:
            results[name] = InputMeasures(
                modality=modality, missing=dict(missing[name]), alone=None, without=None, curve={}
            )
            continue
        others = present.copy()
        others[:, at] = False
        lost = others.any(axis=1) & present[:, at]
        less = dict(zip(np.flatnonzero(lost).tolist(), answers(others[lost], np.flatnonzero(lost)), strict=True))
        curve: dict[float, float] = {}
        for share in SHARES:
            values = []
            for seed in DRAWS:
                drawn = np.random.default_rng(seed).random((len(samples), len(names)))[:, at] < share
                mixed = [less[i] if lost[i] and drawn[i] else whole[i] for i in range(len(samples))]
                values.append(_primary(model, mixed, targets))
                if share in (0.0, 1.0):  # nothing is left to chance
                    break
            curve[share] = float(np.mean(values))
        alone = None
        rows = np.flatnonzero(present[:, at])
        if needed is None and len(rows):
            single = np.zeros((len(rows), len(names)), dtype=bool)
            single[:, at] = True
            alone = _primary(model, answers(single, rows), [targets[i] for i in rows])
        results[name] = InputMeasures(
            modality=modality, missing=dict(missing[name]), alone=alone, without=curve[1.0], curve=curve
        )
    return results, len(samples)


class Answers:
    """Outputs of a model for samples with some of their inputs.

    Where inputs meet behind the backbone only, it is asked once, and the vectors of inputs are left out of its result.

    Args:
        model: Model of several inputs.
        samples: Encoded samples.
        settings: Settings that say batch size and precision.
    """

    def __init__(self, model: Model, samples: Sequence[dict[str, Tensor]], settings: TrainingSettings) -> None:
        self.model = model.eval()
        self.samples = samples
        self.settings = settings
        fusion = model.fusion
        assert fusion is not None and isinstance(model.tokenizer, Inputs)
        self.fusion = fusion
        self.names = list(model.tokenizer.inputs)
        self.pooled: Tensor | None = None
        if not fusion.joins and not fusion.blocks and not model.head.per_token and not model.head.continues:
            with torch.no_grad(), settings.autocast(model.device):
                batches = self._batches(range(len(samples)), np.ones((len(samples), len(self.names)), dtype=bool))
                self.pooled = torch.cat([fusion.pool(model.features(batch)) for batch in batches])

    @torch.no_grad()
    def __call__(self, kept: np.ndarray, rows: Sequence[int] | np.ndarray | None = None) -> list[Any]:
        """Outputs of samples, one each.

        Args:
            kept: Inputs (B, n) that stay; of those that a sample lacks nothing is used.
            rows: Numbers of the B samples; None for all.
        """
        chosen = range(len(self.samples)) if rows is None else [int(row) for row in rows]
        outputs: list[Any] = []
        model = self.model
        if self.pooled is not None:
            size = self.settings.batch_size
            for start in range(0, len(chosen), size):
                part = self.pooled[list(chosen[start : start + size])]
                flags = torch.from_numpy(kept[start : start + size]).to(part.device, part.dtype)
                with self.settings.autocast(model.device):
                    left = self.fusion.leave(part * flags[..., None])
                    outputs += list(widened(model.head(model.head.pool(left))))
            return outputs
        for batch in self._batches(chosen, kept):
            with self.settings.autocast(model.device):
                outputs += list(widened(model(batch)))
        return outputs

    def _batches(self, rows: Sequence[int], kept: np.ndarray) -> Iterator[dict[str, Any]]:
        size = self.settings.batch_size
        for start in bar(range(0, len(rows), size), "measuring with inputs left out"):
            batch = []
            for row, flags in zip(rows[start : start + size], kept[start : start + size], strict=True):
                names = {name for name, flag in zip(self.names, flags, strict=True) if flag}
                batch.append({field: value for field, value in self.samples[row].items() if _input_of(field) in names})
            yield to_device(collate(batch), self.model.device)


def _input_of(field: str) -> str:
    """Input of an encoded field, which is named ``"input.field"``."""
    return field.partition(".")[0]


def _primary(model: Model, outputs: Sequence[Any], targets: Sequence[Tensor]) -> float:
    """Primary metric of the outputs of single samples."""
    head = model.head
    measures = Measures(head, model.device)
    # Dense answers differ in shape.
    size = 1 if head.dense else len(outputs)
    for start in range(0, len(outputs), size):
        part = collate([{"target": target} for target in targets[start : start + size]])["target"]
        measures.add(torch.stack(list(outputs[start : start + size])), to_device(part, model.device))
    return measures.values()[head.primary_metric]


def shares_missing(tokenizer: Inputs, parts: Mapping[str, Examples]) -> dict[str, dict[str, float]]:
    """Shares of the samples that lack an input, by input and split.

    Args:
        tokenizer: Tokenizer of several inputs.
        parts: Examples by split, all of which can be used.
    """
    shares: dict[str, dict[str, float]] = {name: {} for name in tokenizer.inputs}
    for split, examples in parts.items():
        counts = dict.fromkeys(tokenizer.inputs, 0)
        for sample in examples.inputs:
            for name in tokenizer.values(sample):
                counts[name] += 1
        for name, count in counts.items():
            shares[name][split] = 1 - count / len(examples)
    return shares


def evaluate_without(
    task: Task, data: Any, missing: Sequence[str], *, skip_bad_samples: bool = False
) -> dict[str, float]:
    """Evaluate a task of several inputs on labelled data whose samples all lose some inputs, see ``Task.evaluate``.

    Args:
        task: Task of several inputs.
        data: Labelled data.
        missing: Names of the inputs that are left out.
        skip_bad_samples: Leave out samples that cannot be used, such as those that have no other input.

    Raises:
        ValueError: If the task has no such input, or no other; or as ``Task.evaluate``.
    """
    tokenizer = task.tokenizer
    if not isinstance(tokenizer, Inputs):
        raise ValueError(f"The task reads one input ({tokenizer.name}), which cannot be left out.")
    for name in missing:
        if name not in tokenizer.inputs:
            raise ValueError(unknown("input to leave out", name, list(tokenizer.inputs)))
    if set(missing) == set(tokenizer.inputs):
        raise ValueError(f"All inputs are left out ({', '.join(missing)}); keep at least one.")
    if tokenizer.requires_main and tokenizer.main in missing:
        raise ValueError(f"The {task.head.name} head answers for the input {tokenizer.main}, so that it must be there.")
    examples = task.examples(data, "test")
    kept = [name for name in tokenizer.inputs if name not in missing]
    return task.evaluate(with_inputs(tokenizer, examples, kept), skip_bad_samples=skip_bad_samples)


def with_inputs(tokenizer: Inputs, examples: Examples, kept: Sequence[str]) -> Examples:
    """Examples whose samples have some of their inputs only; the others are None."""
    gone = {name: None for name in tokenizer.inputs if name not in kept}
    columns = {column for name in gone for column in tokenizer.columns(name)}

    def stripped(sample: Any) -> Any:
        if not isinstance(sample, Mapping):
            return sample  # refused, with its place, when it is encoded
        return {key: value for key, value in sample.items() if key not in columns and key not in gone} | gone

    return replace(examples, inputs=[stripped(sample) for sample in examples.inputs])


def draw_missing(
    inputs: Mapping[str, InputMeasures], primary: str, lines: Mapping[str, float], title: str, path: Path
) -> None:
    """Plot the primary metric over the share of samples that lost an input, as a PNG; baselines are dashed lines.

    Needs matplotlib, see ``metatx.training.history.can_draw``.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplots()
    for name, input in inputs.items():
        if input.curve:
            axes.plot(list(input.curve), list(input.curve.values()), "o-", label=f"{name} ({input.modality}) left out")
    for (name, value), colour in zip(lines.items(), ("0.25", "0.6"), strict=False):
        if value == value:
            axes.axhline(value, color=colour, linestyle="--", linewidth=1, label=f"{name}, {cell(value)}")
    axes.set(xlabel="share of the test samples that lost the input", ylabel=primary)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, x=0.01, ha="left", fontsize="medium")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize="small")
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
