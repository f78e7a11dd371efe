"""Trials of a search for settings: a table, the best, and what the default gives."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metatx.evaluation.budget import Plan
from metatx.files import written_whole
from metatx.storage.card import cell

__all__ = ["FINISHED", "Search", "TrialRow"]

FINISHED = "finished"
SHOWN = 10  # trials that the printed table has
LONGEST = 60  # letters of a reason in the table


@dataclass(frozen=True)
class TrialRow:
    """One trial.

    Attributes:
        number: Number, from 0, which is the default.
        state: ``"finished"``, or why it ended before.
        value: Metric on the validation split; None where the trial did not finish.
        loss: Loss on the validation split, likewise.
        epochs: Epochs that it was trained for.
        seconds: Seconds that it took.
        values: Values that it tried, by name.
    """

    number: int
    state: str
    value: float | None
    loss: float | None
    epochs: int
    seconds: float
    values: Mapping[str, Any]

    def __str__(self) -> str:
        return f"trial {self.number}: {self.state[:LONGEST] if self.value is None else cell(self.value)}"


@dataclass
class Search:
    """Trials of a search, with data, metric, seed and backbone.

    Attributes:
        data: Name of the data.
        metric: Metric on the validation split that ranks the trials.
        higher_is_better: True if a higher value is better.
        backbone: Name of the backbone.
        seed: Seed of every trial.
        trials: Trials in the order in which they were made; the first is the default.
        default: Values without a search.
        choices: Values of each name but the learning rate that are tried.
        plan: Epochs and samples of every trial.
    """

    data: str
    metric: str
    higher_is_better: bool
    backbone: str
    seed: int
    trials: list[TrialRow]
    default: dict[str, Any]
    choices: Mapping[str, Sequence[Any]]
    plan: Plan

    @property
    def sign(self) -> int:
        """Factor that makes larger values of the metric better: 1 or -1."""
        return 1 if self.higher_is_better else -1

    @property
    def has_default(self) -> bool:
        """Return True if the default has been tried."""
        return bool(self.trials)

    @property
    def seconds(self) -> float:
        """Seconds of all trials."""
        return sum(trial.seconds for trial in self.trials)

    def ranked(self) -> list[TrialRow]:
        """Finished trials, the best first; of equal ones that with the lowest loss, of these the first."""
        finished = [trial for trial in self.trials if trial.value is not None]
        return sorted(finished, key=lambda trial: (-(trial.value or 0.0) * self.sign, trial.loss or 0.0))

    @property
    def best(self) -> TrialRow:
        """Best trial; never worse than the default, which is one of them."""
        return self.ranked()[0]

    @property
    def changes(self) -> dict[str, Any]:
        """Values of the best trial that differ from the default."""
        return {name: value for name, value in self.best.values.items() if value != self.default[name]}

    def __str__(self) -> str:
        """Format the table: the best trials, and the default."""
        ranked = self.ranked()
        shown = ranked[:SHOWN]
        shown += [trial for trial in ranked if trial.number == 0 and trial not in shown]
        early = len(self.trials) - len(ranked)
        lines = [
            f"{self.data}, validation {self.metric}, seed {self.seed}, backbone {self.backbone}: "
            f"{len(self.trials)} trials of {self.plan}, {early} of them ended early, in {self.seconds:.0f} s",
            f"{'trial':<9}{self.metric:>{max(10, len(self.metric) + 2)}}  values that differ from the default",
        ]
        for trial in shown:
            values = {name: value for name, value in trial.values.items() if value != self.default[name]}
            said = " ".join(f"{name}={_said(value)}" for name, value in values.items())
            name = "default" if trial.number == 0 else str(trial.number)
            lines.append(f"{name:<9}{cell(trial.value):>{max(10, len(self.metric) + 2)}}  {said}".rstrip())
        return "\n".join(lines)

    def write(self, folder: Path) -> None:
        """Write all trials to ``trials.csv`` in a folder."""
        names = ["trial", "state", self.metric, "loss", "epochs", "seconds", *self.default]
        with written_whole(folder / "trials.csv") as temporary, temporary.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(names)
            for trial in self.trials:
                numbers = [trial.value, trial.loss, trial.epochs, round(trial.seconds, 1)]
                tried = [trial.values[name] for name in self.default]
                writer.writerow([trial.number, trial.state, *numbers, *tried])


def _said(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
