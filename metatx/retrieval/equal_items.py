"""Items that are to be added and that an index has already: with equal columns, and with equal vectors."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from metatx.errors import short
from metatx.retrieval.arguments import names_in_list
from metatx.retrieval.segments import OpenSegment, unit_vectors
from metatx.retrieval.snapshot import Snapshot
from metatx.retrieval.writing import PIECE, Incoming, are_vectors, embedded
from metatx.values import plain_cell

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["equal_items", "key_columns", "ready_to_compare"]

SAME = 1 - 1e-5  # cosine of vectors of one sample, which differ by what float16 rounds and by the batch
SHORTEST = 1e-6  # length of a vector that is there, at least
BLOCK = 4096  # vectors that are compared at once
PREFIX = 4  # numbers of a vector that are compared first
FEW = 8  # items of a segment of which all columns are read sooner than one more column of all its items

Key = tuple[Any, ...]


def key_columns(snapshot: Snapshot, key: str | Sequence[str] | None) -> list[str] | None:
    """Columns by which items are known again; None where all columns, and vectors, tell it.

    Raises:
        ValueError: If there is no such column, or no name at all.
    """
    if key is None:
        return None
    names = [key] if isinstance(key, str) else list(names_in_list("key", key))
    for name in names:
        snapshot.check_column(name)
    if not names:
        raise ValueError(f"key is {short(key)}; expected the columns by which items are known again.")
    return names


def compared_vectors(given: Incoming, snapshot: Snapshot, key: Sequence[str] | None) -> list[str]:
    """Modalities whose vectors tell whether items are equal: of samples that are in no column of the index."""
    if key is not None:
        return []
    sources = snapshot.manifest.sources
    return [name for name in given.samples if given.sources.get(name, "") != sources.get(name)]


def ready_to_compare(
    given: Incoming, snapshot: Snapshot, key: Sequence[str] | None, skip_bad: bool, batch_size: int
) -> Incoming:
    """Items whose samples are embedded where their vectors are compared; others are embedded when they are written.

    Raises:
        SampleError, ValueError: Those of ``metatx.retrieval.writing.written``.
    """
    vectors = dict(given.embedded)
    bad: list[str] = []
    for name in compared_vectors(given, snapshot, key):
        if not are_vectors(given.samples[name]):
            starts = range(0, given.count, batch_size)
            ranges = [range(at, min(at + batch_size, given.count)) for at in starts]
            parts = [embedded(given, name, places, skip_bad, bad) for places in ranges]
            numbers = np.concatenate([np.asarray(part) for part, _ in parts])
            vectors[name] = numbers, np.concatenate([values for _, values in parts])
    return replace(given, embedded=vectors, bad=[*given.bad, *bad])


def equal_items(given: Incoming, snapshot: Snapshot, key: Sequence[str] | None = None) -> np.ndarray:
    """Number of the item of the index that equals each of N items, -1 where none does, int64 (N,).

    Args:
        given: Items, after ``ready_to_compare``.
        snapshot: Index; deleted items equal none.
        key: Result of ``key_columns``.

    Raises:
        ValueError: If a vector is not finite, or all zeros.
    """
    equal = np.full(given.count, -1)
    if snapshot.total == snapshot.manifest.deleted_count:
        return equal
    columns = list(snapshot.manifest.columns if key is None else key)
    names = compared_vectors(given, snapshot, key)
    exact = [name for name in names if are_vectors(given.samples[name])]
    near = [name for name in names if name not in exact]
    stored = {name: unit_vectors(given.samples[name]).astype(np.float16) for name in exact}
    keys = [
        (*cells, *(stored[name][row].tobytes() for name in exact))
        for row, cells in enumerate(_cells_of_given(given, columns))
    ]
    rows: dict[Key, list[int]] = {}
    for row, of_row in enumerate(keys):
        rows.setdefault(of_row, []).append(row)
    there: dict[Key, list[int]] = {}
    for segment, offsets in _candidates(given, snapshot, columns, stored):
        for offset, of_item in _keys_of(segment, offsets, columns, exact):
            if of_item in rows:
                there.setdefault(of_item, []).append(segment.first + offset)
    for of_items, items in there.items():
        equal[rows[of_items]] = _nearest_of(given, snapshot, near, rows[of_items], items) if near else items[0]
    return equal


def _cells_of_given(given: Incoming, columns: Sequence[str]) -> Iterator[Key]:
    for start in range(0, given.count, PIECE):
        stop = min(start + PIECE, given.count)
        table = given.table(start, stop) if columns else None
        if table is None:
            yield from (() for _ in range(start, stop))
        else:
            yield from (_key(row, columns) for row in table.select(columns).to_pylist())


def _key(row: Mapping[str, Any], columns: Sequence[str]) -> Key:
    """Cells that can be compared and hashed; missing ones are None."""
    cells = (plain_cell(row[name]) for name in columns)
    return tuple(repr(cell) if isinstance(cell, dict | list) else cell for cell in cells)


def _candidates(
    given: Incoming, snapshot: Snapshot, columns: Sequence[str], stored: Mapping[str, np.ndarray]
) -> Iterator[tuple[OpenSegment, np.ndarray]]:
    """Segments with the offsets of items that may equal some: what is compared first leaves few of them."""
    first = next(iter(stored), None)
    cells = {} if first is not None else _most_different(given, columns)
    for segment in snapshot.segments:
        offsets = np.arange(segment.count)
        if first is not None:
            offsets = _with_prefix(segment, first, stored[first])
        for column, wanted in cells.items():
            if len(offsets) > FEW:
                offsets = offsets[_have_cell(segment, column, wanted)[offsets]]
        if snapshot.alive is not None:
            offsets = offsets[snapshot.alive[segment.first + offsets]]
        if len(offsets):
            yield segment, offsets


def _with_prefix(segment: OpenSegment, modality: str, stored: np.ndarray) -> np.ndarray:
    """Offsets of items whose vector begins as one of some vectors (n, E), float16."""
    part = segment.vectors(modality)
    if part is None:
        return np.zeros(0, np.int64)
    offsets, vectors = part
    numbers = np.arange(segment.count) if offsets is None else offsets
    if stored.shape[1] < PREFIX:
        return numbers
    begins = vectors[:, :PREFIX].contiguous().view(torch.int64).numpy()[:, 0]
    wanted = np.ascontiguousarray(stored[:, :PREFIX]).view(np.int64)[:, 0]
    return numbers[np.isin(begins, wanted)]


def _most_different(given: Incoming, columns: Sequence[str]) -> "dict[str, pa.Array]":
    """Different cells by column of texts or numbers, that with the most of them first."""
    import pyarrow as pa

    table = given.table(0, given.count) if columns else None
    if table is None:
        return {}
    plain = [name for name in columns if not pa.types.is_nested(table.schema.field(name).type)]
    cells = {name: _comparable(table[name].unique()) for name in plain}
    return {name: cells[name] for name in sorted(plain, key=lambda name: -len(cells[name]))}


def _have_cell(segment: OpenSegment, column: str, wanted: "pa.Array") -> np.ndarray:
    """True for each item whose cell in a column is one of some cells, bool (count,)."""
    import pyarrow as pa
    from pyarrow import compute

    cells = _comparable(segment.columns([column])[column])
    try:
        wanted = wanted.cast(cells.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return np.ones(segment.count, bool)
    mask: np.ndarray = compute.is_in(cells, value_set=wanted).to_numpy()
    return mask


def _comparable(cells: Any) -> Any:
    """Cells of Arrow in which NaN is missing and -0 is 0, as in the keys of items."""
    import pyarrow as pa
    from pyarrow import compute

    if not pa.types.is_floating(cells.type):
        return cells
    zero = pa.scalar(0, cells.type)
    return compute.if_else(compute.is_nan(cells), pa.scalar(None, cells.type), compute.add(cells, zero))


def _keys_of(
    segment: OpenSegment, offsets: np.ndarray, columns: Sequence[str], exact: Sequence[str]
) -> Iterator[tuple[int, Key]]:
    """Offsets of items with their keys; those that lack a vector have none."""
    vectors = {}
    for name in exact:
        part = segment.vectors(name)
        if part is None:
            return
        numbers, values = part
        place = np.full(segment.count, -1)
        place[slice(None) if numbers is None else numbers] = np.arange(len(values))
        vectors[name] = place, values.numpy()
    for start in range(0, len(offsets), PIECE):
        some = offsets[start : start + PIECE].tolist()
        for offset, row in zip(some, segment.rows(some, columns), strict=True):
            if all(place[offset] >= 0 for place, _ in vectors.values()):
                of_vectors = (values[place[offset]].tobytes() for place, values in vectors.values())
                yield offset, (*_key(row, columns), *of_vectors)


def _nearest_of(
    given: Incoming, snapshot: Snapshot, near: Sequence[str], rows: Sequence[int], items: Sequence[int]
) -> np.ndarray:
    """Number of the first of some items whose vectors equal those of each row, -1 where none do, int64 (n,)."""
    ours = {name: _filled(*given.embedded[name], np.asarray(rows)) for name in near}
    equal = np.full(len(rows), -1)
    for start in range(0, len(items), BLOCK):
        some = np.asarray(items[start : start + BLOCK])
        same: Any = np.ones((len(rows), len(some)), bool)
        for name in near:
            theirs = np.zeros((len(some), given.width), np.float32)
            if name in snapshot.manifest.modalities:
                theirs = _filled(*snapshot.vectors(name, some), some)
                theirs /= np.maximum(np.linalg.norm(theirs, axis=1, keepdims=True), SHORTEST)  # float16 rounds it
            missing = np.logical_or.outer(ours[name].any(axis=1), theirs.any(axis=1)) == 0
            same = same & (missing | (ours[name] @ theirs.T >= SAME))
        open_rows = (equal < 0) & np.asarray(same.any(1))
        equal[open_rows] = some[same[open_rows].argmax(1)]
    return equal


def _filled(numbers: np.ndarray, vectors: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Vectors of the wanted numbers (n, E), zeros where one has none; ``numbers`` ascend."""
    filled = np.zeros((len(wanted), vectors.shape[1]), np.float32)
    if len(numbers):
        place = np.searchsorted(numbers, wanted).clip(max=len(numbers) - 1)
        there = numbers[place] == wanted
        filled[there] = vectors[place[there]]
    return filled
