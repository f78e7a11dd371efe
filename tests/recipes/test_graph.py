"""BBBP, ESOL and PCQM4Mv2, end to end, on a few molecules."""

from dataclasses import replace

import graph_bbbp
import graph_esol
import graph_pcqm4mv2
import numpy as np
import pandas as pd
import pytest
import torch

from tests.recipes.common import check_run, real, train


def crossing() -> pd.DataFrame:
    """Some molecules, as many of each class, of BBBP where it is at hand."""
    folder = real("graph/bbbp")
    if folder is not None:
        table = pd.read_csv(folder / "data.csv")
        return table.groupby(["split_random", "label"]).head(30)
    smiles = ["C" * n + end for n in range(1, 41) for end in ("C", "C(=O)O")]
    parts = ["train", "train", "train", "validation", "test"]
    split = [parts[i // 2 % 5] for i in range(len(smiles))]
    label = [int(not s.endswith("O")) for s in smiles]
    return pd.DataFrame({"smiles": smiles, "label": label, "split": split, "split_random": split})


def soluble() -> pd.DataFrame:
    """Some molecules of ESOL where it is at hand."""
    folder = real("graph/esol")
    if folder is not None:
        table = pd.read_csv(folder / "data.csv")
        return table.groupby("split").head(40)
    smiles = ["C" * n + "O" * k for n in range(1, 21) for k in range(1, 7)]
    label = [0.8 * s.count("O") - 0.4 * s.count("C") for s in smiles]
    split = ["train", "validation", "train", "test", "train"] * (len(smiles) // 5)
    return pd.DataFrame({"smiles": smiles, "label": label, "compound": smiles, "split": split})


def test_bbbp(nano, tmp_path):
    crossing().to_csv(tmp_path / "data.csv", index=False)
    recipe = replace(graph_bbbp.RECIPE, split_column="split_random")
    report = train(recipe, nano, tmp_path, tmp_path / "out", epochs=8, batch_size=16)
    assert report.test["auroc"] > 0.6 > report.baselines["trivial"]["majority class"]["auroc"]
    check_run(report, tmp_path / "out" / "seed0", crossing().smiles.tolist()[:20])


def test_esol(nano, tmp_path):
    soluble().to_csv(tmp_path / "data.csv", index=False)
    report = train(graph_esol.RECIPE, nano, tmp_path, tmp_path / "out", epochs=10, batch_size=8)
    assert report.test["rmse"] < 0.8 * report.baselines["trivial"]["mean"]["rmse"]
    check_run(report, tmp_path / "out" / "seed0", soluble().smiles.tolist()[:20])


@pytest.fixture
def published(tmp_path):
    """PCQM4Mv2's form: 120 chains and rings, of which the last twenty are withheld."""
    smiles = [ring + "C" * n + "O" * k for ring in ("", "c1ccccc1") for n in range(1, 11) for k in range(6)]
    gap = [8 - 3 * s.count("c1ccccc1") - 0.1 * len(s) for s in smiles]
    table = pd.DataFrame({"idx": range(120), "smiles": smiles, "homolumogap": gap})
    table.loc[100:, "homolumogap"] = np.nan
    (tmp_path / "raw").mkdir()
    table.to_csv(tmp_path / "raw" / "data.csv.gz", index=False)
    order = np.random.default_rng(0).permutation(100)
    splits = {"train": order[:70], "valid": order[70:], "test-dev": np.arange(100, 120), "test-challenge": []}
    torch.save(splits, tmp_path / "split_dict.pt")
    return tmp_path


def test_the_published_splits_of_pcqm4mv2_are_used(nano, published, tmp_path):
    splits = graph_pcqm4mv2.read(published)
    assert {split: len(table) for split, table in splits.items()} == {"train": 70, "test": 30}
    assert not set(splits["train"].smiles) & set(splits["test"].smiles) and splits["test"].homolumogap.notna().all()
    recipe = graph_pcqm4mv2.RECIPE.read_with(molecules=60)
    report = train(recipe, nano, published, tmp_path / "out", epochs=6, batch_size=8, lr=3e-3)
    check_run(report, tmp_path / "out" / "seed0", splits["test"].smiles.tolist()[:5])


def test_another_folder_and_a_harmful_file_are_refused(published):
    with pytest.raises(FileNotFoundError, match=r"raw/data\.csv\.gz and split_dict\.pt"):
        graph_pcqm4mv2.read(published / "raw")
    torch.save({"train": pd.DataFrame()}, published / "split_dict.pt")
    with pytest.raises(Exception, match="Weights only load failed"):
        graph_pcqm4mv2.read(published)
