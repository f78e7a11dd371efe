"""Streaming of rows to csv, jsonl and parquet: memory does not grow with the number of rows."""

import csv
import io
import json
import pickle
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

from metatx.files import written_whole
from metatx.progress import tell

__all__ = ["ERROR", "ROWS", "join_parquet", "write_rows"]

ROWS = (".csv", ".jsonl", ".parquet")
ERROR = "error"  # column with the reason why a sample has no prediction; the last column
FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")  # the last four are full-width forms of the first four
BLOCK = 4096  # rows that are written to parquet together

Row = dict[str, Any]


def write_rows(rows: Iterable[Row], out: str | None, file: Any, *, errors: bool = False) -> None:
    """Write rows to the file ``out``, in the form of its suffix, or as csv to an open ``file``.

    A column that a row lacks is left empty. ``file`` gets each row at once, with the columns of the first row without
    an ``error``; ``out`` appears when all rows are written, or not at all. In csv, a text that a spreadsheet would run
    as a formula gets a ``'`` in front, which is reported.

    Args:
        rows: Rows, column to value.
        out: Path of a file with a suffix of ``ROWS``; None to write to ``file``.
        file: Text file, open for writing.
        errors: True if rows with an ``error`` may follow the first.

    Raises:
        ValueError: If a column of parquet would hold different types of values.
        OSError: If ``out`` cannot be written.
    """
    if out is None:
        _stream(rows, file, errors)
        return
    path = Path(out)
    with written_whole(path) as temporary, tempfile.TemporaryFile(dir=path.parent) as buffer:
        names = _buffer_rows(rows, buffer)
        if path.suffix == ".parquet":
            _write_parquet(names, buffer, temporary)
            return
        with temporary.open("w", encoding="utf-8", newline="") as text:
            if path.suffix == ".jsonl":
                whole = ({name: row.get(name) for name in names} for row in _buffered(buffer))
                text.writelines(f"{_json(row)}\n" for row in whole)
            else:
                _write_csv(names, _buffered(buffer), text)


def _buffer_rows(rows: Iterable[Row], buffer: IO[bytes]) -> list[str]:
    """Write rows to a temporary file that only this process reads; return the names of all columns, ``error`` last."""
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(map(str, row)))
        pickle.dump({str(name): value for name, value in row.items()}, buffer)
    return sorted(names, key=lambda name: name == ERROR)


def _buffered(buffer: IO[bytes]) -> Iterator[Row]:
    """Rows of the temporary file, from the first."""
    buffer.seek(0)
    while True:
        try:
            yield pickle.load(buffer)
        except EOFError:
            return


def _stream(rows: Iterable[Row], file: Any, errors: bool) -> None:
    """Write rows as csv as they come; those before the first without an error wait for its columns."""
    waiting: list[Row] = []
    rows = iter(rows)
    for row in rows:
        waiting.append(row)
        if ERROR not in row:
            break
    if waiting:
        names = [name for name in waiting[-1] if name != ERROR] + [ERROR] * errors
        _write_csv(names, (row for part in (waiting, rows) for row in part), file)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _write_csv(names: Sequence[str], rows: Iterable[Row], file: Any) -> None:
    """Write rows as csv, one line at a time."""
    line = io.StringIO(newline="")
    marked = False
    # csv quotes the characters of its line terminator in cells, so it must hold both; the file's lines end with \n.
    writer = csv.DictWriter(line, names, restval="", lineterminator="\r\n")
    for row in chain([{name: name for name in names}], rows):
        cells = {name: _cell(value) for name, value in row.items()}
        marked = marked or any(isinstance(value, str) and cells[name] != value for name, value in row.items())
        writer.writerow(cells)
        file.write(line.getvalue()[:-2] + "\n")
        line.seek(0)
        line.truncate()
    if marked:
        tell("Texts that begin like a formula (= + - @) have a ' in front in the csv; .jsonl and .parquet keep them.")


def _cell(value: Any) -> Any:
    """Cell of a csv: lists and dicts as json, formulas with a ``'`` in front."""
    if isinstance(value, list | dict):
        return _json(value)
    if isinstance(value, str) and value.startswith(FORMULA) and not _is_number(value):
        return f"'{value}"
    return value


def _is_number(text: str) -> bool:
    """Return whether a spreadsheet reads a text as a number, such as the label -1."""
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text, re.ASCII) is not None


def _write_parquet(names: Sequence[str], buffer: IO[bytes], path: Path) -> None:
    """Write the buffered rows as parquet, with the types that fit all rows."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    def blocks() -> Iterator[Any]:
        rows = _buffered(buffer)
        while block := list(islice(rows, BLOCK)):
            yield pa.table({name: [row.get(name) for row in block] for name in names})

    # A column's type is known only at its end: fractions may follow whole numbers, full lists empty ones.
    with _one_type():
        schema = _fitting([table.schema for table in blocks()])
    with ParquetWriter(path, schema) as writer:
        for table in blocks():
            writer.write_table(table.cast(schema))


def join_parquet(parts: Sequence[Path], path: Path) -> None:
    """Write the rows of parquet files to one, a group of rows at a time; a column that a part lacks is left empty.

    Raises:
        ValueError: If a column would hold different types of values.
    """
    from pyarrow.parquet import ParquetFile, ParquetWriter, read_schema

    with _one_type():
        schema = _fitting([read_schema(part) for part in parts])
    with ParquetWriter(path, schema) as writer:
        for part in parts:
            with ParquetFile(part) as file:
                for group in range(file.num_row_groups):
                    writer.write_table(_cast(file.read_row_group(group), schema))


def _cast(table: Any, schema: Any) -> Any:
    """Table with the columns and types of a schema."""
    import pyarrow as pa

    empty = pa.nulls(len(table))
    return pa.table({name: table[name] if name in table.column_names else empty for name in schema.names}).cast(schema)


def _fitting(schemas: Sequence[Any]) -> Any:
    """Schema that fits all, with the column of errors at the end."""
    import pyarrow as pa

    whole = pa.unify_schemas(schemas, promote_options="permissive")
    return pa.schema(sorted(whole, key=lambda field: field.name == ERROR))


@contextmanager
def _one_type() -> Iterator[None]:
    """Turn Arrow's errors on values of several types in one column into ValueError."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ValueError(
            f"A column of parquet holds values of one type only ({error}); write .csv or .jsonl."
        ) from None
