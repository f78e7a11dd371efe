"""Columns of a table that name files: found where the table lies, whatever folder a command is run in."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metatx.data.table_files import mark_files, read_table
from metatx.progress import tell
from metatx.reading.csv_tables import Reading
from metatx.reading.folders import files_below, visible
from metatx.reading.image import SUFFIXES as IMAGES
from metatx.reading.names import Lookup, lookup_beside, path_of
from metatx.reading.split_names import letters, splits_of

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["TARGETS", "metadata_in", "read_metadata", "table_of_files", "tell_unnamed"]

METADATA = (".csv", ".jsonl", ".parquet")  # as Hugging Face has them; metadata.json says something else
TRIED = 100  # cells that show whether a column names files
MASKS = (*IMAGES, ".npy")  # files of masks, and columns of them
TARGETS = ("target", "label", "labels", "class", "y")  # names of files only where those are there
# Columns, in letters only, in which a name may lack its suffix.
NAMES = (
    *("file", "filename", "filepath", "path", "image", "imagefile", "imagename", "imagepath", "img", "picture"),
    *("photo", "audio", "video", "clip", "id", "imageid"),
)
NEW = "looked up by metatx"  # the name of a column while it is made
ENDINGS = ("id", "file", "name", "image", "path")
KEYS = ("filename", "file", "path", "filepath", "image")  # the column of a metadata file, in letters only


def table_of_files(
    file: Path, suffixes: tuple[str, ...], reading: Reading | None = None
) -> "tuple[Dataset, list[str]]":
    """The table in a file, and its columns of names of files, which are looked up beside it first.

    A column names files where most of its cells end in one of ``suffixes``, or are masks that are there; or where it
    is called like one and most of its cells are the names of files but for the suffix. What is not there keeps its
    place beside the table as its name, and is told.

    Raises:
        ValueError: As ``read_table``.
    """
    table = read_table(file, reading)
    names: list[str] = table.column_names
    if not suffixes or (file.suffix.lower() == ".json" and {"file", "objects"} <= set(names)):  # COCO's are found
        return table, ["file"] if suffixes else []
    if reading is not None:
        names = [name for name in names if name not in reading.texts]  # words are no names
    found = {name: lookup for name in names if (lookup := _whole_names(table, name, file, suffixes))}
    # Only where no column has whole names may one lack the suffix: the likeliest, by its own name.
    likely = [] if found else sorted(filter(_likely, names), key=lambda name: letters(name) not in NAMES)
    for name in likely:
        cells = _cells(table, name)
        lookup = lookup_beside(file, suffixes, cells)
        if letters(name) not in TARGETS and _most(map(lookup.find, cells)):
            found = {name: lookup}
            break
        if letters(name) in KEYS and cells and not Path(str(cells[0])).suffix:
            tell(f"{file}: column {name} names no files, as {str(cells[0])!r}; looked in {lookup.where}.")
    for name, lookup in found.items():
        table = _with_column(table, name, _looked_up(table[name][:], lookup, file, name))
    return table, list(found)


def _whole_names(table: "Dataset", name: str, file: Path, suffixes: tuple[str, ...]) -> Lookup | None:
    """Where the files are that a column names with their suffix; None if it names none."""
    cells = _cells(table, name)
    words = [str(cell).strip().lower() for cell in cells]
    for known in (suffixes, MASKS):
        if _most(word.endswith(known) for word in words):
            lookup = lookup_beside(file, known, cells)
            sure = known is suffixes and letters(name) not in TARGETS
            return lookup if sure or any(map(lookup.find, cells)) else None
    return None


def _cells(table: "Dataset", name: str) -> list[Any]:
    """The first cells of a column that could name files."""
    dtype = getattr(table.features[name], "dtype", None)
    if not isinstance(dtype, str) or not dtype.startswith(("string", "large_string", "int", "uint", "float")):
        return []
    cells = [cell for cell in table[name][:TRIED] if path_of(cell) is not None]
    return [] if any("://" in str(cell) for cell in cells) else cells


def _most(found: Iterable[Any]) -> bool:
    """Whether more than half of some values are true."""
    values = [bool(value) for value in found]
    return sum(values) > len(values) / 2


def _likely(name: str) -> bool:
    """Whether a column is called as those are in which a file's name may lack its suffix."""
    return letters(name) in NAMES or letters(name).endswith(ENDINGS)


def _looked_up(cells: list[Any], lookup: Lookup, file: Path, column: str) -> list[Any]:
    """Cells as paths from the working directory. What is missing is told, and named where it should be."""
    paths: list[Any] = []
    missing = []
    for row, cell in enumerate(cells, start=1):
        found = lookup.find(cell)
        if found is None and path_of(cell) is not None:
            missing.append((row, cell))
            found = file.parent / str(path_of(cell))
        paths.append(None if found is None else str(found))
    if missing:
        row, cell = missing[0]
        tell(
            f"{file}: {len(missing)} of {len(cells)} files that column {column} names are not there, or there twice, "
            f"the first {str(cell)!r} in row {row}; looked in {lookup.where}."
        )
    return paths


