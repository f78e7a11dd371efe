"""What users have on disk, as tables: files, folders of splits, folders of classes, the hub."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metatx.data.file_columns import TARGETS, table_of_files
from metatx.data.folders import read_folder
from metatx.data.splits import by_column
from metatx.data.table_files import are_columns, as_dataset, named_classes, not_empty
from metatx.examples import Examples, Reader
from metatx.progress import tell
from metatx.reading.csv_tables import Reading
from metatx.reading.folders import check_name
from metatx.reading.split_names import ALL, splits_of
from metatx.registry import unknown

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["ALL", "as_table", "candidates", "find_target", "read_splits"]

LOOKED_AT = 1000  # rows, for a cell that is not missing
DENSE_TARGETS = ("mask", "objects")  # where there is none of those


def read_splits(
    data: Any,
    suffixes: tuple[str, ...],
    split_column: str | None = None,
    containers: Mapping[str, Reader] | None = None,
    reading: Reading | None = None,
) -> "dict[str, Dataset | Examples]":
    """Read ``data`` into tables by split: ``train``, ``validation``, ``test``, or ``all`` where it is not split.

    Args:
        data: A table as ``as_dataset`` takes it, or a dict of split to such; a file, see ``TABLES`` of
            ``metatx.data.table_files``, files in it named from where it lies; a folder whose files or folders are named
            by split (as shards of the hub are), of one folder a class (each perhaps of one a split), of ``images`` and
            ``masks``, or with a ``metadata.csv`` (.jsonl, .parquet) or a COCO file; or ``hf:NAME`` of the Hugging Face
            hub. Names of splits in any capitals and usual spelling; what is hidden, or left by a system, is no data.
        suffixes: Types of the files that are a sample each.
        split_column: Column that says the split of each row; found by itself where it is called ``split``, ``set``,
            ``fold`` or the like, and holds nothing but names of splits.
        containers: Readers of the modality's own formats, by suffix, or by the name of a file that marks a folder.
        reading: What is known of tables before they are read.

    Raises:
        FileNotFoundError: If there is nothing of that name.
        ValueError: If it cannot be read, holds no samples, or only part of it would be read.
    """
    if isinstance(data, str) and data.startswith("hf:"):
        return _read_hub(data[3:])
    if isinstance(data, Mapping) and not are_columns(data) and len(known := splits_of(data)) == len(data):
        return {known[split]: not_empty(as_dataset(table), f"the {split} split") for split, table in data.items()}
    if not isinstance(data, str | Path):
        return by_column(as_dataset(data), "the table", split_column)
    path = Path(data)
    check_name(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist.")
    readers = containers or {}
    if path.is_dir():
        return read_folder(path, suffixes, split_column, readers, reading)
    reader = readers.get(path.name) or readers.get(path.suffix.lower())
    if reader:
        return dict(reader(path))
    return by_column(table_of_files(path, suffixes, reading)[0], str(path), split_column)


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
        source = data if isinstance(data, str | Path) else "The data"
        raise ValueError(f"{source} has no {split} split; it has {', '.join(tables)}.")
    return tables[split]


def candidates(table: "Dataset", accepts: Any, without: set[str | None]) -> list[str]:
    """Columns whose first value that is there an input could be, by ``accepts(value)``."""
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


def _read_hub(name: str) -> "dict[str, Dataset]":
    """A data set of the hub by split. Raises ValueError if two of its splits are of one kind."""
    from datasets import load_dataset

    loaded = dict(load_dataset(name))
    known = splits_of(loaded)
    if len(loaded) == 1 and not known:
        known = dict.fromkeys(loaded, ALL)
    for split in known.values():
        same = [theirs for theirs, ours in known.items() if ours == split]
        if len(same) > 1:
            raise ValueError(f"hf:{name} has {' and '.join(same)}, both the {split} split; load the one you mean.")
    left = sorted(loaded.keys() - known.keys())
    if left:
        tell(f"hf:{name}: {', '.join(left)} are of no split that is known, and left out.")
    return {ours: _undecoded(loaded[theirs], f"hf:{name} ({theirs})") for theirs, ours in known.items()}


def _undecoded(table: "Dataset", source: str) -> "Dataset":
    """A table of the hub with its files as bytes and paths, and words for its codes of classes."""
    from datasets import Audio, Image

    for column, feature in table.features.items():
        if isinstance(feature, Image | Audio):
            # The tokenizer decodes, so that one damaged file is one bad sample, not a broken table.
            table = table.cast_column(column, type(feature)(decode=False))
    return not_empty(named_classes(table), source)
