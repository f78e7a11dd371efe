"""BBBP's recipe, on a few molecules."""

import pandas as pd

from recipes.graph_bbbp import main
from tests.recipes.common import check_run, real


def few() -> pd.DataFrame:
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


def test_it_beats_chance_and_its_task_answers_the_same_again(tmp_path):
    few().to_csv(tmp_path / "data.csv", index=False)
    (report,) = main(
        data=str(tmp_path), epochs=8, batch_size=16, split_column="split_random", out=str(tmp_path / "out")
    )
    assert report.test["auroc"] > 0.6 > report.baselines["trivial"]["majority class"]["auroc"]
    check_run(report, tmp_path / "out" / "seed0", few().smiles.tolist()[:20])