def _with_column(table: "Dataset", name: str, cells: list[Any]) -> "Dataset":
    """The table with other cells in a column, at its place."""
    # Added before the old one goes: a table without columns has no rows.
    changed = table.add_column(NEW, cells).remove_columns(name).rename_column(NEW, name)
    return changed.select_columns(table.column_names)


def metadata_in(folder: Path) -> "tuple[Path, Dataset] | None":
    """The file ``metadata.csv`` of a folder, or ``.jsonl``, ``.parquet``, and its table; None where none names files.

    Raises:
        ValueError: If there are several.
    """
    held = [file for file in visible(folder) if file.stem.lower() == "metadata" and file.is_file()]
    found = [file for file in held if file.suffix.lower() in METADATA]
    if len(found) > 1:
        raise ValueError(f"{folder} has {' and '.join(f.name for f in found)}; leave one of them.")
    if not found:
        return None
    table = read_table(found[0])
    if _keys_of(table.column_names):
        return found[0], table
    tell(f"{found[0]} has no column file_name and is not read; columns: {', '.join(table.column_names):.200}.")
    return None


def read_metadata(file: Path, table: "Dataset", suffixes: tuple[str, ...]) -> "Dataset":
    """The table of a metadata file, its names of files as ``file``; ``split`` and ``label`` as the folders say them.

    ``split`` where the names begin with folders called so, and no column says it; ``label`` where no column is a
    target, and the files lie in folders.

    Raises:
        ValueError: If it names no files, a name is empty or leads out of the folder, none of the files is there, or
            some are of no split.
    """
    folder = file.parent
    key, *further = _keys_of(table.column_names)
    others = [name for name in further if letters(name).endswith("filename")]
    cells = table[key][:]
    empty = [row for row, cell in enumerate(cells, start=1) if path_of(cell) is None]
    if empty:
        raise ValueError(
            f"{file}, row {empty[0]}: {key} is {cells[empty[0] - 1]!r}; write the name of a file, or leave the row out."
        )
    lookup = lookup_beside(file, suffixes, cells, folder)
    if not any(lookup.find(cell) for cell in cells):
        raise ValueError(
            f"{file}, row 1: {key} is {str(cells[0])!r}, and there is no such file, nor any of the {len(cells)} that "
            f"are named; looked in {lookup.where}."
        )
    paths = _looked_up(cells, lookup, file, key)
    for other in others:
        named = table[other][:]
        table = _with_column(table, other, _looked_up(named, lookup_beside(file, MASKS, named, folder), file, other))
        table = table.rename_column(other, re.sub("[_ -]*file[_ -]*name$", "", other, flags=re.I))
    tell_unnamed(file, set(paths), suffixes)
    places = [Path(path).relative_to(folder).parts if Path(path).is_relative_to(folder) else () for path in paths]
    splits, depth = _splits(file, table, places)
    if splits and "split" not in table.column_names:
        table = table.add_column("split", splits)
    labels = [place[depth] if len(place) > depth + 1 else None for place in places]
    if None not in labels and len(set(labels)) > 1 and not {letters(c) for c in table.column_names} & {*TARGETS}:
        table = table.add_column("label", labels)
    kept = [name for name in table.column_names if name != key]
    table = _with_column(table, key, paths).select_columns([*kept, key])
    mark_files(table)
    return table if "file" in table.column_names else table.rename_column(key, "file")


def _keys_of(columns: list[str]) -> list[str]:
    """The columns that name files, that of each row's own first."""
    ending = [name for name in columns if letters(name).endswith("filename")]
    return list(dict.fromkeys([name for key in KEYS for name in columns if letters(name) == key] + ending))


def _splits(file: Path, table: "Dataset", places: list[tuple[str, ...]]) -> tuple[list[str], int]:
    """The split of each file by its folder, and how many folders that takes; none where no folder is called so."""
    for depth in (0, 1):
        names = [place[depth] if len(place) > depth + 1 else "" for place in places]
        known = splits_of(dict.fromkeys(names))
        if not known:
            continue
        if "split" in map(letters, table.column_names):
            return [], depth + 1
        strange = next((row for row, name in enumerate(names) if name not in known), None)
        if strange is not None:
            raise ValueError(
                f"{file}, row {strange + 1}: {'/'.join(places[strange]) or 'its file'} lies in no folder of a split, "
                f"and others do ({', '.join(sorted(known))}); say the split of each row in a column split."
            )
        return [known[name] for name in names], depth + 1
    return [], 0


def tell_unnamed(table: Path, named: set[str], suffixes: tuple[str, ...]) -> None:
    """Say how many files there are below a table that it does not name."""
    unnamed = [f for f in files_below(table.parent) if f.suffix.lower() in suffixes and str(f) not in named]
    if unnamed:
        tell(f"{table} does not name {len(unnamed)} of the files below it, as {unnamed[0]}; they are left out.")
