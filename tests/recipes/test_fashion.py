"""Fashion products by tags and by vectors, end to end, on a few of them."""

import io
from pathlib import Path

import image_retrieval_fashion
import image_tags_fashion
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.recipes.common import check_run, real, train

COUNTS = {"train": 160, "val": 40, "test": 80}
KINDS = ["Tshirts", "Shirts", "Casual Shoes", "Kurtas"]
COLOURS = {"Black": (20, 20, 20), "Blue": (30, 40, 200), "White": (250, 250, 250)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Products of four kinds and three colours, real where they are there."""
    folder = tmp_path / "data"
    folder.mkdir()
    there, rng = real("image_text/fashion_products"), np.random.default_rng(0)
    for split, count in COUNTS.items():
        if there is None:
            table = pd.DataFrame([_made(rng) for _ in range(count)])
        else:
            table = pd.read_parquet(next(there.rglob(f"{split}-*.parquet")))
            table = table[table.articleType.isin(KINDS) & table.baseColour.isin(COLOURS)].head(count)
        table.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder


def _made(rng: np.random.Generator) -> dict[str, object]:
    """A bar, its height of the kind, in its colour."""
    kind, colour = int(rng.integers(len(KINDS))), str(rng.choice(list(COLOURS)))
    picture = np.full((64, 64, 3), 128.0)
    picture[: 12 * (kind + 1)] = COLOURS[colour]
    file = io.BytesIO()
    Image.fromarray((picture + 5 * rng.normal(size=picture.shape)).clip(0, 255).astype(np.uint8)).save(file, "png")
    return {
        "image": {"bytes": file.getvalue(), "path": None},
        "articleType": KINDS[kind],
        "baseColour": colour,
        "gender": "Women" if kind == 3 else "Men",
        "usage": "Ethnic" if kind == 3 else "Casual",
    }


def test_no_kind_is_in_two_splits_and_no_photo_is_lost(folder) -> None:
    found = image_retrieval_fashion.read(folder)
    kinds = {split: {name.split(",")[0] for name in names} for split, (_, names) in found.items()}
    assert sum(map(len, kinds.values())) == len(set.union(*kinds.values())) == 4
    assert {split: len(names) for split, names in kinds.items()} == {"train": 2, "validation": 1, "test": 1}
    photos = [photo["bytes"] for images, _ in found.values() for photo in images]
    assert len(photos) == len(set(photos)) == 280


def test_image_retrieval_fashion(nano, folder, tmp_path) -> None:
    recipe = image_retrieval_fashion.RECIPE
    report = train(recipe, nano, folder, tmp_path / "out", epochs=8, grid=4, head_options={"layers": 6})
    check_run(report, tmp_path / "out" / "seed0", recipe.read(folder)["test"][0][:8])
    assert report.test["loss"] == 0, "no identity of the test split was in training"
    assert report.test["recall@1"] > 0.6


def test_rare_tags_are_left_out(folder, monkeypatch) -> None:
    monkeypatch.setattr(image_tags_fashion, "FEWEST", 1)
    every = image_tags_fashion.read(folder)
    assert {split: len(photos) for split, (photos, _) in every.items()} == {"train": 160, "validation": 40, "test": 80}
    assert all(len(tags) == 4 for tags in every["train"][1])
    tags = [tag for tags in every["train"][1] for tag in tags]
    monkeypatch.setattr(image_tags_fashion, "FEWEST", 40)
    kept = {tag for _, rows in image_tags_fashion.read(folder).values() for row in rows for tag in row}
    assert kept == {tag for tag in tags if tags.count(tag) >= 40} != set(tags)


def test_image_tags_fashion(nano, folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(image_tags_fashion, "FEWEST", 20)
    recipe = image_tags_fashion.RECIPE
    report = train(recipe, nano, folder, tmp_path / "out", epochs=20, grid=4, head_options={"layers": 6})
    check_run(report, tmp_path / "out" / "seed0", recipe.read(folder)["test"][0][:8])
    assert "chosen by F1" in report.task.head.card_note() and report.test["micro_f1"] > 0.7
