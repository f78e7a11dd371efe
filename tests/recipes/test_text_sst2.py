"""SST-2's recipe, on a few phrases."""

import numpy as np
import pandas as pd

from recipes.text_sst2 import main
from tests.recipes.common import check_run, real


def few(split: str) -> pd.DataFrame:
    """Some phrases, of SST-2 where it is at hand."""
    folder = real("text/sst2")
    if folder is not None:
        table = pd.read_parquet(folder / f"{split}.parquet")
        return table.head(800 if split == "train" else 150)
    rng = np.random.default_rng(len(split))
    labels = rng.integers(0, 2, 300)
    words = [f"a {['dull', 'fine'][label]} film with {rng.integers(99)} jokes" for label in labels]
    return pd.DataFrame({"sentence": words, "label": labels})


def test_it_beats_the_majority_and_its_task_answers_the_same_again(tmp_path):
    for split in ("train", "validation", "test"):
        few(split).to_parquet(tmp_path / f"{split}.parquet")
    (report,) = main(data=str(tmp_path), epochs=3, lr=5e-3, batch_size=16, sentences=120, out=str(tmp_path / "out"))
    assert report.test["accuracy"] > report.baselines["trivial"]["majority class"]["accuracy"] + 0.05
    assert report.validation["accuracy"] > 0.55
    check_run(report, tmp_path / "out" / "seed0", few("test").sentence.tolist()[:40])


def test_a_share_of_the_phrases_is_drawn_with_the_seed(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("metatx.run", lambda splits, *_, **__: seen.append(splits["train"].index.tolist()))
    for split in ("train", "validation", "test"):
        few(split).to_parquet(tmp_path / f"{split}.parquet")
    monkeypatch.setattr("recipes.text_sst2.over_seeds", lambda seeds, one: [one(seed) for seed in seeds])
    main(data=str(tmp_path), seeds=(0, 1, 0), phrases=20)
    assert len(seen[0]) == 20 and seen[0] == seen[2] != seen[1]
