"""Picture of an index: its vectors as points, with the items' columns and samples."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metatx.retrieval.arguments import whole_number
from metatx.retrieval.filters import Where
from metatx.retrieval.picture import check_picture, check_points, write_picture
from metatx.retrieval.previews import Points
from metatx.retrieval.projection import Projection, project
from metatx.retrieval.snapshot import Snapshot

__all__ = ["Drawn"]

SMALLEST = 1e-3  # length of a centred vector that has a direction; vectors are stored in float16


class Drawn:
    """Methods of an index that draw it."""

    snapshot: Snapshot

    def picture(
        self,
        out: str | Path,
        *,
        colour: str | None = None,
        among: Sequence[str] | None = None,
        where: Where | None = None,
        sample: int | None = None,
        centre: bool | None = None,
        seed: int = 0,
    ) -> Projection:
        """Draw the vectors to ``.html``, a page of its own with thumbnails, neighbours and search, or ``.png``.

        Args:
            out: File to write.
            colour: Column that colours the points; by default the first that holds 2 to 20 different words.
            among: Modalities whose vectors are drawn; by default all.
            where: Conditions on columns, as for ``search``.
            sample: Number of items to draw, at random; by default all.
            centre: Take off the mean of its modality from each vector; by default where several are drawn.
            seed: Seed of the sample, of t-SNE and of the choice of thumbnails.

        Returns:
            Places of the points, and how far the picture can be believed.

        Raises:
            ValueError: If there are no such items or too many vectors, there is no such modality or column, or the
                suffix is unknown.
            ImportError: If a png is asked for and matplotlib is missing.
            OSError: If the file cannot be written.
        """
        check_picture(out)
        names = self.snapshot.searched(among)
        allowed = self.snapshot.allowed(where)
        items = np.arange(self.snapshot.total) if allowed is None else np.flatnonzero(allowed)
        notes = []
        if sample is not None:
            whole_number("sample", sample, 1)
        if sample is not None and sample < len(items):
            notes.append(f"{sample:,} of {len(items):,} items, drawn at random; neighbours are those among them.")
            items = np.sort(np.random.default_rng(seed).permutation(items)[:sample])
        numbers, modalities, vectors = _vectors(
            self.snapshot, names, items, len(names) > 1 if centre is None else centre
        )
        check_points(len(numbers))
        samples = _Samples(self.snapshot, numbers, modalities)
        points = Points(vectors, modalities, _columns(self.snapshot, numbers), samples, self.snapshot.kinds)
        title = self.snapshot.folder.absolute().name.removesuffix(".index")
        return write_picture(out, points, colour=colour, title=title, notes=notes, seed=seed)

    def places(self, *, seed: int = 0) -> np.ndarray:
        """Places (rows, 2) of the rows of ``export`` in a picture of all vectors, float32.

        Raises:
            ValueError: If there are no vectors.
        """
        names = self.snapshot.searched(None)
        numbers, _, vectors = _vectors(self.snapshot, names, None, len(names) > 1)
        if not len(numbers):
            raise ValueError("There are no items to place.")
        return project(vectors, seed=seed).points


def _vectors(
    snapshot: Snapshot, names: Sequence[str], items: np.ndarray | None, centre: bool
) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Numbers of the items (N,), modalities (N) and vectors (N, E), modality by modality."""
    read = {name: snapshot.vectors(name, items) for name in names}
    parts = []
    for name, (_, values) in read.items():
        centred = values - snapshot.means[name].astype(np.float32) if centre and len(values) else values
        # A modality whose vectors are all the same has no other direction than its mean.
        whole = len(values) == 0 or np.linalg.norm(centred, axis=1).min() > SMALLEST
        parts.append(centred if whole else values)
    modalities = [name for name, (numbers, _) in read.items() for _ in numbers]
    return np.concatenate([numbers for numbers, _ in read.values()]), modalities, np.concatenate(parts)


def _columns(snapshot: Snapshot, items: np.ndarray) -> dict[str, Sequence[Any]]:
    """Cells of the columns that hold a value each, not bytes, lists or records."""
    import pyarrow as pa

    plain = [
        field.name
        for field in snapshot.schema
        if not pa.types.is_nested(field.type) and not pa.types.is_binary(field.type)
    ]
    if not plain:
        return {}
    different, places = np.unique(items, return_inverse=True)
    rows = snapshot.rows(different.tolist(), plain)
    return {name: [rows[place][name] for place in places] for name in plain}


class _Samples:
    """Reader of the raw samples of some rows, from the columns that hold them."""

    def __init__(self, snapshot: Snapshot, items: np.ndarray, modalities: Sequence[str]) -> None:
        self.snapshot = snapshot
        self.items = items
        self.modalities = modalities

    def __call__(self, rows: Sequence[int]) -> list[Any]:
        sources = self.snapshot.manifest.sources
        columns = [sources.get(self.modalities[row]) for row in rows]
        needed = sorted({column for column in columns if column is not None})
        if not needed:
            return [None] * len(rows)
        read = self.snapshot.rows(self.items[list(rows)].tolist(), needed)
        return [None if column is None else cells[column] for column, cells in zip(columns, read, strict=True)]
