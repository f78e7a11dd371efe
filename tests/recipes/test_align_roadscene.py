"""Thermal pictures onto a frozen backbone's photographs, end to end, on a few pairs."""

import json

import align_roadscene as recipe
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import metatx
from metatx.backbone.loading import save_backbone
from metatx.pretraining.alignment import Alignment
from metatx.pretraining.loop import PretrainingSettings
from metatx.retrieval.recall import Paired
from tests.pairs import small_backbone
from tests.recipes.common import real

COUNTS = {"train": 16, "validation": 6, "test": 8}


@pytest.fixture
def folder(tmp_path):
    """Some real pairs, or photographs of stripes whose thermal pictures are their light."""
    place = real(recipe.PLACE)
    if place is not None:
        table = pd.read_csv(place / "roadscene.csv").replace({"split": {"val": "validation"}})
        table = pd.concat([table[table.split == split].head(count) for split, count in COUNTS.items()])
        for column in ("image", "infrared"):
            table[column] = [str(place / name) for name in table[column]]
    else:
        rng = np.random.default_rng(0)
        rows = []
        for split, count in COUNTS.items():
            for number in range(count):
                picture = Image.fromarray(rng.integers(0, 255, (3, 5, 3), np.uint8)).resize((80, 48))
                names = {side: f"{split}_{number}_{side}.png" for side in ("image", "infrared")}
                picture.save(tmp_path / names["image"])
                picture.convert("L").save(tmp_path / names["infrared"])
                rows.append({**names, "split": split})
        table = pd.DataFrame(rows)
    table.to_csv(tmp_path / "roadscene.csv", index=False)
    return tmp_path


def test_the_parts_of_a_pair_are_its_two_sides(tmp_path) -> None:
    pixels = np.arange(10, dtype=np.uint8)[None].repeat(4, 0)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    sides = [np.asarray(recipe.part_of(str(tmp_path / "a.png"), left, 0.7, False))[0] for left in (True, False)]
    assert sides[0].tolist() == list(range(7)) and sides[1].tolist() == list(range(3, 10))
    mirrored = np.asarray(recipe.part_of(str(tmp_path / "a.png"), True, 0.7, True))[0]
    assert mirrored.tolist() == list(range(9, 2, -1))


def test_the_anchor_stays_and_nothing_is_lost(tmp_path, folder) -> None:
    save_backbone(small_backbone(), tmp_path / "small", about="random")
    settings = PretrainingSettings(epochs=2, batch_size=8, lr=1e-4, precision="fp32")
    report = recipe.main(
        out=str(tmp_path / "out"), data=str(folder), backbone=str(tmp_path / "small"), settings=settings
    )
    assert json.loads((tmp_path / "out/metrics.json").read_text()) == report.as_json()
    assert report.counts == {"image": 8, "infrared": 8}
    assert {"aligned", "untrained", "CCA, frozen features", "chance"} <= set(report.lines["infrared", "image"])
    loaded = Alignment.from_pretrained(tmp_path / "out/alignment")
    assert loaded.tower("image").locked and not loaded.tower("infrared").locked
    start = Alignment(metatx.load_backbone(str(tmp_path / "small")), 48)
    pictures = recipe.read(folder)["train"].samples["image"]
    start.add("image", pictures, {"image_size": [32, 32]}, pooling="mean")
    recipe.start_as_features(start, "image", pictures)
    assert np.allclose(start.embed("image", pictures[:3]), loaded.embed("image", pictures[:3]), atol=1e-6)


def test_the_best_epoch_is_kept(folder) -> None:
    """Weights that got worse after they were measured are not those that are kept."""
    splits = recipe.read(folder)
    alignment = Alignment(small_backbone(), 48)
    for modality, samples in splits["train"].samples.items():
        alignment.add(modality, samples, {"image_size": [32, 32]}, pooling="mean")
        recipe.start_as_features(alignment, modality, samples)
    pictures = splits["validation"].samples["image"]
    best = recipe.BestEpoch(alignment, Paired({"image": pictures, "infrared": pictures}))
    first = {name: weight.clone() for name, weight in alignment.state_dict().items()}
    alignment.tower("infrared").proj.weight.data.zero_()
    assert sum(best(alignment).values()) < best.best, "all the same, thus chance"
    assert all((best.weights[name] == weight).all() for name, weight in first.items())
