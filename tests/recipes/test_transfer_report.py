"""The report over all data sets: every modality is there, and two small sets give one table and one figure."""

import numpy as np
import pandas as pd
import pytest
import transfer_report as report
from PIL import Image

from metatx.evaluation.budget import Plan
from metatx.evaluation.compare import VARIANTS
from metatx.evaluation.comparison_report import Comparison, Trial


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """ESOL and Japanese Vowels, self-made and small."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    (root / "graph" / "esol").mkdir(parents=True)
    smiles = ["C" * n + "O" * k for n in range(1, 9) for k in range(1, 6)]
    split = ["train", "validation", "train", "test", "train"] * 8
    label = [0.8 * s.count("O") - 0.4 * s.count("C") for s in smiles]
    table = pd.DataFrame({"smiles": smiles, "label": label, "split": split, "split_scaffold": split})
    table.to_csv(root / "graph" / "esol" / "data.csv", index=False)
    (root / "time_series" / "japanese_vowels").mkdir(parents=True)
    for name in ("train", "test"):
        series = [(rng.normal(size=(10, 12)) + i % 3).tolist() for i in range(30)]
        frame = pd.DataFrame({"series": series, "label": [str(i % 3) for i in range(30)]})
        frame.to_parquet(root / "time_series" / "japanese_vowels" / f"{name}.parquet")
    return root


def test_one_table_and_one_figure_for_all_and_again_without_a_run(data, tmp_path, capsys, monkeypatch):
    options = {"data": str(data), "only": "esol,japanese_vowels,adult", "seeds": (0,), "budget": 0.2}
    found = report.main(**options, out=str(tmp_path))
    assert "adult is left out" in capsys.readouterr().out
    assert list(found) == ["esol", "japanese_vowels"]
    lines = (tmp_path / "transfer.md").read_text().splitlines()
    assert lines[0].startswith("Backbone nano, seeds 0; budget 0.2 s of training a run")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]
    end = 2 + len(VARIANTS)
    assert cells[0][2:end] == [variant.name for variant in VARIANTS]
    for line, (name, comparison) in zip(cells[2:], found.items(), strict=True):
        assert line[0] == f"[{comparison.asked['data']}]({name}/comparison.md)"
        assert (tmp_path / name / "comparison.md").exists()
        assert line[2:end] == [str(row) for row in comparison.rows()]
        trivial = next(iter(comparison.baselines["trivial"].values()))[comparison.primary]
        assert float(line[end + 1]) == pytest.approx(trivial, abs=5e-5)
        assert line[end + 2] == "; ".join(
            f"{tune}: {comparison.plans[tune]}" for tune in ("frozen", "norm", "lora", "scale")
        )
    picture = np.asarray(Image.open(tmp_path / "transfer.png").convert("RGB")).astype(int)
    assert (picture[..., 2] - picture[..., 0] > 120).sum() > 50, "the markers of the first variant"
    monkeypatch.setattr(
        "metatx.evaluation.compare.run", lambda *parts, **options: pytest.fail("a finished run ran again")
    )
    assert report.main(**options, out=str(tmp_path)).keys() == found.keys()
    with pytest.raises(ValueError, match="Did you mean 'esol'"):
        report.main(**options | {"only": "esool"}, out=str(tmp_path))


@pytest.mark.parametrize(("higher", "gain"), [(True, 75.0), (False, -150.0)])
def test_a_gain_is_the_share_of_the_random_backbones_error_that_goes(higher, gain):
    numbers = {"pretrained, frozen": (0.4, 0.6), "random, frozen": (0.2, 0.2), "no backbone": (0.2, 0.2)}
    if higher:
        numbers["pretrained, frozen"] = (0.7, 0.9)
    trials = [
        Trial(variant=name, seed=seed, test={"m": value})
        for name, values in numbers.items()
        for seed, value in enumerate(values)
    ]
    found = Comparison(asked={}, primary="m", higher_is_better=higher, plans={"frozen": Plan(1, 1, 1)}, trials=trials)
    gains = report.gains(found)
    assert gains["pretrained, frozen"][0] == pytest.approx(gain) and gains["no backbone"] == (0, 0)
    assert gains["pretrained, frozen"][1] == pytest.approx(100 * np.std((0, 0.2), ddof=1) / (0.8 if higher else 0.2))
    assert "random, frozen" not in gains
