"""Writing of an index: items are added and deleted, segments merged."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from metatx.errors import short
from metatx.pretraining.alignment import Alignment
from metatx.progress import tell
from metatx.retrieval.arguments import item_numbers
from metatx.retrieval.changes import Change, SupersededError, adding, compacting, deleting, replacing
from metatx.retrieval.compaction import compacted, due, runs
from metatx.retrieval.equal_items import equal_items, key_columns, ready_to_compare
from metatx.retrieval.filters import Where
from metatx.retrieval.manifest import LEFT, Manifest, commit, is_index, newest
from metatx.retrieval.segments import OpenSegment
from metatx.retrieval.snapshot import Snapshot
from metatx.retrieval.writing import Incoming, Written, are_vectors, incoming, remove, written

__all__ = ["Existing", "Writable"]

Existing = Literal["skip", "replace", "add", "error"]


class Writable(ABC):
    """Methods of an index that write."""

    folder: Path
    snapshot: Snapshot
    _alignment: Alignment | None

    @property
    @abstractmethod
    def alignment(self) -> Alignment:
        """Alignment that made the vectors."""

    @abstractmethod
    def refresh(self) -> bool:
        """Read what other processes have written."""

    @abstractmethod
    def _check(self, given: Incoming) -> None:
        """Refuse items that do not belong into the index. Raises ValueError."""

    @abstractmethod
    def _take(self, manifest: Manifest) -> None:
        """Replace what is known of the index."""

    def add(
        self,
        samples: Mapping[str, Any],
        items: Any = None,
        *,
        vectors: Mapping[str, np.ndarray] | None = None,
        existing: Existing = "skip",
        key: str | Sequence[str] | None = None,
        skip_bad: bool = False,
        batch_size: int = 128,
    ) -> range:
        """Add items, all in one step or none; what another process adds meanwhile stays.

        Many small additions are merged to larger segments on the way.

        Args:
            samples, items, vectors, skip_bad, batch_size: The arguments of ``build``.
            existing: Fate of items that the index has already: ``"skip"`` leaves them out, and says so; ``"replace"``
                deletes those that are there in the same step; ``"add"`` adds them a second time; ``"error"`` raises
                ValueError.
            key: Columns by which an item is known again, such as ``"id"``. By default all columns must be equal, and
                vectors of samples that are in none of them.

        Returns:
            Numbers of the new items.

        Raises:
            ValueError: If ``existing`` is another word, or there is no column of ``key``; or as ``build``.
            SampleError, OSError: Those of ``build``.
        """
        if existing not in get_args(Existing):
            raise ValueError(f"existing is {short(existing)}; choose one of {', '.join(get_args(Existing))}.")
        embeds = self._is_aligned and isinstance(samples, Mapping) and not all(map(are_vectors, samples.values()))
        given = incoming(self.alignment if embeds else self._alignment, samples, items, vectors)
        self._check(given)
        replaced = np.zeros(0, np.int64)
        if existing != "add":
            given, replaced = self._without_known(given, existing, key, skip_bad, batch_size)
        numbers = range(0)
        start = self.snapshot.manifest.next_number
        for pieces in written(self.folder, given, skip_bad, batch_size, whole=True, start=start) if given.count else ():
            numbers = self._commit(given, pieces, replaced)
        self._merge_small()
        return numbers

    def delete(self, items: Sequence[int] | np.ndarray | None = None, *, where: Where | None = None) -> int:
        """Delete items, in one step; return their number. No search finds them again.

        Their vectors and columns stay in the files, where ``rows`` and whoever opens them read them, until ``compact``
        writes these anew.

        Args:
            items: Numbers of items.
            where: Conditions on the items' columns, as for ``search``, in place of numbers.

        Raises:
            TypeError: If ``items`` is no list of numbers.
            ValueError: If an item is deleted already or does not exist, or there is no condition; no item is deleted
                then.
        """
        if (items is None) == (where is None) or (items is None and not where):
            raise ValueError("Give the numbers of the items to delete, or conditions on their columns (where).")
        if items is None:
            allowed = self.snapshot.allowed(where)
            numbers = np.arange(self.snapshot.total) if allowed is None else np.flatnonzero(allowed)
        else:
            numbers = item_numbers(items)
        if not len(numbers):
            return 0
        self._take(commit(self.folder, deleting(self.folder, numbers), self.snapshot.manifest))
        return len(numbers)

    def compact(self, *, keep_seconds: float = LEFT) -> int:
        """Merge small segments, and write those anew that hold deleted items; all items keep their numbers.

        Readers and other writers go on meanwhile, and a process that is killed leaves the index as it was.

        Args:
            keep_seconds: Seconds for which files stay that are no longer part of the index, for others that opened it
                before; a day by default. 0 removes them at once, and with them all that deleted items have left on the
                disk; who has the index open then must ``refresh``. Files that another writer has not committed yet
                stay.

        Returns:
            Number of segments that are gone.

        Raises:
            OSError: If the segments cannot be written; the index is then as it was.
        """
        self.refresh()
        before = len(self.snapshot.segments)
        for group in runs(self.snapshot):
            self._merge(group)
        if keep_seconds < LEFT:
            self._take(commit(self.folder, lambda current: current, self.snapshot.manifest, keep_seconds))
        return before - len(self.snapshot.segments)

    # Implementation

    @property
    def _is_aligned(self) -> bool:
        """True if an alignment was given, or the index names one."""
        return self._alignment is not None or self.snapshot.manifest.alignment is not None

    def _without_known(
        self, given: Incoming, existing: Existing, key: str | Sequence[str] | None, skip_bad: bool, batch_size: int
    ) -> tuple[Incoming, np.ndarray]:
        """Items that are to be written, and numbers of those to delete. Raises ValueError where that was asked for."""
        columns = key_columns(self.snapshot, key)
        now = Snapshot(self.folder, newest(self.folder))
        ready = ready_to_compare(given, now, columns, skip_bad, batch_size)
        equal = equal_items(ready, now, columns)
        count = int((equal >= 0).sum())
        if not count:
            return ready, np.zeros(0, np.int64)
        first = int(np.flatnonzero(equal >= 0)[0])
        by = "" if columns is None else f" by {', '.join(columns)}"
        said = (
            f"{count:,} of {given.count:,} items are in {self.folder} already{by}, such as row {first + 1}, item "
            f"{equal[first]} there"
        )
        if existing == "error":
            raise ValueError(f"{said}; nothing was added. Leave them out, or choose existing: skip, replace or add.")
        if existing == "replace":
            tell(f"{said}; they are replaced.")
            return ready, np.unique(equal[equal >= 0])
        tell(f"{said}; they are left out (existing: replace or add does otherwise).")
        return ready.select(np.flatnonzero(equal < 0)), np.zeros(0, np.int64)

    def _commit(self, given: Incoming, pieces: Written, replaced: np.ndarray) -> range:
        """Commit segments, and delete the items that they replace; return the numbers of the new items."""
        aligned = given.alignment
        known = self.snapshot.manifest.fingerprints
        new = [name for name in given.samples if aligned is not None and name not in known]
        fingerprints = {name: aligned.fingerprint(name) for name in new if aligned is not None}
        kinds = {} if aligned is None else {name: kind for name, kind in aligned.kinds.items() if name in new}
        change: Change = adding(self.folder, pieces, fingerprints=fingerprints, kinds=kinds, sources=given.sources)
        if len(replaced):
            change = replacing(self.folder, change, replaced)
        try:
            self._take(commit(self.folder, change, self.snapshot.manifest))
        except BaseException:
            if not is_index(self.folder) or pieces.segments[0] not in newest(self.folder).segments:
                remove(self.folder, pieces.segments)
            raise
        total = self.snapshot.total
        return range(total - sum(segment.count for segment in pieces.segments), total)

    def _merge_small(self) -> None:
        """Merge the small segments at the end, while there are many; what cannot be merged stays as it is."""
        while small := due(self.snapshot.manifest.segments):
            group = self.snapshot.segments[-len(small) :]
            try:
                if not self._merge(group):
                    return
            except OSError as error:
                tell(f"All is added, but small segments are not merged: {error}")
                return

    def _merge(self, group: Sequence[OpenSegment]) -> bool:
        """Write segments as one; return False where another process was faster. Raises OSError."""
        manifest = self.snapshot.manifest
        old = [part.segment for part in group]
        try:
            segment = compacted(self.snapshot, group, manifest.next_number)
        except OSError:
            if newest(self.folder).place(old) is not None:
                raise
            self.refresh()  # another process has merged them, and removed their files
            return False
        change = compacting(self.folder, old, segment)
        try:
            self._take(commit(self.folder, change, manifest))
        except BaseException as error:
            if segment not in newest(self.folder).segments:
                remove(self.folder, [segment])
            if isinstance(error, SupersededError):
                self.refresh()
                return False
            raise
        return True
