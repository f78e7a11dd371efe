"""Pictures of vectors: a page that people walk through, or a png."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from metatx.files import written_whole
from metatx.progress import tell
from metatx.retrieval.item_columns import ItemColumn, chosen_column, shown_columns
from metatx.retrieval.map_page import MOST_PICTURES, TILE, believed, map_page
from metatx.retrieval.previews import Points, pictures_and_words
from metatx.retrieval.projection import Projection, nearest, project

__all__ = ["check_picture", "check_points", "write_picture"]

SUFFIXES = (".html", ".png")
MOST_POINTS = 100_000
NEIGHBOURS = 10
MODALITY = "modality"  # column that is shown where there are several


def check_picture(out: str | Path) -> None:
    """Refuse a file that cannot be drawn, before anything is computed.

    Raises:
        ValueError: If the suffix is neither .html nor .png.
        FileNotFoundError: If the folder does not exist.
        ImportError: If a png is asked for and matplotlib is missing.
    """
    path = Path(out)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"The picture is {path}; expected a name with {' or '.join(SUFFIXES)}.")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"The picture is {path}, but the folder {path.parent} does not exist; make it first.")
    if path.suffix == ".png" and not find_spec("matplotlib"):
        raise ImportError("A picture as png needs matplotlib: pip install 'metatx[viz]'; .html needs nothing.")


def write_picture(
    out: str | Path,
    points: Points,
    *,
    colour: str | None = None,
    title: str = "Items",
    notes: Sequence[str] = (),
    seed: int = 0,
) -> Projection:
    """Draw points to ``.html``, a page of its own, or ``.png``; report how far the picture can be believed.

    Args:
        out: File to write.
        points: Vectors and what is known of them.
        colour: Column that colours the points; by default the first that holds 2 to 20 different words.
        title: Title of the picture.
        notes: Sentences for below the map of a page.
        seed: Seed of t-SNE and of the choice of thumbnails.

    Raises:
        ValueError: If there are no points or too many, the column or the suffix is unknown.
        ImportError: If a png is asked for and matplotlib is missing.
        OSError: If the file cannot be written.
    """
    check_picture(out)
    check_points(len(points))
    cells = dict(points.columns)
    several = len(set(points.modalities)) > 1
    if several and MODALITY not in cells:
        cells = {MODALITY: points.modalities, **cells}
    columns, left = shown_columns(cells)
    column = chosen_column(columns, colour)
    projection = project(points.vectors, seed=seed)
    tell(str(projection))
    with written_whole(Path(out)) as temporary:
        if Path(out).suffix == ".png":
            _draw(temporary, projection, column, title)
        else:
            told = [*notes, f"Columns that are not shown: {', '.join(left)}."] if left else notes
            temporary.write_text(_page(points, projection, columns, column, title, told, seed), encoding="utf-8")
    return projection


def check_points(count: int) -> None:
    """Refuse no points, or too many to draw. Raises ValueError."""
    if not count:
        raise ValueError("There are no items to draw.")
    if count > MOST_POINTS:
        raise ValueError(
            f"There are {count:,} vectors to draw, at most {MOST_POINTS:,} fit a picture: draw some of them at random "
            f"with --sample {MOST_POINTS} (in Python: sample={MOST_POINTS})."
        )


def _page(
    points: Points,
    projection: Projection,
    columns: list[ItemColumn],
    column: ItemColumn | None,
    title: str,
    notes: Sequence[str],
    seed: int,
) -> str:
    pictures, words, left = pictures_and_words(points, MOST_PICTURES, TILE, seed)
    labels = _labels([column for column in columns if column.name in points.columns], words, len(points))
    near = nearest(points.vectors, NEIGHBOURS)
    return map_page(projection, near, columns, column, labels, pictures, title=title, notes=[*notes, *left])


def _labels(columns: Sequence[ItemColumn], words: dict[int, str], count: int) -> list[str]:
    """Name of each point: its own words, or its cell in the column of the most different words, or its number."""
    texts = [column for column in columns if column.values]
    naming = max(texts, key=lambda column: len(column.values or ()), default=None)
    labels = []
    for row in range(count):
        code = -1 if naming is None else int(naming.codes[row])
        cell = naming.values[code] if naming is not None and naming.values and code >= 0 else f"item {row + 1}"
        labels.append(words.get(row, cell))
    return labels


# A png

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442")  # Okabe and Ito 2008
SHAPES = "os^"
OTHER = "#8a919c"


def _draw(path: Path, projection: Projection, column: ItemColumn | None, title: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7), layout="constrained")
    axis = figure.subplots()
    count = len(projection.points)
    size = 60 if count < 500 else 22 if count < 3000 else 8 if count < 20_000 else 3
    style: dict[str, Any] = {"s": size, "linewidths": 0.2, "edgecolors": "#0008"}
    x, y = projection.points.T
    if column is None:
        axis.scatter(x, y, color=COLOURS[0], **style)
    elif column.values is None:
        low, high = np.nanquantile(column.codes, (0.01, 0.99))
        empty = np.isnan(column.codes)
        axis.scatter(x[empty], y[empty], color=OTHER, marker="s", **style)
        drawn = axis.scatter(x[~empty], y[~empty], c=column.codes[~empty], cmap="viridis", vmin=low, vmax=high, **style)
        figure.colorbar(drawn, label=column.name, shrink=0.7)
    else:
        _draw_groups(axis, x, y, column, style)
        figure.legend(loc="outside right upper", frameon=False, fontsize="small", title=column.name, markerscale=1.5)
    axis.set_title(title, loc="left")
    axis.set_xlabel(believed(projection), fontsize="x-small", wrap=True)
    axis.set_aspect("equal")
    axis.set_xticks([])
    axis.set_yticks([])
    figure.savefig(path, dpi=130, format="png")


def _draw_groups(axis: Any, x: np.ndarray, y: np.ndarray, column: ItemColumn, style: dict[str, Any]) -> None:
    """Draw a group a word, and one of the words that have no colour of their own."""
    values = column.values or ()
    most = len(COLOURS) * len(SHAPES)
    named = len(values) if len(values) <= most else most - 1
    for code, value in enumerate(values[:named]):
        here = column.codes == code
        shape = SHAPES[code // len(COLOURS)]
        axis.scatter(x[here], y[here], color=COLOURS[code % len(COLOURS)], marker=shape, label=value[:30], **style)
    others = column.codes >= named
    empty = column.codes < 0
    behind = {**style, "color": OTHER, "zorder": 0}
    if others.any():
        axis.scatter(x[others], y[others], label=f"{len(values) - named} other values", **behind)
    if empty.any():
        axis.scatter(x[empty], y[empty], marker="s", label="(empty)", **behind)
