"""Tasks saved by older code are read for ever, and answer as they did."""

import json
from collections import defaultdict

import pytest

from tests.saved_tasks.answers import HERE, differences, saved_tasks, shared_backbone

MODALITIES = {
    *("audio", "graph", "hyperspectral", "image", "imu", "infrared"),
    *("point_cloud", "tabular", "text", "time_series", "video", "xray"),
}
HEADS = {"classification", "detection", "embedding", "forecasting", "multilabel", "regression", "segmentation"}
# Other processors and their libraries add in another order: some 1e-6, where anything that is computed otherwise
# changes far more. ``python -m tests.saved_tasks.check`` compares to the last bit.
TOLERANCE = 1e-5
ROUNDED = 0.01  # boxes are written in hundredths of a pixel, which may be rounded the other way


FORMATS = [("version_1", 1), ("version_2_first", 2), ("version_2", 2), ("version_3", 3)]


@pytest.fixture(scope="module")
def backbone():
    return shared_backbone()


@pytest.mark.parametrize("folder", [pytest.param(path, id=str(path.relative_to(HERE))) for path in saved_tasks(HERE)])
def test_a_saved_task_answers_as_when_it_was_saved(folder, backbone):
    outputs, records = differences(folder, backbone)
    assert outputs <= TOLERANCE and records <= ROUNDED


def configs(version):
    """The configs of the saved tasks of one folder."""
    return [json.loads((path / "task" / "config.json").read_text()) for path in saved_tasks(HERE / version)]


@pytest.mark.parametrize(("folder", "version"), FORMATS)
def test_each_version_of_the_format_is_there(folder, version):
    assert {config["version"] for config in configs(folder)} == {version}


def test_every_modality_head_and_tier_is_there():
    tiers = defaultdict(set)
    for config in configs("version_2"):
        tiers[config["tune"]].add(config["tokenizer"]["name"])
    assert tiers["frozen"] >= MODALITIES
    assert all(len(tiers[tune]) >= 2 for tune in ("norm", "lora", "full", "merged"))
    assert {config["head"]["name"] for config in configs("version_2")} >= HEADS
    assert {config["tokenizer"]["name"] for config in configs("version_1")} >= MODALITIES
    assert {config["tokenizer"]["name"] for config in configs("version_3")} >= MODALITIES
    assert {config["head"]["name"] for config in configs("version_3")} >= HEADS
    assert {config["tune"] for config in configs("version_3")} == set(tiers)
