"""What users have on disk, as tables: files, folders of splits, folders of classes, the hub."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metatx.examples import Examples, Reader
from metatx.reading.boxes import read_coco
from metatx.reading.csv_tables import Reading
from metatx.registry import unknown
from metatx.tables import (
    are_columns,
    as_dataset,
    is_table,
    named_classes,
    not_empty,
    read_table,
    read_tables,
    table_stem,
)

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["as_table", "candidates", "find_target", "read_splits"]

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
TARGETS = ("target", "label", "labels", "class", "y")
DENSE_TARGETS = ("mask", "objects")  # where there is none of those
PAIRED = ("images", "masks")  # folders of a picture and its mask, of the same name but for the suffix
LOOKED_AT = 1000  # rows, for one that is not missing
ALL = "all"  # the name of a table that is not split


def read_splits(
    data: Any,
    suffixes: tuple[str, ...],
    split_column: str | None = None,
    containers: Mapping[str, Reader] | None = None,
    reading: Reading | None = None,
) -> "dict[str, Dataset | Examples]":
    """Read ``data`` into tables by split: ``train``, ``validation``, ``test``, or ``all`` where it is not split.

    Args:
        data: A table as ``as_dataset`` takes it, or a dict of split to such; a file, see ``metatx.tables.TABLES``; a
            folder whose files or folders are named by split (as shards of the hub are), of one folder a class (each
            perhaps of one a split), or with a ``metadata.csv``; or ``hf:NAME`` of the Hugging Face hub.
        suffixes: File types to look for in folders of classes.
        split_column: Column that says the split of each row; found by itself where it is called ``split``.
        containers: Readers of the modality's own formats, by suffix, or by the name of a file that marks a folder.
        reading: What is known of tables before they are read.

    Raises:
        FileNotFoundError: If there is nothing of that name.
        ValueError: If it cannot be read, or holds no samples.
    """
    if isinstance(data, str) and data.startswith("hf:"):
        return _read_hub(data[3:])
    if isinstance(data, Mapping) and set(data) <= set(SPLITS) and not are_columns(data):
        return {SPLITS[split]: not_empty(as_dataset(table), f"the {split} split") for split, table in data.items()}
    if not isinstance(data, str | Path):
        return _by_column(as_dataset(data), "the table", split_column)
    path = Path(data)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist.")
    readers = containers or {}
    if path.is_file():
        reader = readers.get(path.name) or readers.get(path.suffix.lower())
        return dict(reader(path)) if reader else _by_column(read_table(path, reading), str(path), split_column)
    coco = sorted((path / "annotations").glob("instances_*.json"))
    if coco:
        names = [file.stem.removeprefix("instances_").rstrip("0123456789") for file in coco]
        known = {SPLITS[name]: file for name, file in zip(names, coco, strict=True) if name in SPLITS}
        if not known:
            raise ValueError(f"{coco[0]} is of no split that is known; they are called {', '.join(SPLITS)}.")
        return {split: read_coco(file) for split, file in known.items()}
    for name, reader in readers.items():
        if (path / name).is_file():
            return dict(reader(path / name))
    held = {SPLITS[f.stem]: f for f in sorted(path.iterdir()) if f.suffix.lower() in readers and f.stem in SPLITS}
    if held:
        return {split: _whole(readers[file.suffix.lower()](file), file) for split, file in held.items()}
    tables = {table_stem(f): f for f in sorted(path.iterdir()) if is_table(f)}
    files = {SPLITS[stem]: f for stem, f in tables.items() if stem in SPLITS}
    if files:
        return dict(read_tables(files, reading))
    shards = _read_shards(path / "data" if (path / "data").is_dir() else path)
    if shards:
        return shards
    folders = {SPLITS[f.name]: f for f in sorted(path.iterdir()) if f.is_dir() and f.name in SPLITS}
    if folders:
        return {split: _read_folder(folder, suffixes) for split, folder in folders.items()}
    return _by_column(_read_folder(path, suffixes), str(path), split_column)


def as_table(
    data: Any,
    suffixes: tuple[str, ...],
    split: str,
    containers: Mapping[str, Reader] | None = None,
    reading: Reading | None = None,
) -> "Dataset | Examples":
    """The one table that ``data`` holds, or its ``split``. Raises ValueError if it is split without that one."""
    tables = read_splits(data, suffixes, containers=containers, reading=reading)
    if ALL in tables:
        return tables[ALL]
    if split not in tables:
        raise ValueError(f"{data} has no {split} split; it has {', '.join(tables)}.")
    return tables[split]


def candidates(table: "Dataset", accepts: Any, without: set[str | None]) -> list[str]:
    """Columns whose first value that is not missing an input could be, by ``accepts(value)``."""
    first = table[0]
    for name in [name for name, value in first.items() if value is None]:
        first[name] = next((value for value in table.select_columns(name)[:LOOKED_AT][name] if value is not None), None)
    return [name for name in table.column_names if name not in without and accepts(first[name])]


def find_target(table: "Dataset", target: str | None) -> str | None:
    """The target column: the one named, or the one with a usual name; None where there is none.

    Raises:
        ValueError: If the named one is missing, or several have a usual name.
    """
    if target is not None:
        if target not in table.column_names:
            raise ValueError(unknown("target column", target, table.column_names))
        return target
    usual = [name for name in TARGETS if name in table.column_names]
    usual = usual or [name for name in DENSE_TARGETS if name in table.column_names]
    if len(usual) > 1:
        raise ValueError(f"Columns {', '.join(usual)} could each be the target; name one with --target.")
    return usual[0] if usual else None


def _whole(splits: "dict[str, Examples]", file: Path) -> Examples:
    """What a file that is one split holds."""
    if set(splits) != {ALL}:
        raise ValueError(f"{file} is named as one split, but holds {', '.join(splits)}; name the file itself.")
    return splits[ALL]


def _read_shards(path: Path) -> "dict[str, Dataset]":
    """Splits in the hub's own layout, ``train-00000-of-00002.parquet``; empty where there is none of it."""
    from datasets import concatenate_datasets

    splits: dict[str, list[Dataset]] = {}
    for file in sorted(path.glob("*-[0-9]*-of-[0-9]*.parquet")):
        name = file.name.partition("-")[0]
        if name in SPLITS:
            splits.setdefault(SPLITS[name], []).append(not_empty(read_table(file), str(file)))
    return {split: concatenate_datasets(parts) for split, parts in splits.items()}


