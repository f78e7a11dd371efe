"""Index: vectors of many samples, of any aligned modalities, on disk; searched exactly."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import numpy as np

from metatx.errors import short
from metatx.pretraining.alignment import Alignment
from metatx.retrieval.arguments import whole_number
from metatx.retrieval.export import export
from metatx.retrieval.filters import Where
from metatx.retrieval.index_picture import Drawn
from metatx.retrieval.index_writing import Writable
from metatx.retrieval.manifest import Manifest, is_index, newest
from metatx.retrieval.queries import Hit, Queries, hits_of, vectors_of
from metatx.retrieval.segments import moved
from metatx.retrieval.snapshot import Snapshot
from metatx.retrieval.writing import Incoming, check_types, incoming, still_missing, written

__all__ = ["Hit", "Index"]


class Index(Writable, Drawn):
    """Vectors of items on disk, a vector for each of an item's aligned modalities, with the items' own columns.

    An index is a snapshot of what its folder held when it was opened; ``refresh`` reads what others have written since.
    Vectors are stored in float16 and read from the disk as they are needed; a search compares the query with all of
    them, in float32. Any number of processes may read while others write: see ``metatx.retrieval.manifest``. ``build``
    makes an index, ``open`` opens one.

    Columns that hold samples keep absolute paths of files. An index that was moved looks for them where they lie
    relative to it as before, and then at the old place; likewise for its alignment.

    Example:
        >>> import tempfile
        >>> alignment = metatx.Alignment.from_pretrained("nano")
        >>> names = ["a red shoe", "a blue shirt", "a silver watch"]
        >>> folder = tempfile.mkdtemp() + "/shop.index"
        >>> index = metatx.Index.build(folder, alignment, {"text": "name"}, items={"name": names})
        >>> [[hit]] = index.search(["a shoe"], modality="text", k=1)
        >>> index.rows([hit.item])
        [{'name': 'a red shoe'}]
    """

    def __init__(self, folder: Path, manifest: Manifest, alignment: Alignment | None = None) -> None:
        self.folder = folder
        self._alignment = alignment
        self._checked: Alignment | None = None  # the last that was compared with the index
        self._take(manifest)

    # Making and opening

    @classmethod
    def build(
        cls,
        folder: str | Path,
        alignment: Alignment | None,
        samples: Mapping[str, Any],
        items: Any = None,
        *,
        vectors: Mapping[str, np.ndarray] | None = None,
        skip_bad: bool = False,
        resume: bool = False,
        batch_size: int = 128,
    ) -> Self:
        """Embed samples and write an index, in pieces: a build that is killed leaves the pieces that were finished.

        Args:
            folder: Folder of the new index.
            alignment: Alignment that embeds the samples; None if ``samples`` holds vectors alone.
            samples: Raw samples of N items by modality, of which None has no vector; or vectors (N, E), of any length;
                or the name of a column of ``items``.
            items: Columns of the items, a row an item: any table that ``Task.from_data`` takes; None: they have none.
            vectors: Vectors (N, E) of ``samples`` that the alignment has embedded already, by modality; a row of NaN:
                the item has none.
            skip_bad: Give no vector to a sample that cannot be used; by default it raises an error.
            resume: Go on with a build that was stopped, with the same items.
            batch_size: Samples that are embedded at once.

        Raises:
            SampleError: If a sample cannot be used; names its row. The pieces before it stay, for ``resume``.
            ValueError: If there are no items, numbers of samples differ, a modality is not aligned, a vector holds NaN,
                or the folder is not as ``resume`` says.
            OSError: If the folder cannot be written.
        """
        _check_type(alignment)
        path = Path(folder)
        given = incoming(alignment, samples, items, vectors)
        new = not path.exists()
        if is_index(path):
            if not resume:
                raise ValueError(f"{path} is an index already; add to it, resume a stopped build, or choose another.")
            index = cls.open(path, alignment)
        else:
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise ValueError(f"{path} exists and is no index; choose another folder.")
            path.mkdir(parents=True, exist_ok=True)
            start = Manifest(
                width=given.width,
                alignment=None if alignment is None else alignment.spec,
                home=str(path.absolute()),
                columns=given.columns,
                sources=given.sources,
            )
            index = cls(path, start, alignment)
        try:
            index._check(given)
            given = still_missing(given, index.snapshot)
            for pieces in written(path, given, skip_bad, batch_size, False, index.snapshot.manifest.next_number):
                index._commit(given, pieces, np.zeros(0, np.int64))
        except BaseException:
            if new:
                with suppress(OSError):  # pieces that were finished stay
                    path.rmdir()
            raise
        return index

    @classmethod
    def open(cls, folder: str | Path, alignment: Alignment | None = None) -> Self:
        """Open an index; nothing but its manifest is read.

        Args:
            folder: Folder of the index.
            alignment: Alignment that embeds queries and samples to add; by default the one that the index names, loaded
                when it is needed.

        Raises:
            FileNotFoundError: If the folder is no index.
            ValueError: If it is damaged, or its vectors come from another alignment.
        """
        _check_type(alignment)
        path = Path(folder)
        index = cls(path, newest(path), alignment)
        if alignment is not None:
            index._check_alignment(alignment)
        return index

    def refresh(self) -> bool:
        """Read what other processes have written; return True if there was something."""
        manifest = newest(self.folder)
        if manifest.generation == self.generation:
            return False
        self._take(manifest)
        return True

    # Facts

    def __len__(self) -> int:
        """Count the items that are not deleted."""
        return self.total - self.snapshot.manifest.deleted_count

    def __repr__(self) -> str:
        vectors = f"width={self.width}, modalities={list(self.modalities)}"
        return f"Index({str(self.folder)!r}, items={len(self)}, {vectors}, columns={list(self.columns)})"

    @property
    def total(self) -> int:
        """Number of items, the deleted ones too; the next item gets this number."""
        return self.snapshot.total

    @property
    def generation(self) -> int:
        """Number of the last write that this index knows."""
        return self.snapshot.manifest.generation

    @property
    def width(self) -> int:
        """Width of the vectors, E."""
        return self.snapshot.manifest.width

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities of which items have vectors."""
        return self.snapshot.manifest.modalities

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the items' columns."""
        return self.snapshot.manifest.columns

    @property
    def sources(self) -> Mapping[str, str]:
        """Columns that hold the samples, by modality, of modalities that were given as columns."""
        return self.snapshot.manifest.sources

    @property
    def means(self) -> dict[str, np.ndarray]:
        """Mean (E,) of the vectors of each modality, float64."""
        return self.snapshot.means

    @property
    def alignment(self) -> Alignment:
        """Alignment that made the vectors, loaded if it was not given.

        Raises:
            ValueError: If the index names none, or another one lies where it names it.
        """
        if self._alignment is None:
            name = self.snapshot.manifest.alignment
            if name is None:
                raise ValueError(f"{self.folder} names no alignment: search it by vectors, or give one to open.")
            home = self.snapshot.manifest.home
            loaded = Alignment.from_pretrained(moved(name, home, self.folder) if home else name)
            self._check_alignment(loaded)
            self._alignment = loaded
        return self._alignment

    # Reading

    def search(
        self,
        queries: Queries,
        *,
        modality: str | None = None,
        among: Sequence[str] | None = None,
        k: int = 10,
        where: Where | None = None,
        centre: bool | None = None,
    ) -> list[list[Hit]]:
        """Find the ``k`` nearest items for each query, best first; an item comes once, with its nearest modality.

        Args:
            queries: Raw samples of an aligned modality; or vectors (B, E); or hits of another search.
            modality: Modality of the samples or vectors.
            among: Modalities whose vectors are compared; by default all.
            k: Number of items; all, if there are fewer.
            where: Conditions on columns, all of which an item must satisfy. ``{"season": "Fall"}``: a value; a list of
                values: one of them; ``{"price": {"min": 10, "max": 20}}``: between them, bounds included; None: empty.
            centre: Take off the mean of its modality from each vector first, so that modalities can be compared with
                one another; by default where several are searched. (700 products, nano, half as pictures and half as
                names: the partner of a picture is among 10 hits for .54 with it, .26 without; of a name, .72 and .60.)

        Raises:
            SampleError: If a sample cannot be used; gives its number, counted from 1.
            TypeError: If ``k`` is no whole number, or ``where`` holds no conditions by column.
            ValueError: If the index is empty, ``k`` is less than 1, or there is no such modality or column.
        """
        k = whole_number("k", k, 1)
        self._check_filled()
        names = self.snapshot.searched(among)
        vectors, modalities = vectors_of(
            self.snapshot,
            queries,
            modality,
            lambda name, samples: self.alignment.embed(name, samples),
            aligned=self._is_aligned,
        )
        return hits_of(
            self.snapshot,
            vectors,
            modalities,
            among=names,
            k=k,
            allowed=self.snapshot.allowed(where),
            centre=len(names) > 1 if centre is None else centre,
        )

    def rows(self, items: Sequence[int], columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Read columns of items, by default all, in the order of ``items``.

        Raises:
            ValueError: If there is no such item or column.
        """
        return self.snapshot.rows(items, columns)

    def vectors(self, modality: str, items: Sequence[int] | np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Read vectors of a modality.

        Args:
            modality: Modality that has vectors.
            items: Numbers of items, in any order; by default all that are not deleted.

        Returns:
            Numbers of the items that have such a vector, ascending, int64 (n,), and unit vectors (n, E), float32.

        Raises:
            ValueError: If there is no such modality or item.
        """
        return self.snapshot.vectors(modality, items)

    def export(self, file: str | Path, *, neighbours: int = 15, places: np.ndarray | None = None) -> Path:
        """Write a file that Apple's embedding-atlas opens, or a table of LanceDB, a row a vector.

        The columns are those of ``metatx.retrieval.export.export``.

        Args:
            file: Path ending in ``.parquet``; or in ``.lance``, for a new table of the LanceDB database of its folder.
            neighbours: Number of neighbours of each row; 0 writes none.
            places: Places of the rows in a picture, (rows, 2): the columns ``x`` and ``y``; None writes none.

        Raises:
            ImportError: If LanceDB is needed and missing (extra ``search``).
            ValueError: If the index is empty; or as ``metatx.retrieval.export.export``.
        """
        self._check_filled()
        neighbours = whole_number("neighbours", neighbours, 0)
        return export(self.snapshot, Path(file), neighbours, None if places is None else np.asarray(places))

    # Implementation

    def _check_filled(self) -> None:
        """Refuse an index without items. Raises ValueError."""
        if not len(self):
            raise ValueError(f"{self.folder} is empty: all of its {self.total:,} items are deleted; add some.")

    def _check(self, given: Incoming) -> None:
        """Refuse items that do not belong into the index. Raises ValueError."""
        if given.width != self.width:
            raise ValueError(f"The vectors are {given.width} wide; those of {self.folder} are {self.width} wide.")
        if set(given.columns) != set(self.columns):
            raise ValueError(
                f"The items have the columns {', '.join(given.columns) or 'none'}; those of {self.folder} have "
                f"{', '.join(self.columns) or 'none'}."
            )
        # The newest files: those of this snapshot may have been compacted away.
        check_types(given, self.snapshot if self.generation < 0 else Snapshot(self.folder, newest(self.folder)))
        if given.alignment is not None:
            self._check_alignment(given.alignment)

    def _check_alignment(self, alignment: Alignment) -> None:
        """Refuse an alignment of which a tower differs from that which made the vectors. Raises ValueError."""
        if alignment is self._checked:
            return
        kept = self.snapshot.manifest.fingerprints
        shared = [name for name in kept if name in alignment.towers]
        if kept and not shared:
            raise ValueError(f"{self.folder} holds {', '.join(kept)}, of which the alignment has none.")
        for name in shared:
            fingerprint = alignment.fingerprint(name)
            if fingerprint != kept[name]:
                raise ValueError(
                    f"{self.folder} was made with another alignment: the fingerprint of {name} is "
                    f"{kept[name][:12]} there and {fingerprint[:12]} here. Open it with its own, or build it anew."
                )
        self._checked = alignment

    def _take(self, manifest: Manifest) -> None:
        """Replace what is known of the index; its files are opened when they are needed."""
        self.snapshot = Snapshot(self.folder, manifest)


def _check_type(alignment: Any) -> None:
    """Raise TypeError, which says how to load it, if this is no alignment, such as the name of one."""
    if not isinstance(alignment, Alignment | None):
        raise TypeError(f"alignment is {short(alignment)}; expected one of Alignment.from_pretrained.")
