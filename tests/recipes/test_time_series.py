"""ETTh1 on part of its rows with a short look-back, and Japanese Vowels for a few epochs, end to end."""

import numpy as np
import pandas as pd
import pytest
import time_series_etth1
import time_series_japanese_vowels

from tests.recipes.common import check_run, real, train

CHANNELS = ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"]


@pytest.fixture
def hours(tmp_path):
    there = real("time_series/etth1")
    table = load() if there is None else pd.read_csv(there / "ETTh1.csv")
    table[:900].to_csv(tmp_path / "ETTh1.csv", index=False)
    return tmp_path


def load():
    hours = np.arange(900)
    noise = np.random.default_rng(0).normal(size=(len(CHANNELS), 900)) / 2
    waves = [np.sin((hours + shift) * np.pi / 12) + part for shift, part in enumerate(noise)]
    dates = pd.date_range("2016-07-01", periods=900, freq="h").strftime("%Y-%m-%d %H:%M:%S")
    return pd.DataFrame({"date": dates, **dict(zip(CHANNELS, waves, strict=True))})


def test_etth1(nano, hours, tmp_path, monkeypatch):
    monkeypatch.setattr(time_series_etth1, "BORDERS", {"train": (0, 600), "validation": (600, 750), "test": (750, 900)})
    recipe = time_series_etth1.recipe(lookback=96, horizon=24)
    options = {"tokenizer_options": {"patch_size": 24, "stride": 24}, "head_options": {"linear": 96}}
    report = train(recipe, nano, hours, tmp_path / "out", epochs=1, **options)
    window = pd.read_csv(hours / "ETTh1.csv")[CHANNELS].to_numpy()[:96].T
    check_run(report, tmp_path / "out" / "seed0", [window])
    assert report.task.predict([window]).shape == (1, 7, 24)
    assert set(report.baselines["classical"]) == {"ridge on the window", "Holt-Winters"}
    assert report.test["mse"] < 1.1 * report.baselines["classical"]["ridge on the window"]["mse"]


@pytest.fixture
def vowels(tmp_path):
    there = real("time_series/japanese_vowels")
    if there is not None:
        return there
    (tmp_path / "vowels").mkdir()
    for split in ("train", "test"):
        voices(split).to_parquet(tmp_path / "vowels" / f"{split}.parquet")
    return tmp_path / "vowels"


def voices(split):
    """Speakers with voices of their own, 7 to 29 steps."""
    levels = np.random.default_rng(0).normal(size=(9, 12))
    rng = np.random.default_rng(1 + len(split))
    labels = np.arange(180) % 9
    series = [(levels[label] + rng.normal(size=(rng.integers(7, 30), 12)) / 3).tolist() for label in labels]
    return pd.DataFrame({"series": series, "label": labels})


def test_japanese_vowels(nano, vowels, tmp_path):
    report = train(time_series_japanese_vowels.RECIPE, nano, vowels, tmp_path / "out", epochs=8)
    series = pd.read_parquet(vowels / "test.parquet")["series"][:20].tolist()
    check_run(report, tmp_path / "out" / "seed0", [np.stack(list(steps)) for steps in series])
    assert report.test["accuracy"] > 0.85
