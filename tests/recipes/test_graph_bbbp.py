"""BBBP's recipe, on a few molecules."""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from metatx import Task
from recipes.graph_bbbp import main


def few() -> pd.DataFrame:
    """Some molecules, as many of each class, of BBBP where it is at hand."""
    if "METATX_DATA" in os.environ:
        table = pd.read_csv(Path(os.environ["METATX_DATA"]) / "graph/bbbp/data.csv")
        return table.groupby(["split_random", "label"]).head(30)
    smiles = ["C" * n + end for n in range(1, 41) for end in ("C", "C(=O)O")]
    parts = ["train", "train", "train", "validation", "test"]
    split = [parts[i // 2 % 5] for i in range(len(smiles))]
    label = [int(not s.endswith("O")) for s in smiles]
    return pd.DataFrame({"smiles": smiles, "label": label, "split": split, "split_random": split})


def test_it_beats_chance_and_its_task_answers_the_same_again(nano, tmp_path):
    few().to_csv(tmp_path / "data.csv", index=False)
    (report,) = main(
        data=str(tmp_path), epochs=3, batch_size=16, split_column="split_random", out=str(tmp_path / "out")
    )
    assert report.test["auroc"] > 0.6 > report.baselines["trivial"]["majority class"]["auroc"]
    assert np.isfinite(report.baselines["classical"]["gradient boosting"]["auroc"])
    molecules = few().smiles.tolist()[:20]
    task = Task.from_pretrained(tmp_path / "out" / "seed0" / "task", backbone=nano)
    np.testing.assert_allclose(task.predict_proba(molecules), report.task.predict_proba(molecules), atol=1e-4)
