"""Adult, end to end, on some of its rows."""

import numpy as np
import pandas as pd
import pytest
import tabular_adult

from tests.recipes.common import check_run, real, train


@pytest.fixture
def folder(tmp_path):
    """1,500 rows of the training split and 800 of the test split."""
    there = real("tabular/adult")
    for split, count in (("train", 1500), ("test", 800)):
        table = people(count, seed=count) if there is None else pd.read_parquet(there / f"{split}.parquet")[:count]
        table.to_parquet(tmp_path / f"{split}.parquet")
    return tmp_path


def people(count, seed):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "age": rng.integers(17, 90, count),
            "education": rng.choice(["Bachelors", "11th", "Masters"], count),
            "hours_per_week": rng.integers(10, 80, count),
        }
    )
    rich = (table.hours_per_week > 40) & (table.education != "11th")
    table["income"] = np.where(rich, ">50K", "<=50K")
    return table


def test_adult(nano, folder, tmp_path):
    report = train(tabular_adult.RECIPE, nano, folder, tmp_path / "out", epochs=2, batch_size=64)
    rows = pd.read_parquet(folder / "test.parquet")[:50]
    check_run(report, tmp_path / "out" / "seed0", rows)
    assert report.test["auroc"] > 0.85
