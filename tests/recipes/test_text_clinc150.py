"""CLINC150's recipe, on a few intents."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from metatx import Task
from recipes.text_clinc150 import main

INTENTS = ["balance", "translate", "weather", "timer", "oos"]


def few(split: str) -> pd.DataFrame:
    """Some questions of five intents, of CLINC150 where it is at hand."""
    if "METATX_DATA" in os.environ:
        table = pd.read_parquet(Path(os.environ["METATX_DATA"]) / "text/clinc150" / f"{split}.parquet")
        return table[table.intent.isin(INTENTS)].groupby("intent").head(20)
    rows = [(f"please tell me {i} times about my {intent}", intent, "any") for intent in INTENTS for i in range(20)]
    return pd.DataFrame(rows, columns=["text", "intent", "domain"])


def test_it_learns_intents_and_its_task_answers_the_same_again(nano, tmp_path, capsys):
    for split in ("train", "validation", "test"):
        few(split).to_parquet(tmp_path / f"{split}.parquet")
    (report,) = main(data=str(tmp_path), seeds=(0,), epochs=4, lr=5e-3, batch_size=8, out=str(tmp_path / "out"))
    trivial = report.baselines["trivial"]["majority class"]["accuracy"]
    assert trivial == pytest.approx(0.25) and report.test["accuracy"] > 0.7
    assert "TF-IDF, logistic regression" in report.baselines["classical"]
    assert "CLINC150, in scope" in capsys.readouterr().out
    questions = few("test").text.tolist()
    task = Task.from_pretrained(tmp_path / "out" / "seed0" / "task", backbone=nano)
    np.testing.assert_allclose(task.predict_proba(questions), report.task.predict_proba(questions), atol=1e-5)
    assert set(task.predict(questions)) <= set(INTENTS)
