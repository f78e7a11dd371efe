"""Solar modules, end to end, on a few pictures of three conditions."""

import infrared_solar_modules
import numpy as np
import pytest
from PIL import Image

from tests.recipes.common import check_run, real, train

CONDITIONS = ("Diode", "No-Anomaly", "Vegetation")


@pytest.fixture
def folder(tmp_path):
    there, rng = real("infrared/solar_modules"), np.random.default_rng(0)
    for split, count in (("train", 40), ("val", 10), ("test", 20)):
        for condition in CONDITIONS:
            (tmp_path / "data" / split / condition).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(made(condition, rng)).save(tmp_path / "data" / split / condition / f"{i}.png")
            if there is not None:
                for path in (tmp_path / "data" / split / condition).iterdir():
                    path.unlink()
                for path in sorted((there / split / condition).iterdir())[:count]:
                    (tmp_path / "data" / split / condition / path.name).symlink_to(path)
    return tmp_path / "data"


def made(condition: str, rng: np.random.Generator) -> np.ndarray:
    """A module of 40 x 24 pixels: a third of it warm, or none, or its lower half in shade."""
    module = rng.normal(100, 10, (40, 24))
    module[:, : 8 if condition == "Diode" else 0] += 60
    module[20 if condition == "Vegetation" else 40 :] -= 60
    return module.astype(np.uint8)


@pytest.mark.parametrize("freeze_stem", [True, False])
def test_solar_modules(nano, folder, tmp_path, freeze_stem: bool) -> None:
    out = tmp_path / "out"
    recipe = infrared_solar_modules.RECIPE.changed(
        grid=(10, 6) if freeze_stem else (5, 3),
        tokenizer_options={"freeze_stem": freeze_stem, "flips": "none" if freeze_stem else "both"},
        head_options={"layers": 6, "pooling": "both", "hidden": 0, "label_smoothing": 0.0},
    )
    report = train(recipe, nano, folder, out, epochs=20 if freeze_stem else 10, batch_size=12, lr=3e-3)
    check_run(report, out / "seed0", [str(path) for path in sorted(folder.glob("test/*/*"))[::10]])
    assert report.task.head.primary_metric == "balanced_accuracy" and report.test["balanced_accuracy"] > 0.4
    assert any(p.requires_grad for p in report.task.tokenizer.parameters()) != freeze_stem
