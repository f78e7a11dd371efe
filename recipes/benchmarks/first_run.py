"""Scores of a new user's first run: five small data sets by the defaults of ``metatx train``.

    python recipes/benchmarks/first_run.py

Beside each: the better of two models of scikit-learn's (linear on standardised columns, gradient boosting) on the same
rows, and the expected calibration error. Wine and iris take a quarter of a minute a seed on one quiet core, digits four
minutes.
"""

import time
from typing import Any

import numpy as np
import pandas as pd
from sklearn import datasets
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import accuracy_score, root_mean_squared_error
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import metatx
from metatx.cli.scripts import command

SETS = ("wine", "iris", "breast_cancer", "diabetes", "digits")
TEST_SHARE = 0.2  # that metatx.run holds out of a table without splits, with the same rows


def main(*, seeds: tuple[int, ...] = (0, 1, 2), sets: tuple[str, ...] = SETS) -> None:
    """Train on each data set with each seed, and print the means.

    Args:
        seeds: Seeds of weights, splits and order, one run each.
        sets: Names of scikit-learn's data sets.
    """
    backbone = metatx.load_backbone("nano")
    for name in sets:
        table = getattr(datasets, f"load_{name}")(as_frame=True).frame
        rows = []
        for seed in seeds:
            started = time.perf_counter()
            options = {"target": "target", "settings": metatx.TrainingSettings(seed=seed), "baseline": False}
            report = metatx.run(table, "tabular", backbone=backbone, **options)
            seconds = time.perf_counter() - started
            found = report.test
            metric = report.task.head.primary_metric
            rows.append((found[metric], found.get("ece", np.nan), classical(table, seed), seconds))
        value, ece, best, seconds = np.mean(rows, axis=0)
        said = "" if np.isnan(ece) else f", calibration error {ece:.3f}"
        print(f"{name:<14} {metric} {value:.4f}, scikit-learn {best:.4f}{said}, {seconds:.0f} s a run")


def classical(table: pd.DataFrame, seed: int) -> float:
    """The better of the two models on the rows that ``metatx.run`` tests on, trained on all others."""
    inputs, target = table.drop(columns="target").to_numpy(), table.target.to_numpy()
    is_number = len(np.unique(target)) > 50
    labels = None if is_number else target.astype(str)
    train, test = train_test_split(np.arange(len(target)), test_size=TEST_SHARE, random_state=seed, stratify=labels)
    models: list[Any] = [LogisticRegression(max_iter=1000), HistGradientBoostingClassifier(random_state=0)]
    if is_number:
        models = [RidgeCV(np.logspace(-3, 3, 13)), HistGradientBoostingRegressor(random_state=0)]
    answers = [
        make_pipeline(StandardScaler(), model).fit(inputs[train], target[train]).predict(inputs[test])
        for model in models
    ]
    if is_number:
        return min(root_mean_squared_error(target[test], answer) for answer in answers)
    return max(accuracy_score(target[test], answer) for answer in answers)


if __name__ == "__main__":
    command(main)
