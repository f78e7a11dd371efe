"""Japanese Vowels, end to end, on all of its series for a few epochs."""

import numpy as np
import pandas as pd
import pytest

from recipes import time_series_japanese_vowels
from tests.recipes.common import check_run, real


@pytest.fixture
def folder(tmp_path):
    there = real("time_series/japanese_vowels")
    if there is not None:
        return there
    for split in ("train", "test"):
        voices(split).to_parquet(tmp_path / f"{split}.parquet")
    return tmp_path


def voices(split):
    """Speakers with voices of their own, 7 to 29 steps."""
    levels = np.random.default_rng(0).normal(size=(9, 12))
    rng = np.random.default_rng(1 + len(split))
    labels = np.arange(180) % 9
    series = [(levels[label] + rng.normal(size=(rng.integers(7, 30), 12)) / 3).tolist() for label in labels]
    return pd.DataFrame({"series": series, "label": labels})


def test_japanese_vowels(folder, tmp_path):
    (report,) = time_series_japanese_vowels.main(data=str(folder), seeds=(0,), epochs=8, out=str(tmp_path / "out"))
    series = pd.read_parquet(folder / "test.parquet")["series"][:20].tolist()
    check_run(report, tmp_path / "out" / "seed0", [np.stack(list(steps)) for steps in series])
    assert report.test["accuracy"] > 0.85
