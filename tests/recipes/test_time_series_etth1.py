"""ETTh1, end to end, on part of its rows with a short look-back."""

import numpy as np
import pandas as pd
import pytest

from recipes import time_series_etth1
from tests.recipes.common import check_run, real

CHANNELS = ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"]


@pytest.fixture
def folder(tmp_path):
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


def test_etth1(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(time_series_etth1, "BORDERS", {"train": (0, 600), "validation": (600, 750), "test": (750, 900)})
    (report,) = time_series_etth1.main(
        data=str(folder),
        seeds=(0,),
        epochs=1,
        lookback=96,
        linear=96,
        patch_size=24,
        horizon=24,
        out=str(tmp_path / "out"),
    )
    window = pd.read_csv(folder / "ETTh1.csv")[CHANNELS].to_numpy()[:96].T
    check_run(report, tmp_path / "out" / "seed0", [window])
    assert report.task.predict([window]).shape == (1, 7, 24)
    ((_, ridge),) = report.baselines["classical"].items()
    assert report.test["mse"] < 1.1 * ridge["mse"]
