"""Answers to tables that are larger than memory: a piece at a time, kept as parts until all are there."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metatx.cli.entries import Entry, check_kept
from metatx.data.content_hash import Content
from metatx.data.table_pieces import table_pieces
from metatx.encoding.columns import reading_of, table_samples
from metatx.files import written_whole
from metatx.progress import tell
from metatx.training.facts import differences
from metatx.writing.rows import join_parquet, write_rows

if TYPE_CHECKING:
    from metatx.task import Task

__all__ = ["write_in_pieces"]

FACTS = "facts.json"  # what the parts must share

RowsOf = Callable[[Sequence[Entry]], Iterator[dict[str, Any]]]


def write_in_pieces(
    task: "Task",
    sources: Sequence[str],
    out: str | None,
    rows_of: RowsOf,
    *,
    rows: int,
    resume: bool,
    keep: Sequence[str],
    facts: dict[str, Any],
) -> int:
    """Answer tables a piece at a time, and write ``out``, a parquet, when all is answered; return the samples.

    Each piece is a file of the folder ``.NAME.parts`` beside ``out``, until ``out`` is whole. A run that is stopped
    leaves the folder, and goes on from it.

    Args:
        task: Task that answers.
        sources: Tables.
        out: Path of the parquet.
        rows_of: Function from a piece to its rows.
        rows: Rows of a piece.
        resume: Go on from the parts that are there.
        keep: Columns of the tables to copy into the rows.
        facts: Command and options that all parts must share.

    Raises:
        ValueError: If ``out`` is no parquet, a source is no table of one row a sample, or the parts that are there are
            of another task, of other tables or options.
    """
    if out is None or not out.endswith(".parquet"):
        raise ValueError(f"--out is {out}; answers in pieces (--piece-rows, --resume) are written to a .parquet.")
    if rows < 1:
        raise ValueError(f"--piece-rows is {rows}; it must be at least 1.")
    path = Path(out)
    folder = path.with_name(f".{path.name}.parts")
    _begin(folder, {**facts, "piece rows": rows, **_facts(task, sources)}, resume)
    count = 0
    parts = []
    for number, entry in enumerate(_entries(task, sources, rows, keep)):
        parts.append(folder / f"{number:06}.parquet")
        count += len(entry.queries)
        if not parts[-1].exists():
            write_rows(rows_of([entry]), str(parts[-1]), None, errors=True)
            tell(f"{out}: {count:,} samples")
    with written_whole(path) as temporary:
        join_parquet(parts, temporary)
    shutil.rmtree(folder)
    return count


def _entries(task: "Task", sources: Sequence[str], rows: int, keep: Sequence[str]) -> Iterator[Entry]:
    """Pieces of all tables, with the row of each sample in its file."""
    tokenizer = task.tokenizer
    reading = reading_of(tokenizer, task.reading, tokenizer.text_columns(task.inputs))
    for source in sources:
        before = 0
        for table in table_pieces(Path(source), rows, tokenizer.suffixes, reading):
            queries = table_samples(table, tokenizer, task.head, task.inputs)
            if len(queries) != len(table):
                raise ValueError(f"{source}: samples are windows of the table, which cannot be read in pieces.")
            files = tokenizer.names_file(queries[0])
            numbers = None if files else np.arange(len(table)) + before + 1
            entry = Entry(source, queries, files, numbers, table, part=True)
            check_kept(entry, keep)
            before += len(table)
            yield entry


def _facts(task: "Task", sources: Sequence[str]) -> dict[str, Any]:
    """Task and tables that all parts must share."""
    learned = Content()
    learned.add_tensors(task.model.state_dict())
    stats = [Path(source).stat() for source in sources]
    return {
        "task": learned.hexdigest(),
        "backbone": task.backbone.fingerprint,
        "tables": [[str(Path(source).absolute()), stat.st_size] for source, stat in zip(sources, stats, strict=True)],
        "changed": [stat.st_mtime_ns for stat in stats],
    }


def _begin(folder: Path, facts: dict[str, Any], resume: bool) -> None:
    """Make the folder of the parts, or check that those in it are of the same work. Raises ValueError."""
    if folder.exists() and not resume:
        raise ValueError(f"{folder} holds answers of a run that was stopped; go on with --resume, or remove it.")
    saved = folder / FACTS
    if saved.exists():
        changed = differences(json.loads(saved.read_text()), facts)
        if changed:
            raise ValueError(
                f"The answers in {folder} are of other work: {'; '.join(changed)}. Remove the folder to start anew."
            )
        return
    folder.mkdir(exist_ok=True)
    with written_whole(saved) as temporary:
        temporary.write_text(json.dumps(facts))
