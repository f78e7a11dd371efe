"""Tables that are larger than memory, read a piece at a time."""

import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING

from metatx.data.file_columns import table_of_files
from metatx.data.splits import by_column
from metatx.data.table_files import as_dataset, read_table
from metatx.progress import told_as
from metatx.reading.csv_tables import SEP_LINE, Reading, encoding_of, opened_text, separator_of
from metatx.reading.split_names import ALL

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["PIECES", "table_pieces"]

PIECES = (".parquet", ".csv", ".tsv", ".jsonl", ".csv.gz", ".tsv.gz", ".jsonl.gz")


def table_pieces(path: Path, rows: int, suffixes: tuple[str, ...], reading: Reading) -> "Iterator[Dataset]":
    """Iterate over a table, ``rows`` rows at a time; no more is in memory.

    The types of a parquet's columns are those of the file. In a csv they are inferred piece by piece, and the separator
    and the encoding once, from the beginning of the file.

    Args:
        path: File with a suffix of ``PIECES``.
        rows: Rows of a piece; one of a csv may have a few more or fewer.
        suffixes: Suffixes of files that are a sample each, which columns may name.
        reading: Options of reading the table.

    Raises:
        ValueError: If the file has another suffix, cannot be read, or has a column of splits.
    """
    if not path.name.lower().endswith(PIECES):
        raise ValueError(f"{path} cannot be read in pieces; expected a table: {', '.join(PIECES)}.")
    tables = _of_parquet(path, rows) if path.suffix.lower() == ".parquet" else _of_text(path, rows, reading)
    told: set[str] = set()

    def once(line: str) -> str | None:
        if line in told:
            return None
        told.add(line)
        return line

    for table in tables:
        if ALL not in by_column(table, str(path)):
            raise ValueError(f"{path} has a column of splits, and is read in pieces; give the rows of one split.")
        with told_as(once):
            table = table_of_files(path, suffixes, reading, table)[0]
        yield table


def _of_parquet(path: Path, rows: int) -> "Iterator[Dataset]":
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=rows):
                yield as_dataset(pa.Table.from_batches([batch]).to_pandas())
    except pa.ArrowException as error:
        raise ValueError(f"{path} cannot be read as parquet: {str(error).splitlines()[0]}") from None


def _of_text(path: Path, rows: int, reading: Reading) -> "Iterator[Dataset]":
    """Tables of a csv or jsonl: its records are written to a small file with the same header, and that is read."""
    encoding = reading.encoding or encoding_of(path)
    name = re.sub(r"\.gz$", "", path.name.lower())
    lines = name.endswith(".jsonl")
    if not lines:
        reading = replace(reading, sep=reading.sep or separator_of(path, encoding))
    done = 0
    with tempfile.TemporaryDirectory() as folder, opened_text(path, encoding) as file:
        piece = Path(folder) / f"piece{Path(name).suffix}"
        records = file if lines else _records(file)
        header = "" if lines else next(records, "")
        if SEP_LINE.match(header):
            header = next(records, "")
        while batch := list(islice(records, rows)):
            piece.write_text(header + "".join(batch), encoding="utf-8", newline="")
            try:
                # How it is read was told, or asked for, once.
                with told_as(lambda line: None if str(piece) in line else line):
                    table = read_table(piece, replace(reading, encoding="utf-8"))
            except ValueError as error:
                said = str(error).replace(str(piece), str(path))
                raise ValueError(f"{said} (in the piece behind row {done:,})") from None
            done += len(table)
            yield table


def _records(file: IO[str]) -> Iterator[str]:
    """Records of a csv, each a line or, where a cell in quotes holds line ends, several."""
    lines: list[str] = []
    is_open = False
    for line in file:
        lines.append(line)
        is_open ^= line.count('"') % 2 == 1
        if not is_open:
            yield "".join(lines)
            lines = []
    if lines:
        yield "".join(lines)
