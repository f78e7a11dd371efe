"""Folders as tables: tables or containers by split, shards, metadata, COCO files, or files that are samples."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from metatx.data.file_columns import metadata_in, read_metadata, table_of_files, tell_unnamed
from metatx.data.sample_files import ADVICE, read_files, split_folders, tell_left
from metatx.data.splits import by_column
from metatx.data.table_files import is_table, mark_files, not_empty, read_table, table_stem, text_columns
from metatx.examples import Examples, Reader
from metatx.progress import tell
from metatx.reading.coco import coco_content, read_coco
from metatx.reading.csv_tables import Reading
from metatx.reading.folders import check_folder, files_below, visible
from metatx.reading.split_names import ALL, KNOWN, one_each, resembles, split_of, splits_of

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["read_folder"]

# Words beside the split in a COCO file's name.
COCO_WORDS = re.compile("instances|person_keypoints|annotations?|coco|labels?", re.I)
SHARD = re.compile(r"(.+?)-(\d+)-of-(\d+)(-[0-9a-f]+)?")  # the hub's names of shards: train-00000-of-00002


def read_folder(
    path: Path,
    suffixes: tuple[str, ...],
    split_column: str | None,
    readers: Mapping[str, Reader],
    reading: Reading | None = None,
) -> "dict[str, Dataset | Examples]":
    """Read a folder by split, or as ``all``. For arguments and errors see ``metatx.data.tables.read_splits``."""
    check_folder(path)
    path = _inner(path)
    reading = reading or Reading()
    items = visible(path)
    coco = _read_coco_files(path)
    if coco:
        return coco
    for name, reader in readers.items():
        if (path / name).is_file():
            return dict(reader(path / name))
    files = [file for file in items if file.is_file()]
    containers = _by_split([file for file in files if file.suffix.lower() in readers])
    if containers:
        return {split: _whole(readers[file.suffix.lower()](file), file) for split, file in containers.items()}
    tables = _by_split([file for file in files if is_table(file)], files)
    if tables:
        beside = [item.name for item in items if item.is_dir() and split_of(item.name) not in (None, *tables)]
        if beside:
            tell(f"{path}: {', '.join(beside)} beside {', '.join(f.name for f in tables.values())} left out; no table.")
        return _read_tables(tables, suffixes, reading)
    shards = _read_shards([*files, *(visible(path / "data") if (path / "data").is_dir() else [])])
    if shards:
        return shards
    metadata = metadata_in(path, reading)
    if metadata:
        return by_column(read_metadata(*metadata, suffixes, reading), str(metadata[0]), split_column)
    folders = split_folders(path, suffixes)
    if folders:
        left = [f for f in files_below(path) if not any(f.is_relative_to(folder) for folder in folders.values())]
        parts = {
            split: _read_part(folder, split, suffixes, readers, left, reading) for split, folder in folders.items()
        }
        tell_left(path, suffixes, left)
        return parts
    sole = _sole_file(path, suffixes, readers, reading)
    if sole is not None:
        return sole if isinstance(sole, dict) else by_column(sole, str(path), split_column)
    unread: list[Path] = []
    table = read_files(path, suffixes, readers, unread, whole=True)
    tell_left(path, suffixes, unread)
    return by_column(table, str(path), split_column)


def _inner(path: Path) -> Path:
    """Innermost of folders that hold one folder each, as unpacked archives do, if it holds splits; else ``path``."""
    items = visible(path)
    folders = [item for item in items if item.is_dir()]
    files = [item for item in items if item.is_file() and item.suffix.lower() not in (".md", ".txt", "")]
    if len(folders) != 1 or files or split_of(folders[0].name):
        return path
    inner = _inner(folders[0])
    splits = {split_of(item.stem if item.is_file() else item.name) for item in visible(inner)}
    return inner if "train" in splits else path


# Files that hold many samples each


def _by_split(files: Sequence[Path], beside: Sequence[Path] = ()) -> dict[str, Path]:
    """Files whose names are splits, by split; empty if there are none.

    Args:
        files: Files that can be read.
        beside: All files of the folder; by default ``files``.

    Raises:
        ValueError: If two files belong to one split, or a file whose name resembles a split would be left out.
    """
    by_split = one_each(files, {file: table_stem(file) if is_table(file) else file.stem for file in files})
    others = [file for file in (beside or files) if file not in by_split.values()]
    if not by_split:
        return {}
    strange = [file.name for file in others if file in files and resembles(file.stem)]
    # A split in a form that cannot be read: test.xlsx beside train.csv.
    unreadable = [file for file in others if file not in files]
    strange += [file.name for file in unreadable if split_of(file.name.partition(".")[0]) not in (None, *by_split)]
    if strange:
        raise ValueError(
            f"{others[0].parent} has {', '.join(file.name for file in by_split.values())}; {', '.join(strange)} would "
            f"be left out. {ADVICE}"
        )
    left = [file.name for file in others if file in files]
    if left:
        tell(f"{others[0].parent}: {', '.join(left)} {'is' if len(left) == 1 else 'are'} of no split, and left out.")
    return by_split


def _read_tables(tables: Mapping[str, Path], suffixes: tuple[str, ...], reading: Reading) -> "dict[str, Dataset]":
    """Read the tables of several splits; columns of text in ``train``, or else in the first, are text in all."""
    datasets: dict[str, Dataset] = {}
    for split in sorted(tables, key=lambda split: split != "train"):
        table, _ = table_of_files(tables[split], suffixes, reading)
        reading = reading.also(text_columns(table)) if not datasets else reading
        datasets[split] = _without_split(table, split, str(tables[split]))
    return {split: datasets[split] for split in tables}


def _whole(splits: "dict[str, Examples]", file: Path) -> Examples:
    """Content of a file that is one split. Raises ValueError if the file is split itself."""
    if set(splits) != {ALL}:
        raise ValueError(f"{file} is named as one split, but holds {', '.join(splits)}; name the file itself.")
    return splits[ALL]


def _without_split(table: "Dataset", split: str, source: str) -> "Dataset":
    """Table of a file that is one split, without a column of splits. Raises ValueError if that names other splits."""
    parts = by_column(table, source)
    if set(parts) - {ALL, split}:
        raise ValueError(f"{source} is named as {split}, but its rows say {', '.join(parts)}; name the file itself.")
    return parts.get(split, table)


def _read_shards(files: Iterable[Path]) -> "dict[str, Dataset]":
    """Read splits in the hub's layout, ``train-00000-of-00002.parquet``; empty if there are none.

    Raises:
        ValueError: If a shard is missing.
    """
    from datasets import concatenate_datasets

    shards: dict[str, list[tuple[Path, int]]] = {}
    for file in sorted(files):
        match = SHARD.fullmatch(file.stem)
        if match and is_table(file):
            shards.setdefault(match[1], []).append((file, int(match[3])))
    splits = splits_of(shards)
    if not splits:
        return {}
    if len(set(splits.values())) < len(splits):
        raise ValueError(f"{file.parent}: {', '.join(splits)} are names of one split; rename one of them.")
    left = sorted(shards.keys() - splits.keys())
    if left:
        tell(f"{file.parent}: shards of {', '.join(left)} are of no known split, and left out.")
    for name, parts in shards.items():
        if name in splits and len(parts) != parts[0][1]:
            raise ValueError(f"{parts[0][0]} is one of {parts[0][1]} shards, of which {len(parts)} are there.")
    return {
        split: concatenate_datasets([not_empty(read_table(file), str(file)) for file, _ in shards[name]])
        for name, split in splits.items()
    }


def _read_coco_files(path: Path) -> "dict[str, Dataset]":
    """Read the COCO files in ``annotations``, or in the folder itself, by split; empty if there are none.

    Raises:
        ValueError: If there are several, and the name of one is no split.
    """
    inside = [item for item in visible(path) if item.is_dir() and item.name.lower() == "annotations"]
    files: list[Path] = []
    for folder in (*inside, path):
        json_files = [file for file in visible(folder) if file.suffix.lower() == ".json" and file.is_file()]
        files = files or [file for file in json_files if coco_content(file)]
    instances = [file for file in files if file.stem.lower().startswith("instances")]
    files = instances or files
    names = {file: COCO_WORDS.sub(" ", file.stem).strip(" _.-") for file in files}
    if len(files) == 1 and (not instances or names[files[0]] in ("", "default")) and not split_of(names[files[0]]):
        return {ALL: read_coco(files[0])}
    by_split = one_each(files, names)
    strange = [file for file in files if file not in by_split.values()]
    if strange:
        raise ValueError(
            f"{strange[0]} is of no known split; splits are called {KNOWN}. Rename it, or give the file itself."
        )
    return {split: read_coco(file) for split, file in by_split.items()}


def _sole_file(
    path: Path, suffixes: tuple[str, ...], readers: Mapping[str, Reader], reading: Reading
) -> "Dataset | dict[str, Examples] | None":
    """Content of the only table or container of a folder; None if there are several, or folders may be classes."""
    files = [file for file in visible(path) if file.is_file()]
    containers = [file for file in files if file.suffix.lower() in readers and file.suffix.lower() not in suffixes]
    tables = [file for file in files if is_table(file)]
    if not containers and not tables:
        return None
    samples = [file for file in files_below(path) if file.suffix.lower() in suffixes]
    if len(containers) == 1 and not samples:
        return dict(readers[containers[0].suffix.lower()](containers[0]))
    tables = [file for file in tables if not samples or file.suffix.lower() != ".json"]
    folders = {file.relative_to(path).parts[0] for file in samples if file.parent != path}
    if len(tables) != 1 or (len(folders) > 1 and reading.files is None):
        return None
    table, named = table_of_files(tables[0], suffixes, reading)
    if samples and not named:
        return None
    if named:
        mark_files(table)
    tell_unnamed(tables[0], {file for column in named for file in table[column]}, suffixes)
    return table


def _read_part(
    path: Path,
    split: str,
    suffixes: tuple[str, ...],
    readers: Mapping[str, Reader],
    left: list[Path],
    reading: Reading,
) -> "Dataset | Examples":
    """Read the folder of a split; files that are not read are appended to ``left``."""
    inner = visible(path)
    while len(inner) == 1 and inner[0].is_dir() and split_of(inner[0].name) == split:  # training_set/training_set
        path = inner[0]
        inner = visible(path)
    coco = _read_coco_files(path)
    if coco:
        if set(coco) - {ALL, split}:
            raise ValueError(f"{path} is named as {split}, but holds COCO files of {', '.join(coco)}.")
        return next(iter(coco.values()))
    metadata = metadata_in(path, reading)
    if metadata:
        return _without_split(read_metadata(*metadata, suffixes, reading), split, str(metadata[0]))
    sole = _sole_file(path, suffixes, readers, reading)
    if isinstance(sole, dict):
        return _whole(sole, path)
    return read_files(path, suffixes, readers, left) if sole is None else _without_split(sole, split, str(path))
