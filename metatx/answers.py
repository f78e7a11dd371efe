"""Predictions as files: rows of csv or jsonl, maps of scenes, and what a head writes in a form of its own."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metatx.files import written_whole
from metatx.reading.cubes import Pixels

if TYPE_CHECKING:
    from metatx.task import Task

__all__ = ["check_ending", "draw_map", "write_answers", "write_rows"]

ROWS, MAPS = (".csv", ".jsonl"), (".png", ".npy")
COLOURS = "tab20"  # of matplotlib's, for the classes of a map


def check_ending(out: str | None, known: Sequence[str]) -> None:
    """Refuse the name of a file to write whose ending says another form. Raises ValueError."""
    if out is not None and Path(out).suffix not in known:
        endings = [ending or "nothing (a folder)" for ending in known]
        raise ValueError(f"--out is {out}; it ends in {', '.join(endings[:-1])} or {endings[-1]}.")


def write_answers(task: "Task", inputs: Sequence[str], out: str | None, file: Any) -> None:
    """Predict all inputs and write the answers to ``out``, or as csv to an open ``file``.

    Rows for ``.csv`` and ``.jsonl``; a map of one scene for ``.png`` and ``.npy``; the head's own forms.

    Raises:
        ValueError: If ``out`` ends otherwise, or asks for a map of what is no scene.
    """
    ending = None if out is None else Path(out).suffix
    if out is None or ending in ROWS:
        rows = [row for entry in inputs for row in _answered(task, entry)]
        write_rows(rows, out, file)
    elif ending in task.head.writes:
        task.head.check_writing(Path(out))
        queries = [query for entry in inputs for query in task.queries(entry)]
        task.head.write(Path(out), queries, list(task.predict(queries)))
    else:
        check_ending(out, [*ROWS, *MAPS, *task.head.writes])
        scenes = [task.queries(entry) for entry in inputs]
        if len(scenes) > 1 or not isinstance(scenes[0], Pixels):
            raise ValueError(f"--out is {out}, a map; that can be drawn of one scene, a cube of bands, only.")
        pixels = scenes[0].everywhere()
        labels = task.predict(pixels).reshape(pixels.cube.shape[:2])
        with written_whole(Path(out)) as temporary:
            if ending == ".npy":
                with temporary.open("wb") as handle:
                    np.save(handle, labels)
            else:
                draw_map(labels, temporary)


def _answered(task: "Task", entry: str) -> list[dict[str, Any]]:
    """The rows of one input: mostly one a sample, see ``Head.rows``."""
    queries, records = [], []
    for asked, found in task.answers(entry, task.head.records):
        queries += asked
        records += found
    return task.head.rows(records, queries)


def draw_map(labels: np.ndarray, path: Path) -> None:
    """Labels (H, W) as a picture in PNG, a colour for each, with a legend.

    Raises:
        ImportError: If matplotlib is missing.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch
    except ImportError:
        raise ImportError("A map needs matplotlib: pip install 'metatx[viz]'") from None
    names, codes = np.unique(labels, return_inverse=True)
    palette = matplotlib.colormaps[COLOURS].resampled(max(len(names), 2))(range(len(names)))
    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots()
    axes.imshow(palette[codes.reshape(labels.shape)], interpolation="nearest")
    axes.set_axis_off()
    patches = [Patch(color=colour, label=str(name)) for colour, name in zip(palette, names, strict=True)]
    figure.legend(handles=patches, loc="outside right center")
    figure.savefig(path, dpi=120, format="png")


def write_rows(rows: Iterable[dict[Any, Any]], out: str | None, file: Any) -> None:
    """Rows to ``out``, jsonl where it ends so and csv otherwise, or as csv to an open ``file``."""
    if out is None:
        _write_csv(rows, file)
        return
    with written_whole(Path(out)) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        if out.endswith(".jsonl"):
            handle.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            _write_csv(rows, handle)


def _write_csv(rows: Iterable[dict[Any, Any]], file: Any) -> None:
    rows = list(rows)
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    for row in rows:
        # Lists as json, for a csv has no form of its own for them.
        plain = {name: json.dumps(value) if isinstance(value, list | dict) else value for name, value in row.items()}
        writer.writerow(plain)
