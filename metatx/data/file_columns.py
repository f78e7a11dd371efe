"""Columns of a table that name files, which are looked up beside the table, not in the working directory alone."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
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

METADATA = (".csv", ".jsonl", ".parquet")  # Hugging Face's forms; metadata.json usually holds something else
TRIED = 100  # cells by which a column is recognised as names of files
MASKS = (*IMAGES, ".npy")  # suffixes of masks
TARGETS = ("target", "label", "labels", "class", "y")  # columns that name files only if the files exist
# Columns, letters only, in which names of files may lack the suffix.
NAMES = (
    *("file", "filename", "filepath", "path", "image", "imagefile", "imagename", "imagepath", "img", "picture"),
    *("photo", "audio", "video", "clip", "id", "imageid"),
)
NEW = "looked up by metatx"  # temporary name of a column
FILE_NAME = re.compile("[_ -]*file[_ -]*name$", re.I)
ENDINGS = ("id", "file", "name", "image", "path")  # endings of further such columns
KEYS = ("filename", "file", "path", "filepath", "image")  # columns of a metadata file that name files, letters only


def table_of_files(
    file: Path, suffixes: tuple[str, ...], reading: Reading | None = None, table: "Dataset | None" = None
) -> "tuple[Dataset, list[str]]":
    """Read a table, and look up the files that its columns name; return it and the names of those columns.

    A column names files if most of its cells end in one of ``suffixes``, or are masks that exist; or if its own name
    says so and most of its cells are names of files without the suffix. Where ``reading`` says which columns name
    files, only those are looked up. A cell whose file is not found becomes its path beside the table, and is reported.

    Args:
        file: File of the table.
        suffixes: Suffixes of files that are a sample each.
        reading: Options of reading the table.
        table: Rows of the file, where some of them are read already.

    Raises:
        ValueError: If the table cannot be read, see ``read_table``.
    """
    table = read_table(file, reading) if table is None else table
    names: list[str] = table.column_names
    if not suffixes or (file.suffix.lower() == ".json" and {"file", "objects"} <= set(names)):  # COCO: found already
        return table, ["file"] if suffixes else []
    reading = reading or Reading()
    if reading.files is not None:
        lookups = _declared(table, file, suffixes, reading.files)
    else:
        names = [name for name in names if name not in reading.texts]  # declared as texts, so no names of files
        lookups = {name: lookup for name in names if (lookup := _whole_names(table, name, file, suffixes))}
        # Names without suffix are searched only if no column has whole names, in the column with the likeliest name.
        lookups = lookups or _without_suffix(table, file, suffixes, names)
    for name, lookup in lookups.items():
        table = _with_column(table, name, _looked_up(table[name][:], lookup, file, name))
    return table, list(lookups)


def _declared(
    table: "Dataset",
    file: Path,
    suffixes: tuple[str, ...],
    declared: Mapping[str, Sequence[str]],
    root: Path | None = None,
) -> dict[str, Lookup]:
    """Look-ups of the columns that are known to name files, by column; all files lie in ``root``."""
    lookups: dict[str, Lookup] = {}
    for name, accepted in declared.items():
        if name not in table.column_names:
            continue
        cells = _cells(table, name)
        if accepted and cells:
            lookups[name] = lookup_beside(file, accepted, cells, root)
        elif not accepted and (lookup := _whole_names(table, name, file, suffixes)):
            lookups[name] = lookup
    return lookups


def _without_suffix(table: "Dataset", file: Path, suffixes: tuple[str, ...], names: Sequence[str]) -> dict[str, Lookup]:
    """Look-up of the files that a column names without their suffix, by column; the column is the likeliest one."""
    for name in sorted(filter(_likely, names), key=lambda name: letters(name) not in NAMES):
        cells = _cells(table, name)
        lookup = lookup_beside(file, suffixes, cells)
        if letters(name) not in TARGETS and _most(map(lookup.find, cells)):
            return {name: lookup}
        if letters(name) in KEYS and cells and not Path(str(cells[0])).suffix:
            tell(f"{file}: column {name} names no files, such as {str(cells[0])!r}; looked in {lookup.where}.")
    return {}


def _whole_names(table: "Dataset", name: str, file: Path, suffixes: tuple[str, ...]) -> Lookup | None:
    """Look-up of the files that a column names with their suffix; None if it names none."""
    cells = _cells(table, name)
    words = [str(cell).strip().lower() for cell in cells]
    for accepted in (suffixes, MASKS):
        if _most(word.endswith(accepted) for word in words):
            lookup = lookup_beside(file, accepted, cells)
            sure = accepted is suffixes and letters(name) not in TARGETS
            return lookup if sure or any(map(lookup.find, cells)) else None
    return None


def _cells(table: "Dataset", name: str) -> list[Any]:
    """First cells of a column that could name files; none if one of them is a URL."""
    dtype = getattr(table.features[name], "dtype", None)
    if not isinstance(dtype, str) or not dtype.startswith(("string", "large_string", "int", "uint", "float")):
        return []
    cells = [cell for cell in table[name][:TRIED] if path_of(cell) is not None]
    return [] if any("://" in str(cell) for cell in cells) else cells


def _most(values: Iterable[Any]) -> bool:
    """Return whether more than half of some values are true."""
    flags = [bool(value) for value in values]
    return sum(flags) > len(flags) / 2


def _likely(name: str) -> bool:
    """Return whether a column's name suggests names of files, which may lack the suffix."""
    return letters(name) in NAMES or letters(name).endswith(ENDINGS)


