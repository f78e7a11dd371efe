"""Tables as ``datasets.Dataset``, from files and from the tables of other libraries."""

import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from metatx.errors import short
from metatx.examples import of_arrow
from metatx.progress import tell
from metatx.reading.coco import coco_content, read_coco
from metatx.reading.csv_tables import Reading, encoding_of, opened_text, read_csv

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset

__all__ = [
    *("TABLES", "as_dataset", "is_table", "mark_files", "named_classes", "not_empty", "read_table"),
    *("of_files", "table_stem", "text_columns", "undecoded"),
]

STRINGS = ("string", "large_string")

TEXTS = (".csv", ".tsv", ".jsonl", ".json")  # accepted gzipped too
TABLES = (*TEXTS, *(f"{suffix}.gz" for suffix in TEXTS), ".parquet", ".feather")
FILES = "metatx: a row a file"  # description of a table that was made from the files in a folder
UNNAMED = re.compile(r"(Unnamed: \d+)?")  # pandas' name of a column without a name


def mark_files(table: "Dataset") -> None:
    """Mark a table as made from the files in a folder, so that its cells are known to be paths, not words."""
    table.info.description = FILES


def of_files(table: "Dataset") -> bool:
    """Return whether a table, or the one it was selected from, was made from the files in a folder."""
    return FILES in (table.info.description or "")


def as_dataset(data: Any) -> "Dataset":
    """Convert a table of any library to a Dataset with names for codes of classes.

    Args:
        data: DataFrame, Dataset, list of dicts, dict of lists, or any table that exports to Arrow (polars, pyarrow).

    Raises:
        TypeError: If ``data`` is none of these.
        ValueError: If columns have different lengths.
    """
    import pandas as pd
    from datasets import Dataset

    if isinstance(data, Dataset):
        return _without_index(named_classes(undecoded(data.with_format(None))))
    if isinstance(data, pd.DataFrame):
        return _from_frame(data)
    if isinstance(data, list) and data and all(isinstance(row, Mapping) for row in data):
        return _from_frame(pd.DataFrame(data))
    if isinstance(data, Mapping) and are_columns(data):
        lengths = {str(name): len(column) for name, column in data.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"The columns of the table have different lengths: {lengths}.")
        return _from_frame(pd.DataFrame({name: list(column) for name, column in data.items()}))
    if hasattr(data, "__arrow_c_stream__") and hasattr(data, "columns"):  # a single column has no columns
        import pyarrow as pa

        return _from_frame(pa.table(data).to_pandas(integer_object_nulls=True))
    raise TypeError(
        "Data is a path, a DataFrame (pandas, polars), an Arrow table, a Dataset, a list of dicts, a dict of lists or "
        f"a pair (samples, targets), not {type(data).__name__}."
    )


def are_columns(data: Mapping[Any, Any]) -> bool:
    """Return whether a dict is a table by columns: its values are lists or arrays of cells, not lists of rows."""
    import pandas as pd

    columns = [value for value in data.values() if isinstance(value, list | np.ndarray | pd.Series | Tensor)]
    return 0 < len(columns) == len(data) and not any(len(c) and isinstance(list(c)[0], Mapping) for c in columns)


def is_table(path: Path) -> bool:
    """Return whether a file has the suffix of a table."""
    return path.name.lower().endswith(TABLES)


def table_stem(path: Path) -> str:
    """Name of a table's file without its suffix, such as ``.csv.gz``."""
    suffix = next(suffix for suffix in sorted(TABLES, key=len, reverse=True) if path.name.lower().endswith(suffix))
    return path.name[: -len(suffix)]


def text_columns(table: "Dataset") -> list[str]:
    """Names of the columns of text."""
    from datasets import Value

    features = table.features.items()
    return [name for name, feature in features if isinstance(feature, Value) and feature.dtype in STRINGS]


