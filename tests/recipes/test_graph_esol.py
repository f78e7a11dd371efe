"""ESOL's recipe, on a few molecules."""

import pandas as pd

from recipes.graph_esol import main
from tests.recipes.common import check_run, real


def few() -> pd.DataFrame:
    """Some molecules, of ESOL where it is at hand."""
    folder = real("graph/esol")
    if folder is not None:
        table = pd.read_csv(folder / "data.csv")
        return table.groupby("split").head(60)
    smiles = ["C" * n + "O" * k for n in range(1, 21) for k in range(1, 7)]
    label = [0.8 * s.count("O") - 0.4 * s.count("C") for s in smiles]
    split = ["train", "validation", "train", "test", "train"] * (len(smiles) // 5)
    return pd.DataFrame({"smiles": smiles, "label": label, "compound": smiles, "split": split})


def test_it_beats_the_mean_and_its_task_answers_the_same_again(tmp_path):
    few().to_csv(tmp_path / "data.csv", index=False)
    (report,) = main(data=str(tmp_path), seeds=(0,), epochs=10, batch_size=8, molecules=40, out=str(tmp_path / "out"))
    assert report.test["rmse"] < 0.8 * report.baselines["trivial"]["mean"]["rmse"]
    check_run(report, tmp_path / "out" / "seed0", few().smiles.tolist()[:20])
