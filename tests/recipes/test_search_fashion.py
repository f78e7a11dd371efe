"""Search over products from end to end, on self-made pairs or a few real ones."""

import pandas as pd
import pytest
import search_fashion as recipe

from tests.recipes.coloured import coloured_pairs
from tests.recipes.common import real


@pytest.fixture
def folder(tmp_path):
    there = real("image_text/fashion_products")
    if there is None:
        return coloured_pairs(tmp_path / "data")
    (tmp_path / "data").mkdir()
    for split in ("val", "test"):
        table = pd.read_parquet(next(there.rglob(f"{split}-*.parquet"))).head(60)
        table.to_parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet")
    return tmp_path / "data"


def test_search_fashion(folder, tmp_path, capsys):
    colour = "masterCategory" if (folder / "test-00000-of-00001.parquet").exists() else "class_name"
    for _ in range(2):  # the second time the index is there
        found = recipe.main(out=str(tmp_path / "out"), data=str(folder), split="validation", colour=colour, k=5)
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["hits.html", "items.parquet", "map.html", "shop.index"]
    printed = capsys.readouterr().out
    assert "a red shoe: " in printed and "\nchance " in printed and "trustworthiness" in printed
    assert found["text_to_image_recall@1"] > 0.2
    table = pd.read_parquet(tmp_path / "out" / "items.parquet")
    assert {"vector", "x", "y", "neighbors"} <= set(table) and len(table) in (80, 120)
