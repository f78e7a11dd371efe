"""CLINC150's recipe, on a few intents."""

import pandas as pd
import pytest

from recipes.text_clinc150 import main
from tests.recipes.common import check_run, real

INTENTS = ["balance", "translate", "weather", "timer", "oos"]


def few(split: str) -> pd.DataFrame:
    """Some questions of five intents, of CLINC150 where it is at hand."""
    folder = real("text/clinc150")
    if folder is not None:
        table = pd.read_parquet(folder / f"{split}.parquet")
        return table[table.intent.isin(INTENTS)].groupby("intent").head(20)
    rows = [(f"please tell me {i} times about my {intent}", intent, "any") for intent in INTENTS for i in range(20)]
    return pd.DataFrame(rows, columns=["text", "intent", "domain"])


def test_it_learns_intents_and_its_task_answers_the_same_again(tmp_path, capsys):
    for split in ("train", "validation", "test"):
        few(split).to_parquet(tmp_path / f"{split}.parquet")
    (report,) = main(data=str(tmp_path), seeds=(0,), epochs=4, lr=5e-3, batch_size=8, out=str(tmp_path / "out"))
    trivial = report.baselines["trivial"]["majority class"]["accuracy"]
    assert trivial == pytest.approx(0.25) and report.test["accuracy"] > 0.7
    assert "TF-IDF, logistic regression" in report.baselines["classical"]
    assert "CLINC150, in scope" in capsys.readouterr().out
    check_run(report, tmp_path / "out" / "seed0", few("test").text.tolist())