def _looked_up(cells: list[Any], lookup: Lookup, file: Path, column: str) -> list[Any]:
    """Paths of the files that cells name; a file that is not found is reported, and its path is that beside the table.

    Args:
        cells: Cells of a column.
        lookup: Look-up of the files.
        file: File of the table.
        column: Name of the column, for messages.
    """
    paths: list[Any] = []
    missing = []
    for row, cell in enumerate(cells, start=1):
        path = lookup.find(cell)
        if path is None and path_of(cell) is not None:
            missing.append((row, cell))
            path = file.parent / str(path_of(cell))
        paths.append(None if path is None else str(path))
    if missing:
        row, cell = missing[0]
        tell(
            f"{file}: {len(missing)} of {len(cells)} files that column {column} names are missing, or exist twice, "
            f"the first {str(cell)!r} in row {row}; looked in {lookup.where}."
        )
    return paths


def _with_column(table: "Dataset", name: str, cells: list[Any]) -> "Dataset":
    """Replace the cells of a column."""
    # Add the new column before removing the old one: a table without columns would have no rows.
    changed = table.add_column(NEW, cells).remove_columns(name).rename_column(NEW, name)
    return changed.select_columns(table.column_names)


def metadata_in(folder: Path, reading: Reading) -> "tuple[Path, Dataset] | None":
    """Metadata file of a folder (``metadata.csv``, ``.jsonl``, ``.parquet``) and its table; None if it names no files.

    Columns name files if ``reading`` says so, or by their names.

    Raises:
        ValueError: If there are several.
    """
    named = [file for file in visible(folder) if file.stem.lower() == "metadata" and file.is_file()]
    files = [file for file in named if file.suffix.lower() in METADATA]
    if len(files) > 1:
        raise ValueError(f"{folder} has {' and '.join(f.name for f in files)}; leave one of them.")
    if not files:
        return None
    table = read_table(files[0], reading)
    if _keys_of(table.column_names) or set(reading.files or ()) & set(table.column_names):
        return files[0], table
    tell(f"{files[0]} has no column file_name and is not read; columns: {', '.join(table.column_names):.200}.")
    return None


def read_metadata(file: Path, table: "Dataset", suffixes: tuple[str, ...], reading: Reading) -> "Dataset":
    """Look up the files of a metadata table; add columns ``file``, ``split`` and ``label``.

    ``split`` is added if the files lie in folders named by split and no column has that name; ``label``, the name of a
    file's folder, if all files lie in folders and no column is a target. A column ``photo_file_name`` is called
    ``photo`` then. Where ``reading`` says which columns name files, there need be no ``file_name``, and no ``label`` is
    added.

    Args:
        file: Metadata file.
        table: Content of the file.
        suffixes: Suffixes of files that are a sample each.
        reading: Options of reading the table.

    Raises:
        ValueError: If a name is empty or leads out of the folder, no file exists, or some files lie in no folder of a
            split while others do.
    """
    folder = file.parent
    if reading.files is not None:
        return _declared_metadata(file, table, suffixes, reading.files)
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
        table = table.rename_column(other, FILE_NAME.sub("", other))
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


def _declared_metadata(
    file: Path, table: "Dataset", suffixes: tuple[str, ...], declared: Mapping[str, Sequence[str]]
) -> "Dataset":
    """Look up the files of a metadata table whose columns are known to name files, see ``read_metadata``."""
    for name in table.column_names:
        short = FILE_NAME.sub("", name) or "file"
        if short != name and name not in declared and short not in table.column_names:
            table = table.rename_column(name, short)
    places: list[tuple[str, ...]] = []
    for name, lookup in _declared(table, file, suffixes, declared, file.parent).items():
        paths = _looked_up(table[name][:], lookup, file, name)
        table = _with_column(table, name, paths)
        inside = [path and Path(path).relative_to(file.parent).parts for path in paths]
        places = [place or other or () for place, other in zip_longest(places, inside)]
    splits, _ = _splits(file, table, places)
    return table.add_column("split", splits) if splits and "split" not in table.column_names else table


def _keys_of(columns: list[str]) -> list[str]:
    """Columns that name files, that of the samples first."""
    further = [name for name in columns if letters(name).endswith("filename")]
    return list(dict.fromkeys([name for key in KEYS for name in columns if letters(name) == key] + further))


def _splits(file: Path, table: "Dataset", places: list[tuple[str, ...]]) -> tuple[list[str], int]:
    """Split of each file by the name of a folder, and how deep that folder lies; no splits if no folder is named so."""
    for depth in (0, 1):
        names = [place[depth] if len(place) > depth + 1 else "" for place in places]
        split_by_name = splits_of(dict.fromkeys(names))
        if not split_by_name:
            continue
        if "split" in map(letters, table.column_names):
            return [], depth + 1
        strange = next((row for row, name in enumerate(names) if name not in split_by_name), None)
        if strange is not None:
            raise ValueError(
                f"{file}, row {strange + 1}: {'/'.join(places[strange]) or 'its file'} lies in no folder of a split, "
                f"and others do ({', '.join(sorted(split_by_name))}); write the split of each row into a column split."
            )
        return [split_by_name[name] for name in names], depth + 1
    return [], 0


def tell_unnamed(table: Path, named: set[str], suffixes: tuple[str, ...]) -> None:
    """Report how many files below a table's folder the table does not name."""
    unnamed = [f for f in files_below(table.parent) if f.suffix.lower() in suffixes and str(f) not in named]
    if unnamed:
        tell(f"{table} does not name {len(unnamed)} of the files below it, such as {unnamed[0]}; they are left out.")
