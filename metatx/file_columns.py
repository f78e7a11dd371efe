"""Columns of a table that name files: found where the table lies, whatever folder a command is run in."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metatx.progress import tell
from metatx.reading.folders import files_below, visible
from metatx.reading.names import Lookup, path_of, places_beside
from metatx.reading.pictures import SUFFIXES as PICTURES
from metatx.splits import splits_of
from metatx.tables import TABLES, read_table

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["metadata_in", "read_metadata", "table_of_files"]

TRIED = 100  # cells that show whether a column names files
MASKS = (*PICTURES, ".npy")  # files of masks, and columns of them
MASK_NAMES = ("mask", "masks", "maskfile", "maskpath")
TARGETS = ("target", "label", "labels", "class", "y")  # never names of files, whatever they say
# Columns, in letters only, in which a name may lack its suffix.
NAMES = (
    *("file", "filename", "filepath", "path", "image", "imagefile", "imagename", "imagepath", "img", "picture"),
    *("photo", "audio", "video", "clip", "id", "imageid"),
)
NEW = "looked up by metatx"  # the name of a column while it is made
ENDINGS = ("id", "file", "name", "image", "path")
KEYS = ("filename", "file", "path", "filepath", "image")  # the column of a metadata file, in letters only


def table_of_files(file: Path, suffixes: tuple[str, ...]) -> "tuple[Dataset, list[str]]":
    """The table in a file, and its columns of names of files, which are looked up beside it first.

    A column names files where its cells end in one of ``suffixes`` (masks' own, in a column called so), or where it
    is called like one and its cells are the names of files but for the suffix. What is not there keeps its place
    beside the table as its name, and is told.

    Raises:
        ValueError: As ``read_table``.
    """
    table = read_table(file)
    names: list[str] = table.column_names
    found = {name: lookup for name in names if (lookup := _lookup_of(table, name, file, suffixes))}
    # Only where no column has whole names may one lack the suffix: the likeliest, by its own name.
    for name in [] if found else sorted(filter(_likely, names), key=lambda name: _letters(name) not in NAMES):
        lookup = _lookup_of(table, name, file, suffixes, by_stem=True)
        if lookup:
            found = {name: lookup}
            break
    for name, lookup in found.items():
        table = _with_column(table, name, _looked_up(table[name][:], lookup, file, name))
    return table, list(found)


def _lookup_of(
    table: "Dataset", name: str, file: Path, suffixes: tuple[str, ...], by_stem: bool = False
) -> Lookup | None:
    """Where the files are that a column names; None if it names none."""
    letters = _letters(name)
    dtype = getattr(table.features[name], "dtype", None)
    known = MASKS if letters in MASK_NAMES else suffixes
    if not known or letters in TARGETS or dtype not in ("string", "large_string", "int64", "float64"):
        return None
    cells = [cell for cell in table[name][:TRIED] if path_of(cell) is not None]
    if not cells or any("://" in str(cell) for cell in cells):
        return None
    lookup = Lookup(places_beside(file), known)
    if not by_stem:
        return lookup if all(str(cell).strip().lower().endswith(known) for cell in cells) else None
    return lookup if all(lookup.find(cell) is not None for cell in cells) else None


def _likely(name: str) -> bool:
    """Whether a column is called as those are in which a file's name may lack its suffix."""
    return _letters(name) in (*NAMES, *MASK_NAMES) or _letters(name).endswith(ENDINGS)


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
            f"{file}: {len(missing)} of {len(cells)} files that column {column} names are not there, the first "
            f"{str(cell)!r} in row {row}; looked in {lookup.where}."
        )
    return paths


def _with_column(table: "Dataset", name: str, cells: list[Any]) -> "Dataset":
    """The table with other cells in a column, at its place."""
    # Added before the old one goes: a table without columns has no rows.
    changed = table.add_column(NEW, cells).remove_columns(name).rename_column(NEW, name)
    return changed.select_columns(table.column_names)


def metadata_in(folder: Path) -> Path | None:
    """The file ``metadata.csv`` of a folder, or ``.jsonl``, ``.parquet``, ``.json``; None where it has none.

    Raises:
        ValueError: If there are several.
    """
    found = [f for f in visible(folder) if f.stem.lower() == "metadata" and f.suffix.lower() in TABLES and f.is_file()]
    if len(found) > 1:
        raise ValueError(f"{folder} has {' and '.join(f.name for f in found)}; leave one of them.")
    return found[0] if found else None


