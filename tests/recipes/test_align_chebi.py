"""Molecules and text, end to end, on a few pairs."""

import json

import align_chebi as recipe
import numpy as np
import pandas as pd
import pytest

from metatx.pretraining.alignment import Alignment
from metatx.pretraining.loop import PretrainingSettings
from tests.recipes.common import real

SMALL = {"fingerprint": 256}
ENDS = {"acid": "C(=O)O", "alcohol": "O", "amine": "N", "ether": "OC"}


def made() -> pd.DataFrame:
    """Chains of carbon with an end, and their names."""
    rows = [
        ("C" * n + end, f"The molecule is an {name} of {n} carbons.")
        for n in range(1, 21)
        for name, end in ENDS.items()
    ]
    return pd.DataFrame(rows, columns=["smiles", "text"]).sample(frac=1, random_state=0)


@pytest.fixture
def folder(tmp_path):
    place = real(recipe.PLACE)
    for split, name, count in (("train", "train", 48), ("val", "validation", 16), ("test", "test", 16)):
        if place is not None:
            table = pd.read_parquet(place / f"{split}.parquet")
            table = table[table.smiles.str.len() < 60].head(count)
        else:
            start = {"train": 0, "val": 48, "test": 64}[split]
            table = made().iloc[start : start + count]
        (tmp_path / "data").mkdir(exist_ok=True)
        table.to_parquet(tmp_path / f"data/{name}.parquet")
    return tmp_path / "data"


def test_molecules_find_their_descriptions(tmp_path, folder, capsys) -> None:
    settings = PretrainingSettings(epochs=6, batch_size=16, lr=3e-3, precision="fp32")
    report = recipe.main(out=str(tmp_path / "out"), data=str(folder), graph=SMALL, settings=settings)
    for way in report.lines.values():
        assert way["aligned"]["mrr"] > 1.3 * way["chance"]["mrr"], way
        assert "CCA, classical features" in way
    assert json.loads((tmp_path / "out/metrics.json").read_text()) == report.as_json()
    assert str(report) in capsys.readouterr().out
    loaded = Alignment.from_pretrained(tmp_path / "out/alignment")
    assert sorted(loaded.towers) == ["graph", "text"]
    assert np.isfinite(loaded.embed("graph", ["CCO"])).all()
