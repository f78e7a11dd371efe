"""Recipes of several inputs, end to end, on a few samples, real where they are there."""

import io
from pathlib import Path
from typing import Any

import fusion_fashion_season
import fusion_houses
import fusion_phone_watch
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.recipes.common import check_run, real, train
from tests.recipes.fused import check_every_input_is_read

RNG = np.random.default_rng(0)


def _picture(level: float) -> Image.Image:
    noise = 8 * RNG.normal(size=(32, 32, 3))
    return Image.fromarray((40 + 160 * level + noise).clip(0, 255).astype(np.uint8))


def houses(folder: Path, train: int = 64, rest: int = 24) -> tuple[Path, pd.DataFrame]:
    """Table of some houses, whose photographs are links, and the samples of its test split."""
    there = real("multimodal/houses")
    if there is not None:
        table = pd.read_csv(there / "houses.csv")
        table = pd.concat([table[table.split == split][:count] for split, count in _counts(table, train, rest).items()])
        (folder / "images").symlink_to(there / "images")
    else:
        (folder / "images").mkdir()
        table = pd.DataFrame([_house(folder, at, "train" if at < train else "test") for at in range(train + rest)])
    table.to_csv(folder / "houses.csv", index=False)
    rooms = {room: [str(folder / name) for name in table[room]] for room in fusion_houses.ROOMS}
    return folder / "houses.csv", table.assign(**rooms)[table.split == "test"]


def _counts(table: pd.DataFrame, train: int, rest: int) -> dict[str, int]:
    return {split: train if split == "train" else rest for split in table.split.unique()}


def _house(folder: Path, number: int, split: str) -> dict[str, Any]:
    area = int(RNG.integers(800, 4000))
    names = {room: f"images/{number}_{room}.jpg" for room in fusion_houses.ROOMS}
    for name in names.values():
        _picture(area / 4000).save(folder / name)
    facts = {"bedrooms": number % 4, "bathrooms": number % 3, "area": area, "zipcode": [92276, 93446][number % 2]}
    return {**names, **facts, "log_price": 12 + area / 2000 + 0.05 * RNG.normal(), "split": split}


def fashion(folder: Path) -> tuple[Path, pd.DataFrame]:
    """Tables of some articles by split."""
    there = real("image_text/fashion_products")
    tables = {}
    for split, count in {"train": 160, "val": 40, "test": 40}.items():
        if there is not None:
            table = pd.read_parquet(next(there.rglob(f"{split}-*.parquet"))).dropna(subset=["season"])[:count]
        else:
            table = pd.DataFrame([_article(number) for number in range(count)])
        table.to_parquet(folder / f"{split}-00000-of-00001.parquet")
        tables[split] = table
    return folder, tables["test"]


def _article(number: int) -> dict[str, Any]:
    season = ["Summer", "Winter"][number % 2]
    file = io.BytesIO()
    _picture(number % 2).save(file, "png")
    words = {"Summer": "light shirt", "Winter": "warm coat"}[season]
    facts = {"gender": "Men", "articleType": words.split()[1], "baseColour": ["Red", "Blue"][number // 2 % 2]}
    return {
        "image": {"bytes": file.getvalue(), "path": None},
        "text": f"{words} number {number % 7}",
        **facts,
        "usage": ["Casual", "Sports"][number // 3 % 2],
        "season": season,
    }


def watches(folder: Path) -> tuple[Path, pd.DataFrame]:
    """Tables of some windows by split."""
    there = real("multimodal/phone_watch")
    tables = {}
    for split, count in {"train": 60, "val": 15, "test": 25}.items():
        if there is not None:
            table = pd.read_parquet(there / f"{split}.parquet")
            table = table.groupby("label").head(-(-count // table.label.nunique()))
        else:
            table = pd.DataFrame([_window(number) for number in range(count)])
        table.to_parquet(folder / f"{split}.parquet")
        tables[split] = table
    return folder, tables["test"]


def _window(number: int) -> dict[str, Any]:
    turns = np.sin(np.linspace(0, 6 + 30 * (number % 2), 200)) + 0.1 * RNG.normal(size=(6, 200))
    return {"phone": turns.tolist(), "watch": (2 * turns).tolist(), "label": ["WALKING", "SEATED"][number % 2]}


def test_photographs_that_another_backbone_reads_first(nano, tmp_path) -> None:
    recipe = fusion_houses.recipe(through="nano")
    data, test = houses(tmp_path, 16, 4)
    small = {"frontal": {"image_size": 32}}
    (report,) = recipe.changed(tokenizer_options=small, epochs=1, batch_size=16).run(
        nano, data=data, seeds=(0,), baseline=False
    )
    (other,) = report.task.others
    assert other.fingerprint == nano.fingerprint and report.task.tokenizer.through("kitchen").bridge.name == "grid"
    check_every_input_is_read(report.task, test[report.task.inputs].to_dict("records")[:4])


@pytest.mark.parametrize(
    ("recipe", "few", "changes"),
    [
        (fusion_houses.RECIPE, houses, {"epochs": 8, "lr": 1e-2, "grid": 4}),
        (fusion_fashion_season.RECIPE, fashion, {"epochs": 6, "lr": 1e-2, "grid": 4}),
        (fusion_phone_watch.RECIPE, watches, {"epochs": 4, "lr": 5e-3}),
    ],
    ids=["houses", "fashion_season", "phone_watch"],
)
def test_a_recipe(recipe, few, changes, nano, tmp_path) -> None:
    data, test = few(tmp_path)
    report = train(recipe, nano, data, tmp_path / "out", batch_size=16, **changes)
    task = report.task
    samples = test[task.inputs].to_dict("records")[:6]
    check_every_input_is_read(task, samples)
    check_run(report, tmp_path / "out" / "seed0", samples)
    assert set(report.inputs) == set(task.tokenizer.inputs)
