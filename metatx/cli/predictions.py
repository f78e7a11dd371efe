"""Predictions as files: rows with their places, maps of scenes, and formats that a head writes itself."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metatx.cli.entries import Entry, open_entries
from metatx.cli.pieces import write_in_pieces
from metatx.files import written_whole
from metatx.inference import Piece, ask, decoded, embedded, joined, recorded
from metatx.progress import bar
from metatx.reading.hyperspectral import Pixels
from metatx.writing.rows import ERROR, ROWS, write_rows

if TYPE_CHECKING:
    from metatx.task import Task

__all__ = ["check_suffix", "draw_map", "write_answers", "write_vectors"]

MAPS = (".png", ".npy")
PIECE = 100_000  # rows of a piece where none are named
COLOURS = "tab20"  # matplotlib's colour map for the classes of a map


def check_suffix(out: str | None, accepted: Sequence[str]) -> None:
    """Refuse a file to write whose suffix is not accepted. Raises ValueError."""
    if out is not None and Path(out).suffix not in accepted:
        suffixes = [suffix or "no suffix (a folder)" for suffix in accepted]
        raise ValueError(f"--out is {out}; expected a name with {', '.join(suffixes[:-1])} or {suffixes[-1]}.")


def check_folder(out: str | None) -> None:
    """Refuse a file to write whose folder does not exist. Raises FileNotFoundError."""
    if out is not None and not Path(out).absolute().parent.is_dir():
        raise FileNotFoundError(f"--out is {out}, but the folder {Path(out).parent} does not exist; make it first.")


def write_answers(
    task: "Task",
    inputs: Sequence[str],
    out: str | None,
    file: Any,
    *,
    keep: Sequence[str] = (),
    skip_bad: bool = False,
    piece_rows: int | None = None,
    resume: bool = False,
) -> int:
    """Predict all inputs and write the answers to ``out``, or as csv to an open ``file``; return the number of samples.

    The suffix of ``out`` chooses the format: ``.csv``, ``.jsonl`` and ``.parquet`` hold rows with their places,
    ``.png`` and ``.npy`` a map of one scene; a head may write further formats.

    Args:
        task: Task that answers.
        inputs: Tables, files or folders of samples.
        out: Path of the file to write; None writes to ``file``.
        file: File that is open for text.
        keep: Columns of the tables to copy into the rows.
        skip_bad: True goes on where a sample cannot be used; its row says why.
        piece_rows: Rows of a table that are in memory at once; None for the whole table, or ``PIECE`` with ``resume``.
        resume: Go on with a run in pieces that was stopped.

    Raises:
        ValueError: If the suffix is not accepted, a map is asked of anything but one scene, or a column to keep is
            missing.
        SampleError: If a sample cannot be used and ``skip_bad`` is False; nothing is written.
    """
    suffix = None if out is None else Path(out).suffix
    if out is not None and suffix not in ROWS:
        check_suffix(out, [*ROWS, *MAPS, *task.head.output_suffixes])
        if keep:
            raise ValueError(
                f"--keep copies columns into rows, but --out is {out}; expected a name with {', '.join(ROWS)}."
            )
    check_folder(out)

    def rows_of(entries: Sequence[Entry]) -> Iterator[dict[str, Any]]:
        return _rows(task, entries, recorded, task.head.rows, keep, skip_bad, len(inputs) > 1)

    if piece_rows is not None or resume:
        rows = PIECE if piece_rows is None else piece_rows
        facts = {"command": "predict", "keep": list(keep), "skip bad samples": skip_bad}
        return write_in_pieces(task, inputs, out, rows_of, rows=rows, resume=resume, keep=keep, facts=facts)
    entries = open_entries(task, inputs, keep)
    if out is None or suffix in ROWS:
        write_rows(rows_of(entries), out, file, errors=skip_bad)
    elif suffix in task.head.output_suffixes:
        task.head.check_writing(Path(out))
        pieces = [piece for entry in entries for piece in _pieces(task, entry, decoded(task.head.decode), skip_bad)]
        queries = [query for piece in pieces for query in piece.queries]
        task.head.write(Path(out), queries, [answer for piece in pieces for answer in piece.answers])
    else:
        _write_map(task, entries, Path(out), skip_bad)
    return sum(len(entry.queries) for entry in entries)


def write_vectors(
    task: "Task",
    inputs: Sequence[str],
    out: str | None,
    file: Any,
    *,
    keep: Sequence[str] = (),
    skip_bad: bool = False,
    piece_rows: int | None = None,
    resume: bool = False,
) -> int:
    """Embed all inputs and write the vectors: rows with D columns, or one array (B, D) for ``.npy``.

    Arguments and errors are those of ``write_answers``.
    """
    check_suffix(out, (*ROWS, ".npy"))
    check_folder(out)

    def numbered(vectors: Sequence[np.ndarray], queries: Sequence[Any]) -> list[dict[str, Any]]:
        return [{str(number): value for number, value in enumerate(vector.tolist())} for vector in vectors]

    def rows_of(entries: Sequence[Entry]) -> Iterator[dict[str, Any]]:
        return _rows(task, entries, embedded, numbered, keep, skip_bad, len(inputs) > 1)

    if piece_rows is not None or resume:
        rows = PIECE if piece_rows is None else piece_rows
        facts = {"command": "embed", "keep": list(keep), "skip bad samples": skip_bad}
        return write_in_pieces(task, inputs, out, rows_of, rows=rows, resume=resume, keep=keep, facts=facts)
    entries = open_entries(task, inputs, keep)
    if out is not None and out.endswith(".npy"):
        if keep:
            raise ValueError(
                f"--keep copies columns into rows, but --out is {out}, an array; expected a name with "
                f"{', '.join(ROWS)}."
            )
        vectors = np.concatenate([joined(_pieces(task, entry, embedded, skip_bad)) for entry in entries])
        _save(vectors, Path(out))
        return len(vectors)

    write_rows(rows_of(entries), out, file, errors=skip_bad)
    return sum(len(entry.queries) for entry in entries)


def _rows(
    task: "Task",
    entries: Sequence[Entry],
    answer: Any,
    rows_of: Callable[[Sequence[Any], Sequence[Any]], list[dict[str, Any]]],
    keep: Sequence[str],
    skip_bad: bool,
    several: bool,
) -> Iterator[dict[str, Any]]:
    """Yield the rows of all samples: the place, the columns that are kept, and the answer or the error.

    ``several`` says that the command has several inputs, so that the file is part of the place.
    """
    parts = []
    if several or any(entry.files for entry in entries):
        parts.append("file")
    if any(entry.numbers is not None for entry in entries):
        parts.append("row")
    names: list[str] | None = None
    for entry in entries:
        kept = entry.kept(keep)
        for piece in _pieces(task, entry, answer, skip_bad, entry.part):
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
    """Choose names for the columns of the place that no other column has.

    Raises:
        ValueError: If a column to keep has the name of a column of the answers.
    """
    taken = [name for name in keep if name in row or name == ERROR]
    if taken:
        raise ValueError(f"--keep {taken[0]}: the answers have a column of that name; rename the column of the table.")
    names = []
    for name in parts:
        while name in row or name in keep:
            name = f"_{name}"
        names.append(name)
    return names


def _pieces(task: "Task", entry: Entry, answer: Any, skip_bad: bool, part: bool = False) -> Iterator[Piece]:
    def watch(starts: Sequence[int]) -> Any:
        return bar(starts, Path(entry.source).name)

    options: dict[str, Any] = {"skip_bad": skip_bad, "place": entry.place, "watch": watch, "part": part}
    return ask(task.model, task.settings, entry.queries, answer, **options)


def _write_map(task: "Task", entries: Sequence[Entry], out: Path, skip_bad: bool) -> None:
    """Write the labels of one scene as an image or an array."""
    scene = entries[0].queries
    if len(entries) > 1 or not isinstance(scene, Pixels):
        raise ValueError(f"--out is {out}, a map, which can be drawn of one scene (a cube of bands) only.")
    pixels = scene.everywhere()
    labels = _plain(task.predict(pixels, skip_bad_samples=skip_bad)).reshape(pixels.cube.shape[:2])
    if out.suffix == ".npy":
        _save(labels, out)
    else:
        with written_whole(out) as temporary:
            draw_map(labels, temporary)


def _plain(labels: np.ndarray) -> np.ndarray:
    """Convert labels to one type that files can hold; None becomes NaN among numbers, and else an empty text."""
    if labels.dtype != object:
        return labels
    there = np.array([label is not None for label in labels])
    present = np.array(labels[there].tolist())
    numbers = present.dtype.kind in "iuf"
    whole = np.full(len(labels), np.nan if numbers else "", dtype=float if numbers else present.dtype)
    whole[there] = present
    return whole


def _save(array: np.ndarray, out: Path) -> None:
    with written_whole(out) as temporary, temporary.open("wb") as file:
        np.save(file, array)


def draw_map(labels: np.ndarray, path: Path) -> None:
    """Draw labels (H, W) as a PNG image, one colour a label, with a legend; NaN and empty texts stay transparent.

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
