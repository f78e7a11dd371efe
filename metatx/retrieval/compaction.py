"""Compaction: consecutive segments are written as one, without what belonged to deleted items; numbers stay."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from metatx.progress import bar
from metatx.retrieval.manifest import Segment
from metatx.retrieval.segments import OpenSegment, Vectors, write_segment
from metatx.retrieval.snapshot import Snapshot

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["compacted", "due", "runs"]

FANOUT = 16  # segments of one size that are merged, so that an item is written anew once for each size
SIZES = tuple(FANOUT**power for power in (1, 2, 3))  # items; segments from the last of these on are left alone
MOST = 65_536  # items of a segment that several are made to


def due(segments: Sequence[Segment]) -> list[Segment]:
    """Segments at the end of an index that are to be merged, since many additions have made many small ones; or none.

    As in a log-structured merge tree (O'Neil et al. 1996), ``FANOUT`` segments of a size make one of the next.
    """
    for size in SIZES:
        small: list[Segment] = []
        for segment in reversed(segments):
            if segment.count >= size:
                break
            small.insert(0, segment)
        if len(small) >= FANOUT:
            return small
    return []


def runs(snapshot: Snapshot) -> list[list[OpenSegment]]:
    """Consecutive segments that a compaction makes to one each: several small ones, or with deleted items."""
    groups: list[list[OpenSegment]] = []
    for segment in snapshot.segments:
        if groups and sum(each.count for each in groups[-1]) + segment.count <= MOST:
            groups[-1].append(segment)
        else:
            groups.append([segment])
    return [group for group in groups if len(group) > 1 or _deleted(snapshot, group[0]) > group[0].segment.dropped]


def compacted(snapshot: Snapshot, group: Sequence[OpenSegment], start: int) -> Segment:
    """Write consecutive segments as one, which no index holds before a commit.

    Items keep their numbers: of those that are deleted, there are no vectors, and their rows are empty.

    Args:
        snapshot: Index.
        group: Segments, one after the other.
        start: Number from which free names of files are looked for.

    Raises:
        OSError: If it cannot be written; nothing is left then.
    """
    names = dict.fromkeys(name for part in group for name in part.segment.vector_counts)
    return write_segment(
        snapshot.folder,
        sum(part.count for part in group),
        {name: _vectors(snapshot, group, name) for name in names},
        _rows(snapshot, group) if snapshot.manifest.columns else None,
        start,
        sum(_deleted(snapshot, part) for part in group),
    )


def _deleted(snapshot: Snapshot, segment: OpenSegment) -> int:
    """Number of deleted items of a segment."""
    bounds = np.searchsorted(snapshot.deleted, [segment.first, segment.first + segment.count])
    return int(bounds[1] - bounds[0])


def _alive(snapshot: Snapshot, segment: OpenSegment) -> np.ndarray:
    """True for each item of a segment that is not deleted, bool (count,)."""
    if snapshot.alive is None:
        return np.ones(segment.count, bool)
    return snapshot.alive[segment.first : segment.first + segment.count]


def _vectors(snapshot: Snapshot, group: Sequence[OpenSegment], modality: str) -> Vectors:
    """Vectors of a modality with their offsets from the first item of the group."""
    numbers = [np.zeros(0, np.int64)]
    values = [np.zeros((0, snapshot.manifest.width), np.float16)]
    for segment in group:
        part = segment.vectors(modality)
        if part is not None:
            offsets = np.arange(segment.count) if part[0] is None else part[0]
            kept = _alive(snapshot, segment)[offsets]
            numbers.append(offsets[kept] + segment.first - group[0].first)
            values.append(part[1].numpy()[kept])
    return np.concatenate(numbers), np.concatenate(values)


def _rows(snapshot: Snapshot, group: Sequence[OpenSegment]) -> "Iterator[pa.Table]":
    """Columns of all items, with one schema; those of deleted items are empty."""
    import pyarrow as pa

    for segment in bar(group, "compact"):
        alive = _alive(snapshot, segment)
        first = 0
        for table in segment.tables():
            kept = alive[first : first + len(table)]
            first += len(table)
            if not kept.all():
                table = table.take(pa.array(np.arange(len(table)), mask=~kept))
            yield table.select(snapshot.schema.names).cast(snapshot.schema)
