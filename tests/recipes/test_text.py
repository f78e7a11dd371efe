"""CLINC150 and SST-2, end to end, on a few intents and phrases."""

import numpy as np
import pandas as pd
import pytest
import text_clinc150
import text_sst2

from tests.recipes.common import check_run, real, train

SPLITS = ("train", "validation", "test")
INTENTS = ["balance", "translate", "weather", "timer", "oos"]


def questions(split: str) -> pd.DataFrame:
    """Some questions of five intents, of CLINC150 where it is at hand."""
    folder = real("text/clinc150")
    if folder is not None:
        table = pd.read_parquet(folder / f"{split}.parquet")
        return table[table.intent.isin(INTENTS)].groupby("intent").head(20)
    rows = [(f"please tell me {i} times about my {intent}", intent, "any") for intent in INTENTS for i in range(20)]
    return pd.DataFrame(rows, columns=["text", "intent", "domain"])


def phrases(split: str) -> pd.DataFrame:
    """Some phrases, of SST-2 where it is at hand."""
    folder = real("text/sst2")
    if folder is not None:
        table = pd.read_parquet(folder / f"{split}.parquet")
        return table.head(800 if split == "train" else 120)
    rng = np.random.default_rng(len(split))
    labels = rng.integers(0, 2, 300)
    words = [f"a {['dull', 'fine'][label]} film with {rng.integers(99)} jokes" for label in labels]
    return pd.DataFrame({"sentence": words, "label": labels})


def test_clinc150(nano, tmp_path, capsys):
    for split in SPLITS:
        questions(split).to_parquet(tmp_path / f"{split}.parquet")
    report = train(text_clinc150.RECIPE, nano, tmp_path, tmp_path / "out", epochs=4, lr=5e-3, batch_size=8)
    trivial = report.baselines["trivial"]["majority class"]["accuracy"]
    assert trivial == pytest.approx(0.25) and report.test["accuracy"] > 0.7
    assert "TF-IDF, logistic regression" in report.baselines["classical"]
    assert "CLINC150, in scope" in capsys.readouterr().out
    check_run(report, tmp_path / "out" / "seed0", questions("test").text.tolist())
    out_of_scope = {split: "oos" in set(table.intent) for split, table in text_clinc150.read(tmp_path).items()}
    assert out_of_scope == {"train": True, "validation": False, "test": False}


def test_sst2(nano, tmp_path):
    for split in SPLITS:
        phrases(split).to_parquet(tmp_path / f"{split}.parquet")
    report = train(text_sst2.RECIPE, nano, tmp_path, tmp_path / "out", epochs=3, lr=5e-3, batch_size=16)
    assert report.test["accuracy"] > report.baselines["trivial"]["majority class"]["accuracy"] + 0.05
    assert report.validation["accuracy"] > 0.55
    check_run(report, tmp_path / "out" / "seed0", phrases("test").sentence.tolist()[:40])
    drawn = text_sst2.read(tmp_path, phrases=20)
    assert len(drawn["train"]) == 20 and len(drawn["test"]) == len(phrases("test"))