def read_table(path: Path, reading: Reading | None = None) -> "Dataset":
    """Read the table in a file.

    Args:
        path: File with a suffix of ``TABLES``, in any case.
        reading: Options of reading; what they leave open is inferred.

    Raises:
        ValueError: If the file has another suffix, is damaged or empty.
    """
    import pandas as pd

    reading = reading or Reading()
    if not is_table(path):
        raise ValueError(f"{path} is no table; tables end in {', '.join(TABLES)}.")
    suffix = path.name.lower()[len(table_stem(path)) :]
    kind = suffix.removesuffix(".gz")
    coco = coco_content(path) if suffix == ".json" else None
    if coco is not None:
        return read_coco(path, coco)
    try:
        if kind in (".csv", ".tsv"):
            frame = read_csv(path, reading)
        elif kind in (".json", ".jsonl"):
            frame = _read_json(path, kind == ".jsonl", reading)
        else:
            frame = pd.read_parquet(path) if kind == ".parquet" else pd.read_feather(path)
    except pd.errors.EmptyDataError:
        raise ValueError(f"{path} holds no samples.") from None
    except UnicodeEncodeError as error:
        raise _no_text(path, error) from None
    except (ValueError, OSError, EOFError, RecursionError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as {suffix[1:]}: {str(error).splitlines()[0]}") from None
    try:
        return _from_frame(frame)
    except UnicodeEncodeError as error:
        raise _no_text(path, error) from None


def _no_text(path: Path, error: UnicodeEncodeError) -> ValueError:
    """Error for a text that has no form in UTF-8: half of a surrogate pair, which json can write."""
    return ValueError(f"{path} holds a word that is no text, {short(error.object)}; write it in UTF-8.")


def _read_json(path: Path, lines: bool, reading: Reading) -> "pd.DataFrame":
    """Read json with its own types: no text becomes a number or a date."""
    import pandas as pd

    with opened_text(path, reading.encoding or encoding_of(path)) as file:
        text = "" if lines else file.read()
        rows_of = file if lines else text.splitlines()
        if not lines and re.match(r"\s*\{.*\}\s*\n\s*\{", text):  # json lines are often called .json too
            lines = True
        content = (
            [_parsed(line, number) for number, line in enumerate(rows_of, 1) if line.strip()]
            if lines
            else json.loads(text)
        )
    rows = isinstance(content, list) and all(isinstance(row, dict) for row in content)
    columns = isinstance(content, dict) and all(isinstance(column, list | dict) for column in content.values())
    if not rows and not columns:
        raise ValueError("expected rows, objects of column to value, or one object of column to list of values")
    return pd.DataFrame(content)


def _parsed(line: str, number: int) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {number}: {error.msg} at character {error.pos + 1}") from None


def named_classes(table: "Dataset") -> "Dataset":
    """Replace codes of classes by the names of the classes."""
    from datasets import ClassLabel

    for column, feature in table.features.items():
        if isinstance(feature, ClassLabel):
            words = [None if code is None or code < 0 else feature.int2str(code) for code in table[column]]
            order = table.column_names
            table = table.remove_columns(column).add_column(column, words).select_columns(order)
    return table


def undecoded(table: Any) -> Any:
    """Keep pictures, sounds and films of a Dataset or an IterableDataset as bytes and paths.

    The tokenizer decodes them, so that one damaged file is one bad sample, not a broken table.
    """
    from datasets import Audio, Image, Video

    for column, feature in table.features.items():
        if isinstance(feature, Image | Audio | Video):
            table = table.cast_column(column, type(feature)(decode=False))
    return table


def _from_frame(frame: "pd.DataFrame") -> "Dataset":
    import pandas as pd
    import pyarrow as pa

    names = [str(name) for name in frame.columns]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"Column {twice} is there twice; give each column a name of its own.")
    frame = frame.copy(deep=False)  # columns are replaced, never changed
    for name in frame.columns:
        column = frame[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            frame[name] = column = column.astype(object)
        if isinstance(column.dtype, pd.SparseDtype):
            frame[name] = column = column.astype(column.dtype.subtype)
        if isinstance(column.dtype, np.dtype) and not column.dtype.isnative:  # Arrow accepts native byte order only
            frame[name] = column = column.astype(column.dtype.newbyteorder("="))
        if column.dtype != object:
            continue
        column = column.map(_storable)
        try:
            pa.array(column, from_pandas=True)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            # Numbers and words in one column: as texts both survive, and the tokenizer names the wrong cell.
            column = column.map(lambda value: value if value is None or value != value else str(value))
        frame[name] = column
    frame.columns = names
    return _without_index(of_arrow(pa.Table.from_pandas(frame, preserve_index=False)))


def _storable(cell: Any) -> Any:
    """Convert a cell for Arrow: arrays to lists, a PIL image to the bytes of a file."""
    from datasets import Image as Encoder
    from PIL.Image import Image

    if isinstance(cell, Image):
        return Encoder().encode_example(cell)
    return cell.tolist() if hasattr(cell, "tolist") else cell


def _without_index(table: "Dataset") -> "Dataset":
    """Remove a first column without a name that numbers the rows, which pandas and R write; report it."""
    from datasets import Value

    name = table.column_names[0] if len(table.column_names) > 1 else "named"
    feature = table.features.get(name)
    if not UNNAMED.fullmatch(name) or not isinstance(feature, Value) or not feature.dtype.startswith("int"):
        return table
    if len(table.unique(name)) < len(table):
        return table
    tell("The first column, which has no name, numbers the rows; it is left out.")
    return table.remove_columns(name)


def not_empty(table: "Dataset", source: str) -> "Dataset":
    """Return the table. Raises ValueError if it has no rows."""
    if not len(table):
        raise ValueError(f"{source} holds no samples.")
    return table
