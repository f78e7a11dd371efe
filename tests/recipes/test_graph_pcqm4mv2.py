"""PCQM4Mv2's recipe, on a small folder of the published form."""

import numpy as np
import pandas as pd
import pytest
import torch

from recipes.graph_pcqm4mv2 import main, molecules_by_split
from tests.recipes.common import check_run


@pytest.fixture
def folder(tmp_path):
    """120 chains and rings, of which the last twenty are withheld."""
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


def test_published_splits_are_used(folder, tmp_path):
    splits = molecules_by_split(folder, None)
    assert {split: len(table) for split, table in splits.items()} == {"train": 70, "test": 30}
    assert not set(splits["train"].smiles) & set(splits["test"].smiles) and splits["test"].homolumogap.notna().all()
    (report,) = main(data=str(folder), epochs=6, batch_size=8, lr=3e-3, molecules=60, out=str(tmp_path / "out"))
    check_run(report, tmp_path / "out" / "seed0", splits["test"].smiles.tolist()[:5])


def test_another_folder_and_a_harmful_file_are_refused(folder):
    with pytest.raises(FileNotFoundError, match=r"raw/data\.csv\.gz and split_dict\.pt"):
        molecules_by_split(folder / "raw", None)
    torch.save({"train": pd.DataFrame()}, folder / "split_dict.pt")
    with pytest.raises(Exception, match="Weights only load failed"):
        molecules_by_split(folder, None)
