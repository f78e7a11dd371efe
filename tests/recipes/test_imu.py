"""Phone and watch, end to end, on a few windows for a few epochs."""

from dataclasses import replace

import imu_spsw_har
import numpy as np
import pandas as pd
import pytest

from tests.recipes.common import check_run, real, train


@pytest.fixture
def folder(tmp_path):
    there = real("imu/spsw_har")
    for split, count in (("train", 50), ("test", 20)):
        table = made(split) if there is None else pd.read_parquet(there / f"{split}.parquet")
        part = table.sample(frac=1, random_state=0).groupby("label_name").head(count)
        part.reset_index(drop=True).to_parquet(tmp_path / f"{split}.parquet")
    return tmp_path


def made(split):
    """Activities of their own loudness, by people who do not overlap."""
    rng = np.random.default_rng(len(split))
    rows = []
    for i in range(120):
        label = ["SEATED", "TURNING", "WALKING"][i % 3]
        channels = {name: rng.normal(size=100) * (1 + 2 * (i % 3)) for name in imu_spsw_har.CHANNELS}
        rows.append({**channels, "subject": f"{split}{i // 12}", "label_name": label})
    return pd.DataFrame(rows)


def test_phone_and_watch(nano, folder, tmp_path):
    out = tmp_path / "out"
    report = train(imu_spsw_har.RECIPE, nano, folder, out, epochs=3, batch_size=16)
    rows = pd.read_parquet(folder / "test.parquet")[list(imu_spsw_har.CHANNELS)][:12].to_dict("records")
    check_run(report, out / "seed0", rows)
    assert report.test["f1"] > 0.5


def test_people_are_held_out(folder):
    table = pd.read_parquet(folder / "train.parquet")
    splits = replace(imu_spsw_har.RECIPE, validation_share=0.25).load(folder)
    train, held = (set(table.subject[splits[split].index]) for split in ("train", "validation"))
    assert train and held and not train & held
    assert set(imu_spsw_har.RECIPE.load(folder)) == {"train", "test"}
