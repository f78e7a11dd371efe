"""Report of a comparison: ``comparison.json``, a table and a figure."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from metatx.evaluation.budget import Plan
from metatx.evaluation.report import versions
from metatx.files import json_text, written_whole
from metatx.metrics.evaluator import rank
from metatx.storage.card import cell

__all__ = ["Comparison", "Row", "Trial", "shown"]

FORMAT = "metatx-comparison"
VERSION = 3
ROLES = ("classical", "trivial")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One run of one variant.

    Attributes:
        variant: Name of the variant.
        seed: Seed of initial weights, splits, order and samples.
        tune: Tier of tuning.
        plan: Name of the plan of epochs and samples, where it is not that of the tier.
        token_warmup_steps: Number of steps of the token warm-up.
        validation: Values of the metrics on the validation split.
        test: Values of the metrics on the test split; empty where the loss diverged.
        parameters: Number of trained parameters.
        seconds: Seconds of training and evaluation.
        diverged: Message of the training if its loss diverged, else empty.
    """

    variant: str
    seed: int
    tune: str = "frozen"
    plan: str = ""
    token_warmup_steps: int = 0
    validation: dict[str, float] = field(default_factory=dict)
    test: dict[str, float] = field(default_factory=dict)
    parameters: int = 0
    seconds: float = 0.0
    diverged: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Row of the table: a variant over its seeds, or a baseline.

    Attributes:
        name: Name of the variant or baseline.
        values: Primary metric of each run that did not diverge.
        trained: Epochs and samples where a budget decided them, else empty.
        parameters: Number of trained parameters; None for a baseline.
        seconds: Median of the seconds of a run; None for a baseline.
        diverged: Number of runs whose loss diverged.
    """

    name: str
    values: list[float]
    trained: str = ""
    parameters: int | None = None
    seconds: float | None = None
    diverged: int = 0

    @property
    def mean(self) -> float:
        """Mean of the primary metric over the seeds; NaN where all runs diverged or the metric is not defined."""
        return float(np.mean(self.values)) if self.values else float("nan")

    @property
    def spread(self) -> float:
        """Standard deviation (n - 1) over the seeds; 0 for one seed."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else 0.0

    def __str__(self) -> str:
        """Format the mean, and the standard deviation of several seeds; - where the metric is not defined."""
        if not self.values:
            return "diverged" if self.diverged else "failed"
        spread = len(self.values) > 1 and not np.isnan(self.mean)
        return shown(self.mean) + (f" ± {shown(self.spread)}" if spread else "")


