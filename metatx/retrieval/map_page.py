"""Page of a map: one file of HTML that shows items as points, with thumbnails, neighbours and search."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from metatx.retrieval.item_columns import ItemColumn
from metatx.retrieval.projection import Projection
from metatx.writing.media import packed, page, script_json, tile_sheet

__all__ = ["MOST_PICTURES", "TILE", "believed", "map_page"]

TILE = 64  # side of a thumbnail in pixels
SHEET = 1024  # thumbnails in a sheet
MOST_PICTURES = 4 * SHEET
LONGEST = 300  # characters of an item's words


def map_page(
    projection: Projection,
    neighbours: tuple[np.ndarray, np.ndarray],
    columns: Sequence[ItemColumn],
    colour: ItemColumn | None,
    labels: Sequence[str],
    pictures: Mapping[int, Image.Image],
    *,
    title: str,
    notes: Sequence[str] = (),
) -> str:
    """Write the page that shows N points.

    Args:
        projection: Places of the points.
        neighbours: Rows and cosines of each point's nearest neighbours, each (N, k).
        columns: Columns to search in, show and colour by.
        colour: Column that colours the points at first; None for none.
        labels: Name of each point.
        pictures: Pictures of some points, by row.
        title: Title of the page.
        notes: Sentences for below the map.
    """
    rows, cosines = neighbours
    chosen = list(pictures)
    tiles = np.full(len(labels), -1)
    tiles[chosen] = np.arange(len(chosen))
    sheets = []
    sizes: list[tuple[int, int]] = []
    for start in range(0, len(chosen), SHEET):
        sheet, fitted = tile_sheet([pictures[row] for row in chosen[start : start + SHEET]], TILE)
        sheets.append(sheet)
        sizes += fitted
    codes, names = pd.factorize(pd.Series([label[:LONGEST] for label in labels], dtype=object))
    data = {
        "count": len(labels),
        "near": rows.shape[1],
        "points": packed(projection.points * 32767, "<i2"),
        "neighbours": packed(rows, "<u4"),
        "cosines": packed(np.round(cosines * 1e4), "<i2"),
        "labels": {"values": list(names), "codes": codes.tolist()},
        "columns": [_column(column) for column in columns],
        "colour": -1 if colour is None else columns.index(colour),
        "tile": TILE,
        "tiles": packed(tiles, "<i4"),
        "sizes": packed(np.array(sizes), "u1"),
        "sheets": sheets,
    }
    sentences = [f"{believed(projection)} Lists and lines of neighbours are exact.", *notes]
    parts = {
        "title": html.escape(title),
        "data": script_json(data),
        "believed": "\n".join(f"<p>{html.escape(sentence)}</p>" for sentence in sentences),
    }
    here = Path(__file__).parent
    return page(here / "map.html", parts, here / "map.js")


def believed(projection: Projection) -> str:
    """How far a picture can be believed, in sentences for who looks at it."""
    if np.isnan(projection.kept) or np.isnan(projection.trustworthiness):
        return f"{projection.method}; too few vectors to say how far the picture can be believed."
    sampled = "" if projection.measured == len(projection.points) else f", measured on {projection.measured:,} of them"
    flat = "Two principal components" if projection.method == "PCA" else "t-SNE after PCA"
    return (
        f"{flat}: a flat picture of many dimensions. Trustworthiness {projection.trustworthiness:.2f} (1: who is near "
        f"here is near in the full space); {projection.kept:.0%} of the points' 10 nearest neighbours are among the 10 "
        f"nearest here{sampled}."
    )


def _column(column: ItemColumn) -> dict[str, Any]:
    if column.values is not None:
        return {"name": column.name, "values": list(column.values), "codes": column.codes.tolist()}
    numbers = [None if np.isnan(number) else float(f"{number:.6g}") for number in column.codes]
    return {"name": column.name, "values": None, "codes": numbers}
