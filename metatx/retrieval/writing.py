"""Items on their way into an index: samples are embedded in pieces, each written as a segment."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metatx.data.table_files import as_dataset
from metatx.errors import SampleError, first_named
from metatx.examples import Subset
from metatx.pretraining.alignment import Alignment
from metatx.progress import bar, tell
from metatx.registry import lookup, unknown
from metatx.retrieval.arguments import by_name, described
from metatx.retrieval.manifest import Segment
from metatx.retrieval.segments import Vectors, unit_vectors, write_segment
from metatx.retrieval.snapshot import Snapshot
from metatx.values import is_missing

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

__all__ = [
    *("Incoming", "Written", "are_vectors", "check_types", "embedded", "incoming", "remove", "still_missing"),
    *("written",),
]

PIECE = 8192  # items of a segment

Sums = dict[str, tuple[np.ndarray, int]]
Numbered = tuple[np.ndarray, np.ndarray]  # numbers of items, ascending int64 (n,), and their vectors (n, E), float32


@dataclass(frozen=True, kw_only=True)
class Incoming:
    """Items that are to be written.

    Attributes:
        alignment: Alignment that embeds samples; None where all are vectors.
        samples: Raw samples, or vectors (N, E), by modality.
        items: Columns of the items; None if they have none.
        sources: Columns that hold the samples, by modality.
        count: Number of items, N.
        first: Number of the first that is still to be written.
        places: Row of each in what was given, counted from 0; None: all, in order.
        embedded: Vectors of samples that are embedded already, by modality.
        bad: Samples that could not be embedded then, and why.
    """

    alignment: Alignment | None
    samples: Mapping[str, Any]
    items: "Dataset | None"
    sources: Mapping[str, str]
    count: int
    first: int = 0
    places: np.ndarray | None = None
    embedded: Mapping[str, Numbered] = field(default_factory=dict)
    bad: Sequence[str] = ()

    @property
    def width(self) -> int:
        """Width of the vectors, E."""
        if self.alignment is not None:
            return self.alignment.size
        return int(next(iter(self.samples.values())).shape[1])

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the items' columns."""
        return () if self.items is None else tuple(self.items.column_names)

    def table(self, start: int, stop: int) -> "pa.Table | None":
        """Columns of some items, as Arrow."""
        if self.items is None:
            return None
        table: pa.Table = self.items.with_format("arrow")[start:stop]
        for name, column in self.sources.items():
            if self.alignment is not None and self._names_files(name):
                table = _with_absolute_paths(table, column)
        return table.replace_schema_metadata(None)

    def row(self, number: int) -> int:
        """Row of an item in what was given, counted from 1, for messages."""
        return 1 + (number if self.places is None else int(self.places[number]))

    def select(self, numbers: np.ndarray) -> "Incoming":
        """Some of the items, in ascending order; none of them is written yet."""
        embedded = {}
        for name, (offsets, vectors) in self.embedded.items():
            inside = np.isin(offsets, numbers)
            embedded[name] = np.searchsorted(numbers, offsets[inside]), vectors[inside]
        samples = {
            name: side[numbers] if are_vectors(side) else Subset(side, numbers) for name, side in self.samples.items()
        }
        items = None if self.items is None else self.items.select(numbers)
        return replace(self, samples=samples, items=items, count=len(numbers), places=numbers, embedded=embedded)

    def _names_files(self, modality: str) -> bool:
        """True if raw samples of a modality may be names of files."""
        assert self.alignment is not None
        kind = self.alignment.kinds.get(modality)
        tokenizer = None if kind is None else lookup("tokenizers", kind)
        return tokenizer is not None and bool(tokenizer.suffixes) and not tokenizer.words


@dataclass(frozen=True)
class Written:
    """Segments that were written and are in no index yet.

    Attributes:
        segments: Segments, in the order of the items.
        sums: Sum (E,) and number of the vectors, by modality.
    """

    segments: list[Segment] = field(default_factory=list)
    sums: Sums = field(default_factory=dict)

    def add(self, segment: Segment, vectors: Mapping[str, Vectors]) -> None:
        """Append a segment with its vectors."""
        self.segments.append(segment)
        for name, (_, values) in vectors.items():
            total, count = self.sums.get(name, (0.0, 0))
            stored = values.astype(np.float16)  # a sum of what is read again, so that deleting takes off the same
            self.sums[name] = total + stored.sum(0, dtype=np.float64), count + len(values)


def are_vectors(samples: Any) -> bool:
    """Return True if samples of a modality are vectors: a two-dimensional array of floats."""
    return isinstance(samples, np.ndarray) and samples.ndim == 2 and samples.dtype.kind == "f"


