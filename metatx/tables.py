"""Tables, from files and from what other libraries hold, as ``datasets.Dataset``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metatx.reading.boxes import is_coco, read_coco

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset

__all__ = ["TABLES", "as_dataset", "holds_coco", "not_empty", "read_table"]

TABLES = (".csv", ".parquet", ".jsonl", ".json")


def as_dataset(data: Any) -> "Dataset":
    """A DataFrame, Dataset, or list of dicts as Dataset."""
    import pandas as pd
    from datasets import Dataset

    if isinstance(data, Dataset):
        return data
    if isinstance(data, list) and data and isinstance(data[0], dict):
        data = pd.DataFrame(data)
    if not isinstance(data, pd.DataFrame):
        raise TypeError(f"Data is a path, DataFrame, Dataset or list of dicts, not {type(data).__name__}.")
    return _from_frame(data)


def read_table(path: Path) -> "Dataset":
    """The table in a file. Raises ValueError if it is none of ``TABLES``, damaged, or empty."""
    import pandas as pd

    readers: dict[str, Any] = {".csv": pd.read_csv, ".parquet": pd.read_parquet}
    suffix = path.suffix.lower()
    if suffix not in TABLES:
        raise ValueError(f"{path} is no table; tables end in {', '.join(TABLES)}.")
    if suffix == ".json" and holds_coco(path):
        return read_coco(path)
    try:
        if suffix in readers:
            frame = readers[suffix](path)
        else:
            frame = pd.read_json(path, lines=suffix == ".jsonl")
    except pd.errors.EmptyDataError:
        raise ValueError(f"{path} holds no samples.") from None
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read as {suffix[1:]}: {str(error).splitlines()[0]}") from None
    return _from_frame(frame)


def holds_coco(path: Path) -> bool:
    """Whether a json file is a data set in COCO's form: an object, not a list of rows."""
    with path.open("rb") as file:
        if file.read(100).lstrip()[:1] != b"{":
            return False
    try:
        return is_coco(json.loads(path.read_text()))
    except (UnicodeDecodeError, json.JSONDecodeError):
        return False


def _from_frame(frame: "pd.DataFrame") -> "Dataset":
    import pandas as pd
    import pyarrow as pa
    from datasets import Dataset

    frame = frame.copy()
    for name in frame.columns:
        column = frame[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            frame[name] = column = column.astype(object)
        if column.dtype != object:
            continue
        if any(hasattr(value, "tolist") for value in column.head(1)):
            column = column.map(lambda value: value.tolist() if hasattr(value, "tolist") else value)
        try:
            pa.array(column, from_pandas=True)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            # Numbers and words in one column: words carry both, and the tokenizer says which cell is wrong.
            column = column.map(lambda value: value if value is None or value != value else str(value))
        frame[name] = column
    frame.columns = [str(name) for name in frame.columns]
    return Dataset.from_pandas(frame, preserve_index=False)


def not_empty(table: "Dataset", source: str) -> "Dataset":
    """The table itself. Raises ValueError, naming its source, if it has no rows."""
    if not len(table):
        raise ValueError(f"{source} holds no samples.")
    return table
