"""Calls of a client: samples as bodies of requests, responses as answers or errors; nothing is sent here."""

import datetime
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from metatx.errors import SampleError
from metatx.reading.signatures import SIGNATURES
from metatx.serving.arrays import KINDS, NPY, encoded
from metatx.serving.arrow import ARROW, stream_of, taken

__all__ = ["Call", "answered", "asking", "batches", "has_bytes", "pause", "searching"]

BUSY = 429, 503  # statuses after which a request is repeated
LONGEST = 60.0  # seconds that a server may ask to wait


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request.

    Attributes:
        method: HTTP method.
        path: Path behind the address of the server.
        body: Arguments of httpx's ``request`` for the body.
    """

    method: str = "POST"
    path: str
    body: Mapping[str, Any] = field(default_factory=dict)


def batches(samples: Any, size: int) -> Iterator[Any]:
    """Parts of ``size`` samples. Raises TypeError for what is no list of samples, ValueError if there are none."""
    if hasattr(samples, "columns") and hasattr(samples, "__arrow_c_stream__"):
        samples = _table(samples)
    _check_several("samples", samples, "[sample]")
    if not len(samples):
        raise ValueError("There are no samples.")
    for start in range(0, len(samples), size):
        yield samples[start : start + size]


def _check_several(what: str, values: Any, form: str) -> None:
    """Raise TypeError for a single value, and for what cannot be divided, such as an iterator."""
    try:
        several = not isinstance(values, str | bytes | Path | Mapping) and values[:0] is not None
    except (TypeError, IndexError):
        several = False
    if not several:
        raise TypeError(f"The {what} are of type {type(values).__name__}; expected a list, for one: {form}.")


def has_bytes(samples: Any) -> bool:
    """Return True if a sample, or an input of one, is the content of a file without a name."""
    if isinstance(samples, np.ndarray | pa.Table):
        return False
    parts = [part for item in samples for part in (item.values() if isinstance(item, Mapping) else [item])]
    return any(isinstance(part, bytes) for part in parts)


def asking(path: str, samples: Any, suffixes: Sequence[str] = ()) -> Call:
    """Request to answer samples: an array as npy, a table as an Arrow stream, files as a form, all else as JSON.

    Args:
        path: Path of the endpoint.
        samples: Samples; files are paths, bytes, or pairs of a name and bytes.
        suffixes: Suffixes of the files that the task takes, among which that of bytes is found.

    Raises:
        ValueError: If a sample cannot be sent.
    """
    if isinstance(samples, pa.Table):
        return Call(path=path, body={"content": stream_of(samples), "headers": {"content-type": ARROW}})
    array = _stacked(samples)
    if array is not None:
        return Call(path=path, body={"content": _npy(array), "headers": {"content-type": NPY}})
    samples = list(samples)
    if any(isinstance(item, Mapping) and any(map(_is_file, item.values())) for item in samples):
        return Call(path=path, body={"files": _placed(samples, suffixes)})
    if any(map(_is_file, samples)):
        return Call(path=path, body={"files": [_part(item, suffixes) for item in samples]})
    return Call(path=path, body=_json({"inputs": [_plain(item) for item in samples]}))


def searching(path: str, queries: Any, vectors: Any, options: Mapping[str, Any]) -> Call:
    """Request to search an index: queries that are files come as a form, all else as JSON.

    Raises:
        ValueError: If only some of the queries are files, or one is of bytes without a name.
    """
    fields = {name: _plain(value) for name, value in options.items() if value is not None}
    if vectors is not None:
        return Call(path=path, body=_json({**fields, "vectors": np.asarray(vectors, float).tolist()}))
    _check_several("queries", queries, "[query]")
    queries = list(queries)
    files = [_part(item, ()) for item in queries if _is_file(item)]
    if files and len(files) < len(queries):
        raise ValueError("Some queries are files and others are not; send them in two searches.")
    if files:
        return Call(path=path, body={"files": [*files, ("options", (None, _text(fields)))]})
    return Call(path=path, body=_json({**fields, "queries": [_plain(item) for item in queries]}))


def pause(status: int, headers: Mapping[str, str]) -> float | None:
    """Seconds after which a request may be repeated; None if it should not be."""
    if status not in BUSY:
        return None
    told = headers.get("retry-after", "1")
    seconds = float(told) if told.isdecimal() else 1.0
    return seconds if seconds <= LONGEST else None


def answered(status: int, content: bytes) -> Any:
    """Content of a response.

    Raises:
        SampleError: 422: an input cannot be used.
        ValueError: Another status below 500: the request is wrong; the message is the server's.
        PermissionError: 401: the token is wrong.
        TimeoutError: 504: the server did not answer in time.
        RuntimeError: All else.
    """
    try:
        answer = json.loads(content)
    except ValueError:
        answer = None
    if status == 200 and isinstance(answer, dict):
        return answer
    told = answer.get("detail") if isinstance(answer, dict) else None
    line = told if isinstance(told, str) else f"The server answered with status {status}, and no reason."
    kinds: dict[int, Callable[[str], Exception]] = {
        422: SampleError,
        401: PermissionError,
        429: RuntimeError,
        504: TimeoutError,
    }
    raise kinds.get(status, ValueError if 400 <= status < 500 else RuntimeError)(line)


def _table(samples: Any) -> Any:
    """Table of pandas, polars or Arrow as an Arrow table; its rows as dicts if a column is of another type."""
    import pandas as pd

    if not isinstance(samples, pd.DataFrame):
        table = pa.table(samples)
        plain = taken(table)
        return table.to_pylist() if plain is None else plain
    try:
        plain = taken(pa.Table.from_pandas(samples, preserve_index=False))
    except (ValueError, TypeError, NotImplementedError):  # Arrow's errors for columns of mixed or other objects
        plain = None
    return samples.to_dict("records") if plain is None else plain


def _stacked(samples: Any) -> np.ndarray | None:
    """Array (B, ...) of samples that are arrays of one shape and type; None if they are something else."""
    if isinstance(samples, np.ndarray):
        return samples if samples.dtype.kind in KINDS else None
    arrays = [item for item in samples if isinstance(item, np.ndarray) and item.dtype.kind in KINDS]
    if len(arrays) < len(samples) or len({(item.shape, item.dtype) for item in arrays}) != 1:
        return None
    return np.stack(arrays)


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _is_file(value: Any) -> bool:
    pair = isinstance(value, tuple) and len(value) == 2
    return isinstance(value, Path | bytes) or (pair and isinstance(value[0], str) and isinstance(value[1], bytes))


def _file(value: Any, suffixes: Sequence[str]) -> tuple[str, bytes]:
    """Name and content of a file. Raises ValueError for bytes whose kind is not among the suffixes."""
    if isinstance(value, Path):
        return value.name, value.read_bytes()
    if isinstance(value, tuple):
        return value
    for suffix in suffixes:
        if suffix in SIGNATURES and SIGNATURES[suffix](value[:512]):
            return f"file{suffix}", value
    taken = f", which is none that the task takes ({', '.join(suffixes)})" if suffixes else ""
    raise ValueError(f"The kind of a file of {len(value):,} bytes is not known{taken}; give (name, bytes).")


def _part(value: Any, suffixes: Sequence[str]) -> tuple[str, tuple[str | None, Any]]:
    """Part of a form: a file, or a sample as JSON."""
    return ("file", _file(value, suffixes)) if _is_file(value) else ("input", (None, _text(_plain(value))))


def _placed(samples: Sequence[Any], suffixes: Sequence[str]) -> list[tuple[str, tuple[str | None, Any]]]:
    """Parts of a form of samples with several inputs, some of them files."""
    parts: list[tuple[str, tuple[str | None, Any]]] = []
    values = []
    for at, sample in enumerate(samples):
        files = {name: value for name, value in sample.items() if _is_file(value)}
        parts += [(f"{at}.{name}", _file(value, suffixes)) for name, value in files.items()]
        values.append({name: _plain(value) for name, value in sample.items() if name not in files})
    return [*parts, ("inputs", (None, _text(values)))]


def _plain(value: Any) -> Any:
    """Value as JSON: arrays, tensors and pictures as npy in base64, NaN as null, times in ISO 8601."""
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, datetime.date):
        return value.isoformat() if value == value else None  # pandas has a time that is none
    array = np.asarray(value)
    if array.dtype.kind in KINDS and array.ndim:
        return encoded(array)
    if array.ndim == 0 and array.dtype.kind in KINDS:
        return _plain(array.item())
    raise ValueError(f"A value of type {type(value).__name__} cannot be sent; give numbers, words, arrays or files.")


def _json(content: Any) -> dict[str, Any]:
    return {"content": _text(content), "headers": {"content-type": "application/json"}}


def _text(content: Any) -> bytes:
    return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
