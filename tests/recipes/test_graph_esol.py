"""ESOL's recipe, on a few molecules."""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from metatx import Task
from recipes.graph_esol import main


def few() -> pd.DataFrame:
    """Some molecules, of ESOL where it is at hand."""
    if "METATX_DATA" in os.environ:
        table = pd.read_csv(Path(os.environ["METATX_DATA"]) / "graph/esol/data.csv")
        return table.groupby("split").head(60)
    smiles = ["C" * n + "O" * k for n in range(1, 21) for k in range(1, 7)]
    label = [0.8 * s.count("O") - 0.4 * s.count("C") for s in smiles]
    split = ["train", "validation", "train", "test", "train"] * (len(smiles) // 5)
    return pd.DataFrame({"smiles": smiles, "label": label, "compound": smiles, "split": split})


def test_it_beats_the_mean_and_its_task_answers_the_same_again(nano, tmp_path):
    few().to_csv(tmp_path / "data.csv", index=False)
    (report,) = main(data=str(tmp_path), seeds=(0,), epochs=4, batch_size=8, molecules=40, out=str(tmp_path / "out"))
    assert report.test["rmse"] < 0.8 * report.baselines["trivial"]["mean"]["rmse"]
    assert np.isfinite(report.baselines["classical"]["gradient boosting"]["rmse"])
    table = few()
    molecules = table[table.split == "test"].smiles.tolist()[:20]
    task = Task.from_pretrained(tmp_path / "out" / "seed0" / "task", backbone=nano)
    np.testing.assert_allclose(task.predict(molecules), report.task.predict(molecules), atol=1e-4)
