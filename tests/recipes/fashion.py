"""A few fashion products, real where they are there, as parquet files of three splits."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from tests.recipes.common import real

COUNTS = {"train": 160, "val": 40, "test": 80}
KINDS = ["Tshirts", "Shirts", "Casual Shoes", "Kurtas"]
COLOURS = {"Black": (20, 20, 20), "Blue": (30, 40, 200), "White": (250, 250, 250)}


def products(folder: Path) -> Path:
    """Write products of four kinds and three colours into ``folder``."""
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
