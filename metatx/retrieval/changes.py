"""Changes of an index, from one manifest to the next: items that are added, items that are deleted."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from metatx.retrieval.manifest import DELETED, Manifest, Segment, published
from metatx.retrieval.snapshot import Snapshot
from metatx.retrieval.writing import Written

__all__ = ["Change", "SupersededError", "adding", "compacting", "deleting", "replacing"]

Change = Callable[[Manifest], Manifest]


class SupersededError(ValueError):
    """Another process has changed what was to be changed."""


def adding(folder: Path, pieces: Written, **facts: Mapping[str, str]) -> Change:
    """Change that appends segments.

    Args:
        folder: Folder of the index.
        pieces: Segments that were written.
        facts: Attributes of the manifest by modality, of which those that it has already stay.
    """

    def change(current: Manifest) -> Manifest:
        lost = [part.vectors for part in pieces.segments if not (folder / part.vectors).exists()]
        if lost:
            raise OSError(f"{lost[0]} was removed from {folder} before it was part of the index.")
        merged: dict[str, Any] = {name: {**values, **getattr(current, name)} for name, values in facts.items()}
        return replace(
            current.with_sums(pieces.sums),
            segments=(*current.segments, *pieces.segments),
            **merged,
        )

    return change


def deleting(folder: Path, numbers: np.ndarray) -> Change:
    """Change that deletes items by their numbers; it raises ValueError where one is deleted or does not exist."""

    def change(current: Manifest) -> Manifest:
        snapshot = Snapshot(folder, current)
        snapshot.check_items(numbers)
        both = np.union1d(snapshot.deleted, numbers)
        if len(both) < len(snapshot.deleted) + len(numbers):
            gone = np.intersect1d(snapshot.deleted, numbers)
            which = f"Item {gone[0]} is deleted already" if len(gone) else "An item is named twice"
            raise ValueError(f"{which}; nothing was deleted.")
        sums: dict[str, tuple[np.ndarray, int]] = {}
        for modality in current.modalities:
            _, vectors = snapshot.vectors(modality, numbers)
            sums[modality] = vectors.sum(0, dtype=np.float64), len(vectors)
        with published(folder, DELETED, current.generation + 1) as (temporary, publish):
            with temporary.open("wb") as file:
                np.save(file, both)
            name = publish()
        return replace(current.with_sums(sums, -1), deleted=name, deleted_count=len(both))

    return change


def replacing(folder: Path, add: Change, numbers: np.ndarray) -> Change:
    """Change that adds items and deletes those that they replace, which another process may have deleted already."""

    def change(current: Manifest) -> Manifest:
        left = np.setdiff1d(numbers, Snapshot(folder, current).deleted)
        following = add(current)
        return deleting(folder, left)(following) if len(left) else following

    return change


def compacting(folder: Path, old: Sequence[Segment], new: Segment) -> Change:
    """Change that puts a segment in the place of those that it was made of.

    The change raises SupersededError where these are no longer part of the index, and OSError where the new one is
    gone.
    """

    def change(current: Manifest) -> Manifest:
        at = current.place(old)
        if at is None:
            raise SupersededError(f"Segments of {folder} were merged by another process.")
        if not (folder / new.vectors).exists():
            raise OSError(f"{new.vectors} was removed from {folder} before it was part of the index.")
        return replace(current, segments=(*current.segments[:at], new, *current.segments[at + len(old) :]))

    return change