def incoming(
    alignment: Alignment | None, samples: Mapping[str, Any], items: Any, vectors: Mapping[str, Any] | None = None
) -> Incoming:
    """Check samples, their vectors and items against one another.

    Raises:
        ValueError: If there are none, numbers differ, a column does not exist, a modality is not aligned, or widths
            differ.
        TypeError: If ``items`` is no table.
    """
    by_name("samples", samples, '{"image": ["a.png", "b.png"]}')
    table = None if items is None else as_dataset(items)
    sources = {name: given for name, given in samples.items() if isinstance(given, str)}
    sides: dict[str, Any] = {}
    for name, given in samples.items():
        if name in sources:
            if table is None or given not in table.column_names:
                raise ValueError(unknown(f"column of items for {name}:", given, table.column_names if table else []))
            given = table[given]
        sides[name] = given
        if alignment is not None and name not in alignment.towers:
            raise ValueError(unknown("aligned modality", name, list(alignment.towers)))
        if alignment is None and not are_vectors(given):
            raise ValueError(
                f"Samples of {name} ({described(given)}) need an alignment that embeds them; give one, or vectors: an "
                "array of floats (N, E)."
            )
    counts = {f"{len(side):,} of {name}": len(side) for name, side in sides.items()}
    if table is not None:
        counts[f"{len(table):,} items"] = len(table)
    if not sides or 0 in counts.values():
        raise ValueError(f"There is nothing to index: {', '.join(counts) or 'no modality is given'}.")
    if len(set(counts.values())) > 1:
        raise ValueError(f"Numbers of samples and items differ: {', '.join(counts)}; give None where one is missing.")
    given = Incoming(
        alignment=alignment, samples=sides, items=table, sources=sources, count=next(iter(counts.values()))
    )
    ready = {} if vectors is None else by_name("vectors", vectors, '{"image": VECTORS}')
    for name, side in (sides | dict(ready)).items():
        if name in ready and not (are_vectors(side) and name in sides and len(side) == given.count):
            raise ValueError(
                f"vectors of {name}: {described(side)}; expected floats ({given.count}, {given.width}), the vectors of "
                f"one of samples, which are {', '.join(sides)}."
            )
        if are_vectors(side) and side.shape[1] != given.width:
            raise ValueError(f"The vectors of {name} are {side.shape[1]} wide; expected {given.width}.")
    return replace(given, embedded={name: _present(side) for name, side in ready.items()})


def _present(vectors: np.ndarray) -> Numbered:
    """Numbers and unit vectors of the rows that are not NaN."""
    numbers = np.flatnonzero(~np.isnan(vectors).all(axis=1))
    return numbers, unit_vectors(vectors[numbers])


def _with_absolute_paths(table: "pa.Table", column: str) -> "pa.Table":
    """Table in which cells that name files relative to the working folder have absolute paths."""
    import pyarrow as pa

    place = table.column_names.index(column)
    field = table.schema.field(place)
    if not (pa.types.is_string(field.type) or pa.types.is_large_string(field.type)):
        return table
    cells = table[column].to_pylist()
    paths = [os.path.abspath(cell) if cell and os.path.isfile(cell) else cell for cell in cells]
    return table if paths == cells else table.set_column(place, field, pa.array(paths, field.type))


def written(
    folder: Path, given: Incoming, skip_bad: bool, batch_size: int, whole: bool, start: int = 0
) -> Iterator[Written]:
    """Embed and write the items, a segment after the other.

    Args:
        folder: Folder of the index.
        given: Items.
        skip_bad: Give no vector to a sample that cannot be used.
        batch_size: Samples that are embedded at once.
        whole: True yields all segments together at the end; they are removed if one cannot be written. False yields
            each when it is written.
        start: Number from which free names of files are looked for.

    Raises:
        SampleError: If a sample cannot be used and ``skip_bad`` is False.
        ValueError: If a vector is not finite, or all zeros.
        OSError: If they cannot be written.
    """
    done = Written()
    bad = list(given.bad)
    without: list[int] = []
    pieces = [range(at, min(at + PIECE, given.count)) for at in range(given.first, given.count, PIECE)]
    batches = [(piece, at) for piece in pieces for at in range(piece.start, piece.stop, batch_size)]
    parts: dict[str, list[Numbered]] = {name: [] for name in given.samples}
    try:
        for piece, at in bar(batches, "index"):
            stop = min(at + batch_size, piece.stop)
            for name in given.samples:
                parts[name].append(embedded(given, name, range(at, stop), skip_bad, bad))
            if stop < piece.stop:
                continue
            vectors = {name: _piece(of_batches, piece.start) for name, of_batches in parts.items()}
            vectors = {name: part for name, part in vectors.items() if len(part[1])}
            there = set().union(*(offsets.tolist() for offsets, _ in vectors.values() if offsets is not None))
            without += [piece.start + at for at in range(len(piece)) if at not in there]
            table = given.table(piece.start, piece.stop)
            segment = write_segment(folder, len(piece), vectors, None if table is None else [table], start)
            done.add(segment, vectors)
            parts = {name: [] for name in given.samples}
            for kept in done.segments:  # a file that no manifest names yet is not to look old
                os.utime(folder / kept.vectors)
            if whole and piece is not pieces[-1]:
                continue
            handed = done
            done = Written()  # whoever takes the segments removes them
            yield handed
    except BaseException:
        remove(folder, done.segments)
        raise
    if bad:
        tell(f"{len(bad):,} samples cannot be used and have no vector: {first_named(bad)}.")
    if without:
        tell(
            f"{len(without):,} of {given.count - given.first:,} items have no vector, such as that of row "
            f"{given.row(without[0])}: they are kept in {folder}, but no search finds them."
        )