def read_metadata(file: Path, suffixes: tuple[str, ...]) -> "Dataset":
    """The table of a metadata file, its names of files as ``file``; ``split`` and ``label`` as the folders say them.

    ``split`` where the names begin with folders called so, and no column says it; ``label`` where no column is a
    target, and the files lie in folders.

    Raises:
        ValueError: If it names no files, a name is empty, none of the files is there, or some are of no split.
    """
    table, folder = read_table(file), file.parent
    key, others = _key_of(table, file)
    cells = table[key][:]
    empty = [row for row, cell in enumerate(cells, start=1) if path_of(cell) is None]
    if empty:
        raise ValueError(
            f"{file}, row {empty[0]}: {key} is {cells[empty[0] - 1]!r}; write the name of a file, or leave the row out."
        )
    lookup = Lookup(places_beside(file), suffixes)
    if not any(lookup.find(cell) for cell in cells):
        raise ValueError(
            f"{file}, row 1: {key} is {str(cells[0])!r}, and there is no such file, nor any of the {len(cells)} that "
            f"are named; looked in {lookup.where}."
        )
    paths = _looked_up(cells, lookup, file, key)
    for other in others:
        table = _with_column(table, other, _looked_up(table[other][:], Lookup(places_beside(file), MASKS), file, other))
        table = table.rename_column(other, re.sub("[_ -]*file[_ -]*name$", "", other, flags=re.I))
    _tell_unnamed(file, folder, paths, suffixes)
    places = [Path(path).relative_to(folder).parts if Path(path).is_relative_to(folder) else () for path in paths]
    splits, depth = _splits(file, table, places)
    if splits and "split" not in table.column_names:
        table = table.add_column("split", splits)
    labels = [place[depth] if len(place) > depth + 1 else None for place in places]
    if None not in labels and len(set(labels)) > 1 and not {_letters(c) for c in table.column_names} & {*TARGETS}:
        table = table.add_column("label", labels)
    kept = [name for name in table.column_names if name != key]
    table = _with_column(table, key, paths).select_columns([*kept, key])
    return table if "file" in table.column_names else table.rename_column(key, "file")


def _key_of(table: "Dataset", file: Path) -> tuple[str, list[str]]:
    """The column that names each row's file, and those that name further ones."""
    ending = [name for name in table.column_names if _letters(name).endswith("filename")]
    known = sorted(
        filter(lambda name: _letters(name) in KEYS, table.column_names), key=lambda n: KEYS.index(_letters(n))
    )
    keys = [*known, *ending]
    if not keys:
        raise ValueError(f"{file} has no column file_name; columns: {', '.join(table.column_names)}.")
    return keys[0], [name for name in ending if name != keys[0]]


def _splits(file: Path, table: "Dataset", places: list[tuple[str, ...]]) -> tuple[list[str], int]:
    """The split of each file by its folder, and how many folders that takes; none where no folder is called so."""
    for depth in (0, 1):
        names = [place[depth] if len(place) > depth + 1 else "" for place in places]
        known = splits_of(dict.fromkeys(names))
        if not known:
            continue
        if "split" in map(_letters, table.column_names):
            return [], depth + 1
        strange = next((row for row, name in enumerate(names) if name not in known), None)
        if strange is not None:
            raise ValueError(
                f"{file}, row {strange + 1}: {'/'.join(places[strange]) or 'its file'} lies in no folder of a split, "
                f"and others do ({', '.join(sorted(known))}); say the split of each row in a column split."
            )
        return [known[name] for name in names], depth + 1
    return [], 0


def _tell_unnamed(file: Path, folder: Path, paths: list[str], suffixes: tuple[str, ...]) -> None:
    """Say how many files there are that the metadata do not name."""
    named = {Path(path) for path in paths}
    unnamed = [f for f in files_below(folder) if f.suffix.lower() in suffixes and f not in named]
    if unnamed:
        tell(f"{len(unnamed)} files that {file} does not name were left out, as {unnamed[0].relative_to(folder)}.")


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())