@dataclass(kw_only=True)
class Comparison:
    """Numbers of several variants of one task, and of the baselines.

    Attributes:
        asked: Data, backbone, options and settings: everything that decides the numbers except variant and seed.
        primary: Name of the metric that is compared.
        higher_is_better: True if larger values of the metric are better.
        test_split: Split that the metric was measured on, in words.
        plans: Epochs and samples by tier or fusion, where a budget decided them.
        fusions: Names of the variants that are fusions, of which one is chosen on the validation split.
        baselines: Metrics by role and name, as in ``Report``.
        trials: All runs so far.
    """

    asked: dict[str, Any]
    primary: str = ""
    higher_is_better: bool = True
    test_split: str = ""
    plans: dict[str, Plan] = field(default_factory=dict)
    baselines: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    trials: list[Trial] = field(default_factory=list)
    fusions: list[str] = field(default_factory=list)

    @property
    def chosen(self) -> str | None:
        """Fusion with the best mean of the primary metric on the validation split; None where there is none."""
        means: dict[str, float] = {}
        for name in self.fusions:
            values = [trial.validation.get(self.primary) for trial in self.trials if trial.variant == name]
            defined = [value for value in values if value is not None and value == value]
            if defined:
                means[name] = float(np.mean(defined))
        return min(means, key=lambda name: rank(means[name], self.higher_is_better)) if means else None

    def rows(self) -> list[Row]:
        """Return a row for each variant, in the order of their first runs."""
        rows = []
        for name in dict.fromkeys(trial.variant for trial in self.trials):
            trials = [trial for trial in self.trials if trial.variant == name]
            finished = [trial for trial in trials if trial.test]
            rows.append(
                Row(
                    name=name,
                    values=[trial.test[self.primary] for trial in finished],
                    trained=str(self.plans.get(trials[0].plan or trials[0].tune, "")),
                    parameters=finished[0].parameters if finished else None,
                    seconds=median(trial.seconds for trial in finished) if finished else None,
                    diverged=len(trials) - len(finished),
                )
            )
        return rows

    def baseline_rows(self) -> list[Row]:
        """Return a row for each baseline, the classical ones first, best first; one that failed has no value."""
        return [
            Row(name=f"{name} ({role})", values=[metrics[self.primary]] if metrics else [])
            for role in ROLES
            for name, metrics in self.baselines.get(role, {}).items()
        ]

    # Table and figure

    def __str__(self) -> str:
        return self.markdown()

    def markdown(self) -> str:
        """Format the table, under a caption that says what was compared and how."""
        arrow = "↑" if self.higher_is_better else "↓"
        lines = [
            self.caption(),
            "",
            f"| {self.asked['data']} | {self.primary} {arrow} | seeds | trained parameters | trained for | seconds |",
            "|---|---:|---:|---:|---|---:|",
        ]
        for row in self.rows():
            seeds = f"{len(row.values)}" + (f" ({row.diverged} diverged)" if row.diverged else "")
            parameters = "" if row.parameters is None else f"{row.parameters:,}"
            seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
            trained = row.trained or self._trained()
            lines.append(f"| {self._label(row)} | {row} | {seeds} | {parameters} | {trained} | {seconds} |")
        lines += [f"| {row.name} | {row} | | | | |" for row in self.baseline_rows()]
        return "\n".join(lines) + "\n"

    def _label(self, row: Row) -> str:
        return f"{row.name} (chosen on validation)" if row.name == self.chosen else row.name

    def caption(self) -> str:
        """Format everything that the numbers depend on in one line: data, split, seeds, backbone, budget."""
        seeds = ", ".join(str(seed) for seed in sorted({trial.seed for trial in self.trials}))
        direction = "higher" if self.higher_is_better else "lower"
        return (
            f"{self.asked['data']}, {self.test_split}: {self.primary} ({direction} is better), mean ± standard "
            f"deviation over seeds {seeds}; backbone {self.asked['backbone']}; {self._trained()}. Seconds are the "
            "median of the runs; cached features of an earlier run are not computed again. Baselines run once, on the "
            f"whole training split.{self._aligned()}{self._epochs()}{self._choice()}"
        )

    def _aligned(self) -> str:
        aligned = {trial.variant: trial.token_warmup_steps for trial in self.trials if trial.token_warmup_steps}
        return "".join(f" {name}: training begins after a token warm-up of {n} steps." for name, n in aligned.items())

    def _epochs(self) -> str:
        """Sentence that warns where a budget gave variants different training."""
        differ = len({(plan.epochs, plan.samples) for plan in self.plans.values()}) > 1
        return " The budget allows variants different epochs or samples, which a column says." if differ else ""

    def _choice(self) -> str:
        """Sentence about the fusion that was chosen, and what the choice costs on the test split."""
        means = {row.name: row.mean for row in self.rows() if row.name in self.fusions and row.values}
        chosen = self.chosen
        if chosen is None or len(means) < 2:
            return ""
        best = min(means, key=lambda name: rank(means[name], self.higher_is_better))
        cost = abs(means[best] - means[chosen])
        lost = "the best on the test split too" if best == chosen else f"{shown(cost)} behind the best there, {best}"
        return f" The fusion chosen on validation is {chosen}, {lost}."

    def _trained(self) -> str:
        if self.asked["budget"] is None:
            epochs = self.asked["epochs"]
            if epochs is None:
                return f"about {self.asked['steps']} steps"
            return "1 epoch" if epochs == 1 else f"{epochs} epochs"
        return f"budget {self.asked['budget']:g} s a run"

    def plot(self, path: Path) -> None:
        """Plot the variants as dots with their spread, the best classical and the trivial baseline as lines, as a PNG.

        Needs matplotlib, see ``metatx.training.history.can_draw``.
        """
        from matplotlib.figure import Figure

        rows = self.rows()
        figure = Figure(figsize=(8, 1.8 + 0.55 * len(rows)), layout="constrained")
        axes = figure.subplots()
        for place, row in enumerate(rows):
            names = (None, None) if place else ("a seed", "mean ± standard deviation")
            axes.plot(row.values, [place] * len(row.values), "o", color="C0", alpha=0.35, markersize=5, label=names[0])
            if np.isnan(row.mean):
                continue
            axes.errorbar(row.mean, place, xerr=row.spread, fmt="D", color="C0", capsize=4, label=names[1])
            axes.annotate(
                shown(row.mean),
                (row.mean, place),
                (0, 9),
                textcoords="offset points",
                ha="center",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
            )
        lines = {role: next(iter(self.baselines[role].items())) for role in ROLES if role in self.baselines}
        for (role, (name, metrics)), colour in zip(lines.items(), ("C1", "0.45"), strict=False):
            value = metrics.get(self.primary, np.nan)
            if np.isnan(value):
                continue
            axes.axvline(value, color=colour, linestyle="--", label=f"{name} ({role}), {shown(value)}")
        labels = [
            row.name
            if row.parameters is None
            else f"{self._label(row)}\n{row.parameters:,} parameters, {row.seconds:.1f} s"
            for row in rows
        ]
        axes.set_yticks(range(len(rows)), labels)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        direction = "higher" if self.higher_is_better else "lower"
        axes.set_xlabel(f"{self.primary}, {self.test_split} ({direction} is better)")
        title = f"{self.asked['data']}: backbone {self.asked['backbone']}, {self._trained()}"
        figure.suptitle(title, x=0.01, ha="left", fontsize="medium")
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.08)
        axes.grid(axis="x", alpha=0.3)
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize="small")
        with written_whole(path) as temporary:
            figure.savefig(temporary, dpi=120, format="png")

    # On disk

    def write(self, folder: Path, draw: bool = True) -> None:
        """Write ``comparison.json``, ``comparison.md`` and ``comparison.png``, each whole or not at all.

        Args:
            folder: Folder of the files; it is created if it is missing.
            draw: Write the figure.
        """
        folder.mkdir(parents=True, exist_ok=True)
        content = {"format": FORMAT, "version": VERSION, **asdict(self), "chosen": self.chosen, "versions": versions()}
        with written_whole(folder / "comparison.json") as temporary:
            temporary.write_text(json_text(content))
        with written_whole(folder / "comparison.md") as temporary:
            temporary.write_text(self.markdown())
        if draw:
            self.plot(folder / "comparison.png")

    @classmethod
    def read(cls, path: Path) -> "Comparison":
        """Read a ``comparison.json``. Raises ValueError if it is damaged or something else."""
        try:
            content = json.loads(path.read_text())
            version = content.pop("version")
            if content.pop("format") != FORMAT or version not in (2, VERSION):
                raise KeyError
            content.pop("versions")
            content.pop("chosen", None)
            for measured in _measured(content):
                measured.update({name: float("nan") for name, value in measured.items() if value is None})
            if version == 2:
                for trial in content["trials"]:
                    trial["token_warmup_steps"] = trial.pop("align_steps")
            content["trials"] = [Trial(**trial) for trial in content["trials"]]
            content["plans"] = {tune: Plan(**plan) for tune, plan in content["plans"].items()}
            return cls(**content)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(f"{path} is damaged, or no comparison of a version known here; remove it.") from None


def _measured(content: dict[str, Any]) -> list[dict[str, float | None]]:
    """All dicts of metrics in ``comparison.json``, where null stands for a value that is not defined."""
    trials = [trial[split] for trial in content["trials"] for split in ("validation", "test")]
    return trials + [metrics for baselines in content["baselines"].values() for metrics in baselines.values()]


def shown(value: float) -> str:
    """Format a metric as ``cell`` does, but without decimals from 100 on."""
    return f"{value:,.0f}" if abs(value) >= 100 else cell(value)
