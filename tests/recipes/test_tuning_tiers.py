"""The table of tuning tiers: each in a process of its own, and again without a run."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "tuning_tiers.py"


def test_one_row_a_tier_and_again_without_a_run(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "data" / "time_series" / "japanese_vowels").mkdir(parents=True)
    for name in ("train", "test"):
        series = [(rng.normal(size=(10, 12)) + i % 3).tolist() for i in range(30)]
        frame = pd.DataFrame({"series": series, "label": [str(i % 3) for i in range(30)]})
        frame.to_parquet(tmp_path / "data" / "time_series" / "japanese_vowels" / f"{name}.parquet")
    options = ["--data", str(tmp_path / "data"), "--only", "japanese_vowels,adult", "--seeds", "[0]"]
    command = [sys.executable, str(RECIPE), *options, "--budget", "0.2", "--out", str(tmp_path / "out")]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "adult is left out" in printed
    lines = (tmp_path / "out" / "tiers.md").read_text().splitlines()
    assert lines[0] == "Backbone nano, seeds 0, 0.2 s of training a run."
    rows = {line.split(" | ")[0][2:]: line.split(" | ")[1:] for line in lines if line.count("|") == 7}
    assert list(rows)[2:] == ["frozen", "norm", "lora", "full"], lines
    trained = [int(rows[tier][1].replace(",", "")) for tier in ("frozen", "norm", "lora", "full")]
    assert trained == sorted(trained) and len(set(trained)) == 4
    assert all(float(rows[tier][3].replace(",", "")) > 100 for tier in ("frozen", "norm", "lora", "full"))
    # What is there already is read, not run.
    path = tmp_path / "out" / "japanese_vowels" / "lora-0" / "metrics.json"
    metrics = json.loads(path.read_text())
    path.write_text(json.dumps(metrics | {"test": {metrics["primary_metric"]: 0.1234}}))
    subprocess.run(command, check=True, capture_output=True)
    assert "| lora | 0.1234 |" in (tmp_path / "out" / "tiers.md").read_text()
