"""Pictures of one colour with captions and names of what they show, on disk."""

import io
from pathlib import Path

import pandas as pd
from PIL import Image

from tests.pairs import coloured


def as_png(picture) -> dict[str, bytes]:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    return {"bytes": file.getvalue()}


def coloured_pairs(folder: Path) -> Path:
    """``folder``, with 128 pairs to train on and 40 for validation in the hub's layout."""
    place = folder / "data"
    place.mkdir(parents=True)
    for split, count in (("train", 128), ("val", 40)):
        found = coloured(count, seed=count)
        table = pd.DataFrame({"image": [as_png(picture) for picture in found["image"]], "text": found["text"]})
        table["class_name"] = ["something " + text.rpartition(" ")[2] for text in found["text"]]
        table.to_parquet(place / f"{split}-00000-of-00001.parquet")
    return folder