def _read_folder(path: Path, suffixes: tuple[str, ...]) -> "Dataset":
    """A table of files: with what ``metadata.csv`` says of them, or with their folder's name as ``label``."""
    from datasets import Dataset

    coco = path / "_annotations.coco.json"
    if coco.exists():
        return read_coco(coco)
    metadata = path / "metadata.csv"
    if metadata.exists():
        table = read_table(metadata)
        key = next((name for name in ("file_name", "file", "path") if name in table.column_names), None)
        if key is None:
            raise ValueError(f"{metadata} has no column file_name; columns: {', '.join(table.column_names)}.")
        files = [str(path / name) for name in table[key]]
        return table.remove_columns(key).add_column("file", files)
    if all((path / name).is_dir() for name in PAIRED):
        return _read_pairs(path, suffixes)
    found = sorted(f for f in path.rglob("*") if f.suffix.lower() in suffixes and not f.name.startswith("."))
    if not found:
        raise ValueError(f"{path} holds no {', '.join(suffixes) or 'files'}; expected one folder a class.")
    columns = {"file": [str(f) for f in found]}
    places = [f.relative_to(path).parts for f in found]
    if all(len(place) > 1 for place in places):
        columns["label"] = [place[0] for place in places]
    if all(len(place) > 2 and place[1] in SPLITS for place in places):
        columns["split"] = [place[1] for place in places]
    return Dataset.from_dict(columns)


def _read_pairs(path: Path, suffixes: tuple[str, ...]) -> "Dataset":
    """A table of the files in ``images`` and those of the same name in ``masks``."""
    from datasets import Dataset

    images, masks = ({f.stem: str(f) for f in sorted((path / name).iterdir()) if f.is_file()} for name in PAIRED)
    images = {stem: file for stem, file in images.items() if file.lower().endswith(suffixes)}
    alone = sorted(images.keys() ^ masks.keys())
    if alone or not images:
        raise ValueError(f"{path}: {len(alone)} pictures or masks have no partner of the same name, as {alone[:1]}.")
    return Dataset.from_dict({"file": list(images.values()), "mask": [masks[stem] for stem in images]})


def _read_hub(name: str) -> "dict[str, Dataset]":
    from datasets import Audio, Image, load_dataset

    tables = {}
    for split, table in load_dataset(name).items():
        for column, feature in table.features.items():
            if isinstance(feature, Image | Audio):
                # The tokenizer decodes, so that one damaged file is one bad sample, not a broken table.
                table = table.cast_column(column, type(feature)(decode=False))
        tables[SPLITS.get(split, split)] = not_empty(named_classes(table), f"hf:{name} ({split})")
    return tables


def _by_column(table: "Dataset", source: str, split_column: str | None) -> "dict[str, Dataset]":
    """Split a table by its split column, where it has one."""
    not_empty(table, source)
    if split_column is None:
        if "split" not in table.column_names or not set(table.unique("split")) <= set(SPLITS):
            return {ALL: table}
        split_column = "split"
    if split_column not in table.column_names:
        raise ValueError(unknown("split column", split_column, table.column_names))
    values = table[split_column][:]
    strange = sorted({str(value) for value in values if value not in SPLITS})
    if strange:
        raise ValueError(f"Column {split_column} says {', '.join(strange[:3])}; it may say {', '.join(SPLITS)}.")
    rows: dict[str, list[int]] = {}
    for row, value in enumerate(values):
        rows.setdefault(SPLITS[value], []).append(row)
    # A column of another split must neither be an input nor split the parts again.
    spent = [
        name for name in {split_column, "split"} & set(table.column_names) if set(table.unique(name)) <= set(SPLITS)
    ]
    return {split: table.select(indices).remove_columns(spent) for split, indices in rows.items()}
