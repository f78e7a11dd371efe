"""What every test of a recipe does: find the real data, and check what a run left behind."""

import importlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import metatx
from metatx.evaluation.recipe import Recipe
from metatx.evaluation.report import Report
from metatx.testing.tools import same

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


@contextmanager
def imported(*names: str, folder: Path = RECIPES) -> Iterator[list[ModuleType]]:
    """Recipes that import from their own folder, imported as they are when run: it is first on the path."""
    sys.path.insert(0, str(folder))
    try:
        yield [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(str(folder))


def real(place: str) -> Path | None:
    """The folder of a real data set; None where METATX_DATA is not set, for a self-made case of the same form."""
    if "METATX_DATA" not in os.environ:
        return None
    folder = Path(os.environ["METATX_DATA"]) / place
    assert folder.is_dir(), f"METATX_DATA names a folder without {place}"
    return folder


def train(recipe: Recipe, backbone: metatx.Backbone, data: Path, out: Path | None = None, **changes: Any) -> Report:
    """Run a recipe with one seed and what is changed of it, such as fewer epochs."""
    (report,) = recipe.changed(**changes).run(backbone, data=data, seeds=(0,), out=out)
    return report


def check_run(report: Report, out: Path, samples: Sequence[Any]) -> None:
    """Better than the trivial baseline, written as it was printed, and the saved task answers as the trained one."""
    primary = report.task.head.primary_metric
    ((_, trivial),) = report.baselines["trivial"].items()
    classical = next(iter(report.baselines["classical"].values()))
    assert all(np.isfinite(value) for value in [*report.test.values(), *classical.values()])
    gain = report.test[primary] - trivial[primary]
    assert gain > 0 if report.task.head.metrics()[primary].higher_is_better else gain < 0, (report.test, trivial)
    written = json.loads((out / "metrics.json").read_text())
    assert written["test"] == report.test and written["majority_or_naive"][primary] == trivial[primary]
    assert all(f"{value:.4f}" in str(report) for value in (trivial[primary], classical[primary])), str(report)
    again = metatx.Task.from_pretrained(out / "task", backbone=report.task.backbone)
    assert same(list(again.predict(samples)), list(report.task.predict(samples)))
