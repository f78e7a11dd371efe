"""Rows to csv, jsonl and parquet, as they come: a table of any length takes no memory."""

import csv
import io
import json
import pickle
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

from metatx.files import written_whole
from metatx.progress import tell

__all__ = ["ERROR", "ROWS", "write_rows"]

ROWS = (".csv", ".jsonl", ".parquet")
ERROR = "error"  # the column that says why a sample has no answer: the last, where there is one
FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")  # the last four are wide forms of the first
BLOCK = 4096  # rows that are written to parquet together

Row = dict[str, Any]


def write_rows(rows: Iterable[Row], out: str | None, file: Any, *, errors: bool = False) -> None:
    """Rows to ``out``, in the form that its ending says, or as csv to an open ``file``.

    A row may lack columns that others have: they are empty. To ``file`` rows go as they come, with the columns of the
    first that has no ``error``; ``out`` is there when all are written, or not at all.

    In csv, texts that a spreadsheet would run as a formula get a ``'`` in front, which is told.

    Args:
        rows: Column to value.
        out: Path; None for ``file``.
        file: Open for text.
        errors: Whether rows with an ``error`` may come.

    Raises:
        ValueError: If a column of parquet would hold different kinds of values.
        OSError: If it cannot be written.
    """
    if out is None:
        _stream(rows, file, errors)
        return
    path = Path(out)
    with written_whole(path) as temporary, tempfile.TemporaryFile(dir=path.parent) as held:
        names = _hold(rows, held)
        if path.suffix == ".parquet":
            _write_parquet(names, held, temporary)
            return
        with temporary.open("w", encoding="utf-8", newline="") as text:
            if path.suffix == ".jsonl":
                whole = ({name: row.get(name) for name in names} for row in _held(held))
                text.writelines(f"{_json(row)}\n" for row in whole)
            else:
                _write_csv(names, _held(held), text)


def _hold(rows: Iterable[Row], held: IO[bytes]) -> list[str]:
    """Write rows to a temporary file, which this process alone reads; the names of their columns, ``error`` last."""
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(map(str, row)))
        pickle.dump({str(name): value for name, value in row.items()}, held)
    return sorted(names, key=lambda name: name == ERROR)


def _held(held: IO[bytes]) -> Iterator[Row]:
    """The rows, from the first."""
    held.seek(0)
    while True:
        try:
            yield pickle.load(held)
        except EOFError:
            return


def _stream(rows: Iterable[Row], file: Any, errors: bool) -> None:
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
    # The signs of its line's end are the ones that a writer quotes in cells.
    line, marked = io.StringIO(newline=""), False
    writer = csv.DictWriter(line, names, restval="", lineterminator="\r\n")
    for row in chain([{name: name for name in names}], rows):
        cells = {name: _cell(value) for name, value in row.items()}
        marked = marked or any(isinstance(value, str) and cells[name] != value for name, value in row.items())
        writer.writerow(cells)
        file.write(line.getvalue()[:-2] + "\n")
        line.seek(0)
        line.truncate()
    if marked:
        tell(
            "Texts that begin as a formula (= + - @) have a ' in front in the csv; .jsonl and .parquet keep them as is."
        )


def _cell(value: Any) -> Any:
    """A value as csv has it: lists as json, for it has no form of its own for them, and no text that is a formula."""
    if isinstance(value, list | dict):
        return _json(value)
    if isinstance(value, str) and value.startswith(FORMULA) and not _is_number(value):
        return f"'{value}"
    return value


def _is_number(text: str) -> bool:
    """Whether a spreadsheet reads a number: a label -1 stays one."""
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text, re.ASCII) is not None


def _write_parquet(names: Sequence[str], held: IO[bytes], path: Path) -> None:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    def blocks() -> Iterator[Any]:
        rows = _held(held)
        while block := list(islice(rows, BLOCK)):
            yield pa.table({name: [row.get(name) for row in block] for name in names})

    try:
        # Whole numbers and fractions, empty lists and full ones: what a column holds is known at its end.
        schemas = [table.schema for table in blocks()]
        schema = pa.unify_schemas(schemas, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ValueError(f"A column of parquet holds one kind of values ({error}); write .csv or .jsonl.") from None
    with ParquetWriter(path, schema) as writer:
        for table in blocks():
            writer.write_table(table.cast(schema))
