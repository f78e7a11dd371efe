"""Users' data as tables by split: files, folders of splits or classes, data sets of the hub."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metatx.data.file_columns import TARGETS, table_of_files
from metatx.data.folders import read_folder
from metatx.data.splits import by_column
from metatx.data.table_files import are_columns, as_dataset, not_empty
from metatx.examples import Examples, Reader
from metatx.progress import tell
from metatx.reading.csv_tables import Reading
from metatx.reading.folders import check_name
from metatx.reading.split_names import ALL, splits_of
from metatx.registry import unknown

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["ALL", "DENSE_TARGETS", "TARGETS", "as_table", "candidates", "find_target", "read_splits"]

LOOKED_AT = 1000  # rows in which a value that is not missing is searched
DENSE_TARGETS = ("mask", "objects")  # targets if there is no column with a name of TARGETS


def read_splits(
    data: Any,
    suffixes: tuple[str, ...],
    split_column: str | None = None,
    containers: Mapping[str, Reader] | None = None,
    reading: Reading | None = None,
) -> "dict[str, Dataset | Examples]":
    """Read ``data`` into tables by split: ``train``, ``validation``, ``test``, or ``all`` if it is not split.

    Args:
        data: One of

            - a table, see ``as_dataset``, or a dict of split to table;
            - a file with a suffix of ``metatx.data.table_files.TABLES``, which names files relative to its own folder;
            - a folder: files or folders named by split (shards of the hub too), one folder a class (which may hold one
              folder a split), ``images`` and ``masks``, or a ``metadata.csv`` (.jsonl, .parquet) or a COCO file;
            - ``hf:NAME``, a data set of the Hugging Face hub.

            Names of splits may have any capitals and usual spelling; hidden files and files of operating systems are
            ignored.
        suffixes: Suffixes of files that are a sample each.
        split_column: Column that names the split of each row; by default one called ``split``, ``set``, ``fold`` or
            the like that holds nothing but names of splits.
        containers: Readers of the modality's own formats, by suffix, or by the name of a file that marks a folder.
        reading: Options of reading tables; what they leave open is inferred.

    Raises:
        FileNotFoundError: If the file or folder does not exist.
        ValueError: If the data cannot be read, hold no samples, or would be read only in part.
    """
    if isinstance(data, str) and data.startswith("hf:"):
        return _read_hub(data[3:])
    if isinstance(data, Mapping) and not are_columns(data) and len(splits := splits_of(data)) == len(data):
        return {splits[name]: not_empty(as_dataset(table), f"the {name} split") for name, table in data.items()}
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
    """Read the only table of ``data``, or its ``split``. Raises ValueError if it is split and lacks that split."""
    tables = read_splits(data, suffixes, containers=containers, reading=reading)
    if ALL in tables:
        return tables[ALL]
    if split not in tables:
        source = data if isinstance(data, str | Path) else "The data"
        raise ValueError(f"{source} has no {split} split; it has {', '.join(tables)}.")
    return tables[split]


def candidates(table: "Dataset", accepts: Any, without: set[str | None]) -> list[str]:
    """Columns that can be inputs: ``accepts(value)`` is true for their first value that is not missing."""
    first = table[0]
    for name in [name for name, value in first.items() if value is None]:
        first[name] = next((value for value in table.select_columns(name)[:LOOKED_AT][name] if value is not None), None)
    return [name for name in table.column_names if name not in without and accepts(first[name])]


def find_target(table: "Dataset", target: str | None) -> str | None:
    """Return the target's column: ``target``, or else the only column with a usual name; None if there is none.

    Raises:
        ValueError: If ``target`` is no column, or several columns have a usual name.
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
    """Load a data set of the hub by split. Raises ValueError if the names of two of its splits mean the same."""
    from datasets import load_dataset

    loaded = dict(load_dataset(name))
    splits = splits_of(loaded)
    if len(loaded) == 1 and not splits:
        splits = dict.fromkeys(loaded, ALL)
    for split in splits.values():
        same = [theirs for theirs, ours in splits.items() if ours == split]
        if len(same) > 1:
            raise ValueError(f"hf:{name} has {' and '.join(same)}, both the {split} split; load the one you mean.")
    left = sorted(loaded.keys() - splits.keys())
    if left:
        tell(f"hf:{name}: {', '.join(left)} are of no known split, and left out.")
    return {ours: not_empty(as_dataset(loaded[theirs]), f"hf:{name} ({theirs})") for theirs, ours in splits.items()}
