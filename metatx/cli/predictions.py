"""Predictions as files: rows with their places, maps of scenes, and what a head writes in a form of its own."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metatx.cli.entries import Entry, open_entries
from metatx.files import written_whole
from metatx.inference import Piece, ask, decoded, embedded, joined
from metatx.progress import bar
from metatx.reading.hyperspectral import Pixels
from metatx.writing.rows import ERROR, ROWS, write_rows

if TYPE_CHECKING:
    from metatx.task import Task

__all__ = ["check_suffix", "draw_map", "write_answers", "write_vectors"]

MAPS = (".png", ".npy")
COLOURS = "tab20"  # of matplotlib's, for the classes of a map


def check_suffix(out: str | None, known: Sequence[str]) -> None:
    """Refuse the name of a file to write whose ending says another form. Raises ValueError."""
    if out is not None and Path(out).suffix not in known:
        endings = [ending or "nothing (a folder)" for ending in known]
        raise ValueError(f"--out is {out}; it ends in {', '.join(endings[:-1])} or {endings[-1]}.")


def check_folder(out: str | None) -> None:
    """Refuse a file to write whose folder is not there, before any work. Raises FileNotFoundError."""
    if out is not None and not Path(out).absolute().parent.is_dir():
        raise FileNotFoundError(f"--out is {out}; the folder {Path(out).parent} does not exist, make it first.")


def write_answers(
    task: "Task",
    inputs: Sequence[str],
    out: str | None,
    file: Any,
    *,
    keep: Sequence[str] = (),
    skip_bad: bool = False,
) -> None:
    """Predict all inputs and write the answers to ``out``, or as csv to an open ``file``.

    Rows with their places for ``.csv``, ``.jsonl`` and ``.parquet``; a map of one scene for ``.png`` and ``.npy``; the
    head's own forms.

    Args:
        task: That answers.
        inputs: Tables, files or folders of samples.
        out: Path; None for ``file``.
        file: Open for text.
        keep: Columns of the tables to copy into the rows.
        skip_bad: Leave out samples that cannot be used; rows keep their places and say why.

    Raises:
        ValueError: If ``out`` ends otherwise or asks for a map of what is no scene, or a column to keep is missing.
        SampleError: If a sample cannot be used and ``skip_bad`` is off; nothing is written.
    """
    ending = None if out is None else Path(out).suffix
    if out is not None and ending not in ROWS:
        check_suffix(out, [*ROWS, *MAPS, *task.head.output_suffixes])
        if keep:
            raise ValueError(f"--keep copies columns into rows; --out is {out}, it would end in {', '.join(ROWS)}.")
    check_folder(out)
    entries = open_entries(task, inputs, keep)
    if out is None or ending in ROWS:
        rows = _rows(task, entries, decoded(task.head.records), task.head.rows, keep, skip_bad)
        write_rows(rows, out, file, errors=skip_bad)
    elif ending in task.head.output_suffixes:
        task.head.check_writing(Path(out))
        pieces = [piece for entry in entries for piece in _pieces(task, entry, decoded(task.head.decode), skip_bad)]
        queries = [query for piece in pieces for query in piece.queries]
        task.head.write(Path(out), queries, [answer for piece in pieces for answer in piece.answers])
    else:
        _write_map(task, entries, Path(out), skip_bad)


def write_vectors(
    task: "Task",
    inputs: Sequence[str],
    out: str | None,
    file: Any,
    *,
    keep: Sequence[str] = (),
    skip_bad: bool = False,
) -> None:
    """Embed all inputs, as ``write_answers``: rows with a column for each of D numbers, or an array for ``.npy``."""
    check_suffix(out, (*ROWS, ".npy"))
    check_folder(out)
    entries = open_entries(task, inputs, keep)
    if out is not None and out.endswith(".npy"):
        if keep:
            raise ValueError(f"--keep copies columns into rows; --out is {out}, an array.")
        vectors = np.concatenate([joined(_pieces(task, entry, embedded, skip_bad)) for entry in entries])
        _save(vectors, Path(out))
        return

    def numbered(vectors: Sequence[np.ndarray], queries: Sequence[Any]) -> list[dict[str, Any]]:
        return [{str(number): value for number, value in enumerate(vector.tolist())} for vector in vectors]

    write_rows(_rows(task, entries, embedded, numbered, keep, skip_bad), out, file, errors=skip_bad)


def _rows(
    task: "Task",
    entries: Sequence[Entry],
    answer: Any,
    rows_of: Callable[[Sequence[Any], Sequence[Any]], list[dict[str, Any]]],
    keep: Sequence[str],
    skip_bad: bool,
) -> Iterator[dict[str, Any]]:
    """Rows of all samples: where each is, what of its table is kept, what is answered or why nothing is."""
    parts = []
    if len(entries) > 1 or any(entry.files for entry in entries):
        parts.append("file")
    if any(entry.numbers is not None for entry in entries):
        parts.append("row")
    names: list[str] | None = None
    for entry in entries:
        kept = entry.kept(keep)
        for piece in _pieces(task, entry, answer, skip_bad):
            made = zip(([answer] for answer in piece.answers), ([query] for query in piece.queries), strict=True)
            for at in piece.places:
                answered = [{ERROR: piece.bad[at]}] if at in piece.bad else rows_of(*next(made))
                if names is None and at not in piece.bad:
                    names = _free(parts, keep, answered[0])
                place = [entry.columns(at)[part] for part in parts]
                copied = {} if kept is None else kept[at]
                for row in answered:
                    yield dict(zip(names or parts, place, strict=True)) | copied | row


def _free(parts: Sequence[str], keep: Sequence[str], row: dict[str, Any]) -> list[str]:
    """Names for the columns that say the place, which no other column has. Raises ValueError if two others collide."""
    taken = [name for name in keep if name in row or name == ERROR]
    if taken:
        raise ValueError(f"--keep {taken[0]}: the answers have a column of that name; rename that of the table.")
    names = []
    for name in parts:
        while name in row or name in keep:
            name = f"_{name}"
        names.append(name)
    return names


def _pieces(task: "Task", entry: Entry, answer: Any, skip_bad: bool) -> Iterator[Piece]:
    def watch(starts: Sequence[int]) -> Any:
        return bar(starts, Path(entry.source).name)

    return ask(task.model, task.settings, entry.queries, answer, skip_bad=skip_bad, place=entry.place, watch=watch)


def _write_map(task: "Task", entries: Sequence[Entry], out: Path, skip_bad: bool) -> None:
    """The labels of one scene as a picture or an array."""
    scene = entries[0].queries
    if len(entries) > 1 or not isinstance(scene, Pixels):
        raise ValueError(f"--out is {out}, a map; that can be drawn of one scene, a cube of bands, only.")
    pixels = scene.everywhere()
    labels = _plain(task.predict(pixels, skip_bad_samples=skip_bad)).reshape(pixels.cube.shape[:2])
    if out.suffix == ".npy":
        _save(labels, out)
    else:
        with written_whole(out) as temporary:
            draw_map(labels, temporary)


def _plain(labels: np.ndarray) -> np.ndarray:
    """Labels of one type, that files of arrays can hold: where there is None, NaN among numbers and else no letter."""
    if labels.dtype != object:
        return labels
    there = np.array([label is not None for label in labels])
    known = np.array(labels[there].tolist())
    numbers = known.dtype.kind in "iuf"
    whole = np.full(len(labels), np.nan if numbers else "", dtype=float if numbers else known.dtype)
    whole[there] = known
    return whole


def _save(array: np.ndarray, out: Path) -> None:
    with written_whole(out) as temporary, temporary.open("wb") as file:
        np.save(file, array)


def draw_map(labels: np.ndarray, path: Path) -> None:
    """Labels (H, W) as a picture in PNG, a colour for each, with a legend; none where there is NaN or no letter.

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
    none = (names == "") | (names != names)
    palette = matplotlib.colormaps[COLOURS].resampled(max(len(names), 2))(range(len(names)))
    palette[none] = 0  # transparent
    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots()
    axes.imshow(palette[codes.reshape(labels.shape)], interpolation="nearest")
    axes.set_axis_off()
    shown = [f"{name:g}" if name.dtype.kind == "f" else str(name) for name in names[~none]]
    patches = [Patch(color=colour, label=name) for colour, name in zip(palette[~none], shown, strict=True)]
    figure.legend(handles=patches, loc="outside right center")
    figure.savefig(path, dpi=120, format="png")
