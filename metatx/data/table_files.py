"""Tables, from files and from what other libraries hold, as ``datasets.Dataset``."""

import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from metatx.errors import short
from metatx.progress import tell
from metatx.reading.coco import coco_content, read_coco
from metatx.reading.csv_tables import Reading, encoding_of, opened_text, read_csv

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset

__all__ = [
    *("TABLES", "as_dataset", "is_table", "mark_files", "named_classes", "not_empty", "read_table"),
    *("of_files", "table_stem", "text_columns"),
]

STRINGS = ("string", "large_string")

TEXTS = (".csv", ".tsv", ".jsonl", ".json")  # also gzipped
TABLES = (*TEXTS, *(f"{suffix}.gz" for suffix in TEXTS), ".parquet", ".feather")
FILES = "metatx: a row a file"  # the description of tables that were made of the files in a folder
UNNAMED = re.compile(r"(Unnamed: \d+)?")  # what pandas calls a column without a name


def mark_files(table: "Dataset") -> None:
    """Note that a table was made of the files in a folder, so that its names of files are such, and no words."""
    table.info.description = FILES


def of_files(table: "Dataset") -> bool:
    """Whether a table, or the one that it is a part of, was made of the files in a folder."""
    return FILES in (table.info.description or "")


def as_dataset(data: Any) -> "Dataset":
    """What libraries hold as a table, as Dataset: classes by name, cells plain.

    Args:
        data: A DataFrame, Dataset, list of dicts, dict of lists, or what gives itself to Arrow (polars, pyarrow).

    Raises:
        TypeError: If it is none of them.
    """
    import pandas as pd
    from datasets import Dataset

    if isinstance(data, Dataset):
        return _without_index(named_classes(data.with_format(None)))
    if isinstance(data, pd.DataFrame):
        return _from_frame(data)
    if isinstance(data, list) and data and all(isinstance(row, Mapping) for row in data):
        return _from_frame(pd.DataFrame(data))
    if isinstance(data, Mapping) and are_columns(data):
        lengths = {str(name): len(column) for name, column in data.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"The columns of the table have different lengths: {lengths}.")
        return _from_frame(pd.DataFrame({name: list(column) for name, column in data.items()}))
    if hasattr(data, "__arrow_c_stream__") and hasattr(data, "columns"):  # a column alone is no table
        import pyarrow as pa

        return _from_frame(pa.table(data).to_pandas(integer_object_nulls=True))
    raise TypeError(
        "Data is a path, a DataFrame (pandas, polars), an Arrow table, a Dataset, a list of dicts, a dict of lists or "
        f"a pair (samples, targets), not {type(data).__name__}."
    )


def are_columns(data: Mapping[Any, Any]) -> bool:
    """Whether a dict is a table, its values lists or arrays of cells, not of rows."""
    import pandas as pd

    columns = [value for value in data.values() if isinstance(value, list | np.ndarray | pd.Series | Tensor)]
    return 0 < len(columns) == len(data) and not any(len(c) and isinstance(list(c)[0], Mapping) for c in columns)


def is_table(path: Path) -> bool:
    """Whether a file is called as tables are."""
    return path.name.lower().endswith(TABLES)


def table_stem(path: Path) -> str:
    """The name of a table's file without what says its form."""
    ending = next(ending for ending in sorted(TABLES, key=len, reverse=True) if path.name.lower().endswith(ending))
    return path.name[: -len(ending)]


def text_columns(table: "Dataset") -> list[str]:
    """Columns of a table whose cells are words."""
    from datasets import Value

    features = table.features.items()
    return [name for name, feature in features if isinstance(feature, Value) and feature.dtype in STRINGS]


def read_table(path: Path, reading: Reading | None = None) -> "Dataset":
    """The table in a file.

    Args:
        path: Ends as one of ``TABLES``, in any case.
        reading: What is known of it, see ``Reading``; the rest shows.

    Raises:
        ValueError: If it is none of ``TABLES``, damaged, or empty.
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
    """The error of half of a pair of UTF-16, as json may hold."""
    return ValueError(f"{path} holds a word that is no text, {short(error.object)}; write it in UTF-8.")


def _read_json(path: Path, lines: bool, reading: Reading) -> "pd.DataFrame":
    """Rows of json as they are typed there: no text is taken for a number or a date."""
    import pandas as pd

    with opened_text(path, reading.encoding or encoding_of(path)) as file:
        text = "" if lines else file.read()
        rows_of = file if lines else text.splitlines()
        if not lines and re.match(r"\s*\{.*\}\s*\n\s*\{", text):  # a row a line, as many call .json too
            lines = True
        held = (
            [_parsed(line, number) for number, line in enumerate(rows_of, 1) if line.strip()]
            if lines
            else json.loads(text)
        )
    rows = isinstance(held, list) and all(isinstance(row, dict) for row in held)
    columns = isinstance(held, dict) and all(isinstance(column, list | dict) for column in held.values())
    if not rows and not columns:
        raise ValueError("expected rows, objects of column to value, or one object of column to list of values")
    return pd.DataFrame(held)


def _parsed(line: str, number: int) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {number}: {error.msg} at sign {error.pos + 1}") from None


def named_classes(table: "Dataset") -> "Dataset":
    """A table whose class labels are words, not numbers of them."""
    from datasets import ClassLabel

    for column, feature in table.features.items():
        if isinstance(feature, ClassLabel):
            words = [None if code is None or code < 0 else feature.int2str(code) for code in table[column]]
            order = table.column_names
            table = table.remove_columns(column).add_column(column, words).select_columns(order)
    return table


def _from_frame(frame: "pd.DataFrame") -> "Dataset":
    import pandas as pd
    import pyarrow as pa
    from datasets import Dataset

    frame = frame.copy()
    for name in frame.columns:
        column = frame[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            frame[name] = column = column.astype(object)
        if isinstance(column.dtype, pd.SparseDtype):
            frame[name] = column = column.astype(column.dtype.subtype)
        if isinstance(column.dtype, np.dtype) and not column.dtype.isnative:  # Arrow knows one order of bytes
            frame[name] = column = column.astype(column.dtype.newbyteorder("="))
        if column.dtype != object:
            continue
        column = column.map(_storable)
        try:
            pa.array(column, from_pandas=True)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            # Numbers and words in one column: words carry both, and the tokenizer says which cell is wrong.
            column = column.map(lambda value: value if value is None or value != value else str(value))
        frame[name] = column
    frame.columns = [str(name) for name in frame.columns]
    return _without_index(Dataset.from_pandas(frame, preserve_index=False))


def _storable(cell: Any) -> Any:
    """A cell as Arrow takes it: arrays as lists, an image of PIL's as the bytes of a file."""
    from datasets import Image as Encoder
    from PIL.Image import Image

    if isinstance(cell, Image):
        return Encoder().encode_example(cell)
    return cell.tolist() if hasattr(cell, "tolist") else cell


def _without_index(table: "Dataset") -> "Dataset":
    """A table without the column of row numbers that pandas and R write in front, which has no name."""
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
    """The table itself. Raises ValueError, naming its source, if it has no rows."""
    if not len(table):
        raise ValueError(f"{source} holds no samples.")
    return table