def remove(folder: Path, segments: Sequence[Segment]) -> None:
    """Remove the files of segments that are in no index."""
    for segment in segments:
        for name in (segment.vectors, segment.items):
            if name is not None:
                (folder / name).unlink(missing_ok=True)


def check_types(given: Incoming, snapshot: Snapshot) -> None:
    """Refuse columns whose types no column of the index can hold. Raises ValueError."""
    import pyarrow as pa

    table = given.table(0, 1)
    if table is None or not snapshot.total:
        return
    for name in table.column_names:
        kinds = [pa.schema([schema.field(name)]) for schema in (snapshot.schema, table.schema)]
        try:
            pa.unify_schemas(kinds, promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            types = [kind.field(name).type for kind in kinds]
            raise ValueError(
                f"Column {name} of {snapshot.folder} holds {types[0]}; that of the new items holds {types[1]}."
            ) from None


def still_missing(given: Incoming, snapshot: Snapshot) -> Incoming:
    """Items that a build that was stopped has not written.

    Raises:
        ValueError: If it has written other items than these.
    """
    if given.count < snapshot.total:
        raise ValueError(f"{snapshot.folder} has {snapshot.total:,} items, more than the {given.count:,} given.")
    for start in range(0, snapshot.total if given.columns else 0, PIECE):
        numbers = range(start, min(start + PIECE, snapshot.total))
        table = given.table(numbers.start, numbers.stop)
        assert table is not None
        alive = [at for at in numbers if snapshot.alive is None or snapshot.alive[at]]
        rows = table.take([at - start for at in alive]).select(snapshot.manifest.columns).to_pylist()
        if rows != snapshot.rows(alive):
            raise ValueError(f"{snapshot.folder} was begun with other items than these; build it anew.")
    return replace(given, first=snapshot.total)


def _piece(parts: Sequence[Vectors], first: int) -> Vectors:
    """Vectors of the batches of a piece, with their offsets from its first item."""
    numbers = np.concatenate([np.asarray(part) for part, _ in parts]) - first
    return numbers, np.concatenate([values for _, values in parts])


def embedded(given: Incoming, name: str, places: range, skip_bad: bool, bad: list[str]) -> Numbered:
    """Numbers and unit vectors of some items; samples that are missing have none.

    Args:
        given: Items.
        name: Modality.
        places: Numbers of the items.
        skip_bad: Give no vector to samples that cannot be used, which are noted in ``bad``.
        bad: List to which places and reasons are added.

    Raises:
        SampleError, ValueError: Those of ``written``.
    """
    side = given.samples[name]
    if name in given.embedded:
        numbers, vectors = given.embedded[name]
        inside = slice(*np.searchsorted(numbers, [places.start, places.stop]))
        return numbers[inside], vectors[inside]
    if are_vectors(side):
        return np.arange(places.start, places.stop), unit_vectors(side[places.start : places.stop], places.start)
    assert given.alignment is not None
    batch = list(side[places.start : places.stop])
    present = [at for at, sample in zip(places, batch, strict=True) if not is_missing(sample)]
    samples = [batch[at - places.start] for at in present]
    try:
        parts = [given.alignment.embed(name, samples)] if samples else []
    except SampleError:
        present, parts = _one_by_one(given, name, present, samples, skip_bad, bad)
    if not parts:
        return np.zeros(0, np.int64), np.zeros((0, given.width), np.float32)
    return np.asarray(present, np.int64), unit_vectors(np.concatenate(parts), places.start)


def _one_by_one(
    given: Incoming, name: str, numbers: Sequence[int], samples: Sequence[Any], skip_bad: bool, bad: list[str]
) -> tuple[list[int], list[np.ndarray]]:
    """Embed samples of which one or more cannot be used. Raises SampleError, or leaves them out and says so."""
    assert given.alignment is not None
    good: list[int] = []
    vectors: list[np.ndarray] = []
    for number, sample in zip(numbers, samples, strict=True):
        try:
            vectors.append(given.alignment.embed(name, [sample]))
            good.append(number)
        except SampleError as error:
            reason = f"row {given.row(number)}, {name}: {str(error).removeprefix('sample 1: ')}"
            if not skip_bad:
                raise SampleError(f"{reason}. Bad samples are left out with skip_bad (--skip-bad-samples).") from None
            bad.append(reason)
    return good, vectors
