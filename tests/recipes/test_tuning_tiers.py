"""The table of tuning tiers: each in a process of its own, and again without a run."""

import json

import numpy as np
import pandas as pd
import tuning_tiers


def test_one_row_a_tier_and_again_without_a_run(tmp_path, capsys, monkeypatch):
    assert tuning_tiers.STAGES == ("frozen", "frozen again", "scale", "norm", "lora", "full")
    monkeypatch.setattr(tuning_tiers, "STAGES", ("frozen", "lora"))  # two processes say what five would
    rng = np.random.default_rng(0)
    (tmp_path / "data" / "time_series" / "japanese_vowels").mkdir(parents=True)
    for name in ("train", "test"):
        series = [(rng.normal(size=(10, 12)) + i % 3).tolist() for i in range(30)]
        frame = pd.DataFrame({"series": series, "label": [str(i % 3) for i in range(30)]})
        frame.to_parquet(tmp_path / "data" / "time_series" / "japanese_vowels" / f"{name}.parquet")
    options = {"data": str(tmp_path / "data"), "only": "japanese_vowels,adult", "seeds": (0,), "budget": 0.2}
    tuning_tiers.main(**options, out=str(tmp_path / "out"))
    assert "adult is left out" in capsys.readouterr().out
    lines = (tmp_path / "out" / "tiers.md").read_text().splitlines()
    assert lines[0] == "Backbone nano, seeds 0, 0.2 s of training a run."
    rows = {line.split(" | ")[0][2:]: line.split(" | ")[1:] for line in lines if line.count("|") == 7}
    assert list(rows)[2:] == ["frozen", "lora"], lines
    trained = [int(rows[tier][1].replace(",", "")) for tier in ("frozen", "lora")]
    assert trained[0] < trained[1]
    assert all(float(rows[tier][3].replace(",", "")) > 100 for tier in ("frozen", "lora"))
    # What is there already is read, not run.
    path = tmp_path / "out" / "japanese_vowels" / "lora-0" / "metrics.json"
    metrics = json.loads(path.read_text())
    path.write_text(json.dumps(metrics | {"test": {metrics["primary_metric"]: 0.1234}}))
    tuning_tiers.main(**options, out=str(tmp_path / "out"))
    assert "| lora | 0.1234 |" in (tmp_path / "out" / "tiers.md").read_text()
