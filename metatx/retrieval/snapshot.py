"""Snapshot of an index: what its folder held at one moment, read from the disk as it is needed."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from metatx.registry import names, unknown
from metatx.retrieval.arguments import by_name, item_numbers, names_in_list
from metatx.retrieval.exact import Block
from metatx.retrieval.filters import Where, satisfying
from metatx.retrieval.manifest import Manifest
from metatx.retrieval.segments import OpenSegment

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Snapshot"]


class Snapshot:
    """Items, vectors and deletions of an index at one moment.

    Args:
        folder: Folder of the index.
        manifest: Manifest of that moment.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self.segments: list[OpenSegment] = []
        first = 0
        for segment in manifest.segments:
            self.segments.append(OpenSegment(folder, segment, first, manifest.width, set(manifest.sources.values())))
            first += segment.count
        self.total = first
        self._columns: dict[str, pa.ChunkedArray] = {}  # those that filters have read

    @property
    def kinds(self) -> dict[str, str | None]:
        """Name of the tokenizer that takes the samples of each modality; None where there is none."""
        written = {name: self.manifest.kinds.get(name, name) for name in self.manifest.modalities}
        return {name: kind if kind in names("tokenizers") else None for name, kind in written.items()}

    @cached_property
    def deleted(self) -> np.ndarray:
        """Numbers of deleted items, ascending, int64. Raises ValueError if the file of them is damaged."""
        if self.manifest.deleted is None:
            return np.zeros(0, np.int64)
        path = self.folder / self.manifest.deleted
        try:
            numbers: np.ndarray = np.load(path, allow_pickle=False)
            if numbers.dtype != np.int64 or numbers.shape != (self.manifest.deleted_count,):
                raise ValueError(f"it holds {numbers.shape} of {numbers.dtype}")
            if len(numbers) and not 0 <= numbers[0] <= numbers[-1] < self.total:
                raise ValueError(f"it names items beyond the {self.total:,} of the index")
        except (EOFError, ValueError) as error:
            raise ValueError(f"{path} is damaged: {error}.") from None
        return numbers

    @cached_property
    def alive(self) -> np.ndarray | None:
        """True for each item that is not deleted, bool (total,); None if none is."""
        if not len(self.deleted):
            return None
        alive = np.ones(self.total, bool)
        alive[self.deleted] = False
        return alive

    def searched(self, among: Sequence[str] | None) -> tuple[str, ...]:
        """Modalities to compare, each once; by default all. Raises ValueError for one without vectors."""
        chosen = self.manifest.modalities if among is None else names_in_list("among", among)
        names = tuple(dict.fromkeys(chosen))
        for name in names:
            if name not in self.manifest.modalities:
                raise ValueError(unknown("modality of the index", str(name), list(self.manifest.modalities)))
        if not names:
            raise ValueError(f"among names no modality; the index has {', '.join(self.manifest.modalities) or 'none'}.")
        return names

    def check_items(self, numbers: np.ndarray) -> None:
        """Refuse numbers beyond those of the items. Raises ValueError."""
        beyond = numbers[(numbers < 0) | (numbers >= self.total)]
        if len(beyond):
            raise ValueError(f"There is no item {beyond[0]}; the items of {self.folder} are 0 to {self.total - 1:,}.")

    def check_column(self, name: str) -> None:
        """Refuse a name that no column has. Raises ValueError."""
        if name not in self.manifest.columns:
            raise ValueError(unknown("column of the items", str(name), list(self.manifest.columns)))

    def allowed(self, where: Where | None) -> np.ndarray | None:
        """True for each item that is not deleted and satisfies all conditions, bool (total,); None if all do.

        Raises:
            ValueError: If there is no such column, or a condition does not fit it.
        """
        mask = self.alive
        for name, condition in by_name("where", where or {}, '{"season": "Fall"}').items():
            self.check_column(name)
            if name not in self._columns:
                self._columns[name] = self._column(name)
            fits = satisfying(self._columns[name], name, condition)
            mask = fits if mask is None else mask & fits
        return mask

    def _column(self, name: str) -> "pa.ChunkedArray":
        import pyarrow as pa

        tables = [segment.columns([name]) for segment in self.segments]
        return pa.concat_tables(tables, promote_options="permissive")[name]

    def blocks(self, modality: str, allowed: np.ndarray | None) -> Iterator[Block]:
        """Iterate over numbers of items and their vectors, a segment after the other; those not ``allowed`` are out."""
        for segment in self.segments:
            part = segment.vectors(modality)
            if part is None:
                continue
            offsets, vectors = part
            numbers = np.arange(segment.first, segment.first + segment.count)
            if offsets is not None:
                numbers = numbers[offsets]
            if allowed is not None:
                kept = np.flatnonzero(allowed[numbers])
                if not len(kept):
                    continue
                if len(kept) < len(numbers):
                    numbers = numbers[kept]
                    vectors = vectors[torch.from_numpy(kept)]
            yield numbers, vectors

    @property
    def means(self) -> dict[str, np.ndarray]:
        """Mean (E,) of the vectors of each modality, float64."""
        counts = self.manifest.sum_counts
        return {name: np.array(total) / max(1, counts[name]) for name, total in self.manifest.sums.items()}

    @cached_property
    def schema(self) -> "pa.Schema":
        """Types of the items' columns, wide enough for all segments."""
        import pyarrow as pa

        schemas = [segment.schema for segment in self.segments] if self.manifest.columns else []
        return pa.unify_schemas(schemas, promote_options="permissive") if schemas else pa.schema([])

    def rows(self, items: Sequence[int], columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Read columns of items, by default all, in the order of ``items``.

        Raises:
            ValueError: If there is no such item or column.
        """
        names = self.manifest.columns if columns is None else names_in_list("columns", columns)
        for name in names:
            self.check_column(name)
        numbers = item_numbers(items)
        self.check_items(numbers)
        rows: list[dict[str, Any]] = [{} for _ in numbers]
        for segment in self.segments:
            inside = np.flatnonzero((numbers >= segment.first) & (numbers < segment.first + segment.count))
            if len(inside):
                read = segment.rows((numbers[inside] - segment.first).tolist(), names)
                for at, row in zip(inside, read, strict=True):
                    rows[at] = row
        return rows

    def vectors(self, modality: str, items: Sequence[int] | np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Read vectors of a modality, as ``Index.vectors``."""
        self.searched([modality])
        allowed = self.alive
        if items is not None:
            numbers = item_numbers(items)
            self.check_items(numbers)
            allowed = np.zeros(self.total, bool)
            allowed[numbers] = True
        parts = list(self.blocks(modality, allowed))
        if not parts:
            return np.zeros(0, np.int64), np.zeros((0, self.manifest.width), np.float32)
        values = [vectors.float().numpy() for _, vectors in parts]
        return np.concatenate([numbers for numbers, _ in parts]), np.concatenate(values)
