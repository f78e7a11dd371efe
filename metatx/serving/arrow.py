"""Batches of rows as Arrow streams: read without a copy, checked, and divided into samples."""

import io
import struct
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute, ipc, types

from metatx.errors import SampleError, decoded, decoding
from metatx.serving.limits import Limits, RefusedError

__all__ = ["ARROW", "rows_of", "stream_of", "table_of", "taken", "takes"]

ARROW = "application/vnd.apache.arrow.stream"
TROUBLE = "The bytes are no Arrow stream"
TAKEN = "numbers, booleans, words, times, lists of words, and nested lists of numbers"
# Fields of the tables of Arrow's metadata (Message.fbs).
HEADER = 2
COMPRESSION = 3


def takes(kind: pa.DataType) -> bool:
    """Return True for types of columns in which each value takes room: others unpack to more than was sent."""
    levels = 0
    while types.is_list(kind) or types.is_large_list(kind) or (types.is_fixed_size_list(kind) and kind.list_size > 0):
        kind = kind.value_type
        levels += 1
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind):
        return True
    if types.is_string(kind) or types.is_large_string(kind):
        return levels < 2
    timed = types.is_date(kind) or (types.is_timestamp(kind) and kind.tz in (None, "UTC"))
    return levels == 0 and (timed or types.is_null(kind))


def taken(table: pa.Table) -> pa.Table | None:
    """Table with plain values in the place of dictionaries (pandas' categories) and views of words (polars' strings).

    None if other types than these are not taken.
    """
    for at, field in enumerate(table.schema):
        kind = field.type.value_type if types.is_dictionary(field.type) else field.type
        kind = pa.large_string() if types.is_string_view(kind) else kind
        if not takes(kind):
            return None
        if kind != field.type:
            table = table.set_column(at, field.name, table.column(at).cast(kind))
    return table


def stream_of(table: pa.Table) -> bytes:
    """Write a table as an Arrow stream."""
    file = io.BytesIO()
    with ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue()


def table_of(content: bytes, limits: Limits) -> pa.Table:
    """Table of the bytes of an Arrow stream, which it shares; nothing larger is allocated.

    Raises:
        RefusedError: 400 if it is none or is cut off, 415 if it is compressed or has columns of other types, 413 if it
            has too many rows or values, 422 if it has no rows.
    """
    try:
        table = pa.Table.from_batches(*_batches(content, limits))
    except SampleError as error:
        raise RefusedError(400, str(error)) from error
    if not table.num_rows:
        raise RefusedError(422, "The Arrow stream has no rows; expected one or more.")
    most = _most(limits)
    if table.num_rows * table.num_columns > most:
        cells = table.num_rows * table.num_columns
        raise RefusedError(413, f"The Arrow stream has {cells:,} values; expected at most {most:,}: divide it.")
    return table


def rows_of(table: pa.Table, limits: Limits) -> list[dict[str, Any]]:
    """Rows as JSON would give them, but with arrays in the place of nested lists of numbers, and NaN where it stands.

    Raises:
        RefusedError: 422 if lists within a value have unequal lengths, 413 if a value has too many numbers.
    """
    names = table.column_names
    columns = [_cells(name, table[name], limits) for name in names]
    return [dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True)]


def _most(limits: Limits) -> int:
    """Number of values for which JSON has room."""
    return round(limits.json_mb * 1e6) // 2


def _batches(content: bytes, limits: Limits) -> tuple[list[pa.RecordBatch], pa.Schema]:
    """Read the batches of a stream. Raises RefusedError as ``table_of``, and SampleError if it cannot be read."""
    source = pa.BufferReader(content)
    with decoding(TROUBLE):
        messages = ipc.MessageReader.open_stream(source)
        first = messages.read_next_message()
        if first.type != "schema":  # Arrow would take anything else for one, and crash
            raise SampleError(f"The Arrow stream begins with a message of type {first.type}; expected a schema.")
        schema = ipc.read_schema(first)
    _check(schema)
    batches: list[pa.RecordBatch] = []
    rows = 0
    for message in decoded(messages, TROUBLE):
        if message.type != "record batch":
            raise SampleError(f"The Arrow stream holds a message of type {message.type}; expected batches of rows.")
        with decoding(TROUBLE):
            compressed = _is_compressed(message.metadata.to_pybytes())
        if compressed:
            raise RefusedError(415, "The Arrow stream is compressed; send it uncompressed.")
        with decoding(TROUBLE):
            batch = ipc.read_record_batch(message, schema)
            batch.validate(full=True)
        rows += batch.num_rows
        if rows > limits.samples:
            raise RefusedError(413, f"{rows:,} rows or more; expected at most {limits.samples:,}.")
        batches.append(batch)
    if source.tell() != len(content):
        raise SampleError(f"{len(content) - source.tell():,} bytes follow the end of the Arrow stream.")
    return batches, schema


def _check(schema: pa.Schema) -> None:
    """Raise RefusedError if two columns have one name (400), or one has a type that is not taken (415)."""
    with decoding(TROUBLE):  # names may be no UTF-8
        columns = [(field.name, field.type, str(field.type)) for field in schema]
    seen = set()
    for name, kind, shown in columns:
        if name in seen:
            raise RefusedError(400, f"The Arrow stream has two columns {name[:100]!r}; expected one.")
        seen.add(name)
        if not takes(kind):
            raise RefusedError(
                415,
                f"Column {name[:100]} is {shown[:100]}; an Arrow stream may hold {TAKEN}: send JSON, "
                "or files in a form.",
            )


def _is_compressed(metadata: bytes) -> bool:
    """Return True if the metadata of a batch, a FlatBuffers message that Arrow has verified, name a compression."""
    (message,) = struct.unpack_from("<I", metadata)
    header = _field(metadata, message, HEADER)
    (batch,) = struct.unpack_from("<I", metadata, header)
    return _field(metadata, header + batch, COMPRESSION) != 0


def _field(metadata: bytes, table: int, number: int) -> int:
    """Place of a field of a FlatBuffers table; 0 if it is absent."""
    (back,) = struct.unpack_from("<i", metadata, table)
    (size,) = struct.unpack_from("<H", metadata, table - back)
    at = 4 + 2 * number
    offset = struct.unpack_from("<H", metadata, table - back + at)[0] if at < size else 0
    return table + offset if offset else 0


def _cells(name: str, column: pa.ChunkedArray, limits: Limits) -> list[Any]:
    kind = column.type
    if types.is_temporal(kind):
        with decoding(f"column {name[:100]}: a time is out of range"):
            return [None if cell is None else cell.isoformat() for cell in column.to_pylist()]
    if types.is_nested(kind) and not (types.is_string(kind.value_type) or types.is_large_string(kind.value_type)):
        arrays: list[np.ndarray | None] = []
        for chunk in column.chunks:
            arrays += _arrays(name, chunk, len(arrays))
        most = _most(limits)
        largest = max((array.size for array in arrays if array is not None), default=0)
        if largest > most:
            raise RefusedError(413, f"A value has {largest:,} numbers; expected at most {most:,}; send a file.")
        return arrays
    if types.is_primitive(kind) and not column.null_count:
        return list(column.to_numpy().tolist())  # in a tenth of the time
    return list(column.to_pylist())


def _arrays(name: str, cells: pa.Array, start: int) -> list[np.ndarray | None]:
    """Array of each cell, the first of which is in row ``start``. Raises RefusedError (422) if one is no rectangle."""
    if not cells.null_count:
        with suppress(SampleError):
            return list(_array(cells))  # all are of one shape
    arrays = []
    for at, cell in enumerate(cells, start):
        try:
            arrays.append(_array(cell.values) if cell.is_valid else None)
        except SampleError as error:
            raise RefusedError(422, f"inputs[{at}]: column {name[:100]}: {error}") from error
    return arrays


def _array(values: pa.Array) -> np.ndarray:
    """Array of nested lists of numbers, whose first axis counts them. Raises SampleError if their lengths differ."""
    if not types.is_nested(values.type):
        return np.asarray(values.to_numpy(zero_copy_only=False))
    if values.null_count:
        raise SampleError("found a missing list among lists; expected numbers in nested lists")
    if types.is_fixed_size_list(values.type):
        length = values.type.list_size
    else:
        lengths = compute.min_max(compute.list_value_length(values)).as_py()
        if lengths["min"] != lengths["max"]:
            raise SampleError("found lists of unequal length; expected numbers in nested lists")
        length = lengths["min"] or 0
    inner = _array(values.flatten())
    with decoding("found lists of too many levels"):
        return inner.reshape(len(values), length, *inner.shape[1:])
