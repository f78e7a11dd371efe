"""Manifest of an index: the files that belong to it at one moment, and how a new one is committed.

No file of an index changes once it has its name. A commit writes a manifest with the next number; the link that gives
it its name fails if another writer was first. So readers need no lock, a writer that is killed leaves what was there,
and of two writers at once the later one builds on what the first has written.
"""

import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from metatx.disk.task_files import read_json
from metatx.progress import tell

__all__ = ["LEFT", "Manifest", "Segment", "commit", "is_index", "newest", "published"]

FORMAT = 2
MANIFEST = "index-{:05d}.json"
VECTORS = "vectors-{:05d}.safetensors"
ITEMS = "items-{:05d}.parquet"
DELETED = "deleted-{:05d}.npy"
NAMES = re.compile(r"(index|vectors|items|deleted)-(\d{5,12})\.(json|safetensors|parquet|npy)")
LEFT = 86_400.0  # seconds after which a file that no manifest names is removed; writers touch theirs meanwhile


@dataclass(frozen=True)
class Segment:
    """Items that were written together.

    Attributes:
        vectors: Name of the file of their vectors.
        items: Name of the file of their columns; None where items have no columns.
        count: Number of items.
        vector_counts: Number of vectors by modality.
        home: Folder (absolute) of the index when they were written, from which paths among them lead elsewhere.
        dropped: Number of deleted items of which the files hold nothing any more.
    """

    vectors: str
    items: str | None
    count: int
    vector_counts: Mapping[str, int]
    home: str = ""
    dropped: int = 0


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """State of an index.

    Attributes:
        width: Width of the vectors, E.
        alignment: Name or folder of the alignment; None where vectors were given.
        home: Folder (absolute) of the index when ``alignment`` was written.
        fingerprints: Fingerprints of the towers that made the vectors, by modality.
        kinds: Names of the tokenizers that take the samples, by modality.
        columns: Names of the items' columns.
        sources: Columns that hold the samples, by modality.
        segments: Segments, in the order of the items.
        deleted: Name of the file of the numbers of deleted items; None if there are none.
        deleted_count: Number of deleted items.
        sums: Sum of the vectors of items that are not deleted, by modality.
        sum_counts: Number of those vectors, by modality.
        generation: Number of the manifest.
        dtype: Type of the stored vectors.
        format: Number of the format.
    """

    width: int
    alignment: str | None = None
    home: str = ""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    segments: tuple[Segment, ...] = ()
    deleted: str | None = None
    deleted_count: int = 0
    sums: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    sum_counts: Mapping[str, int] = field(default_factory=dict)
    generation: int = -1
    dtype: str = "float16"
    format: int = FORMAT

    @property
    def total(self) -> int:
        """Number of items, the deleted ones too."""
        return sum(segment.count for segment in self.segments)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities that have vectors, in the order in which they came."""
        return tuple(dict.fromkeys(name for segment in self.segments for name in segment.vector_counts))

    def files(self) -> set[str]:
        """Names of all files that belong to the index."""
        names = {name for segment in self.segments for name in (segment.vectors, segment.items)}
        return {name for name in (*names, self.deleted, MANIFEST.format(self.generation)) if name is not None}

    @property
    def next_number(self) -> int:
        """Number from which names of new files begin, so that none comes again that an older manifest named."""
        numbers = [int(match[2]) for segment in self.segments if (match := NAMES.fullmatch(segment.vectors))]
        return max(numbers, default=-1) + 1

    def place(self, segments: Sequence[Segment]) -> int | None:
        """Place of consecutive segments among those of the index; None where they are not there, one after another."""
        starts = range(len(self.segments) - len(segments) + 1)
        return next((at for at in starts if self.segments[at : at + len(segments)] == tuple(segments)), None)

    def with_sums(self, sums: Mapping[str, tuple[np.ndarray, int]], sign: int = 1) -> "Manifest":
        """Copy with sums and numbers of vectors, by modality, added; with ``sign`` -1 taken off."""
        added = dict(self.sums)
        counts = dict(self.sum_counts)
        for name, (total, count) in sums.items():
            before = np.array(added.get(name, np.zeros(self.width)))
            added[name] = tuple((before + sign * total).tolist())
            counts[name] = counts.get(name, 0) + sign * count
        return replace(self, sums=added, sum_counts=counts)


def is_index(folder: Path) -> bool:
    """Return True if a folder holds an index."""
    return next(folder.glob("index-*.json"), None) is not None


def newest(folder: Path) -> Manifest:
    """Read the manifest that holds now.

    Raises:
        FileNotFoundError: If the folder is no index.
        ValueError: If the manifest is damaged, or of a newer format.
    """
    numbers = [int(match[2]) for match in map(NAMES.fullmatch, _names(folder)) if match and match[1] == "index"]
    number = max(numbers, default=-1)
    if number < 0:
        raise FileNotFoundError(f"{folder} is no index: it has no manifest (index-00000.json); metatx index makes one.")
    name = MANIFEST.format(number)
    content = read_json(folder, name)
    try:
        if content["format"] > FORMAT:
            raise ValueError(f"it is of format {content['format']}; this version of metatx reads up to {FORMAT}")
        manifest = _parsed(content)
        if manifest.generation != number:
            raise ValueError(f"it says that it is number {manifest.generation}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{folder / name} is damaged: {error}.") from None
    return manifest


def _names(folder: Path) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if NAMES.fullmatch(name)]
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{folder} is no folder; expected an index, which metatx index makes.") from None


def _parsed(content: dict[str, Any]) -> Manifest:
    """Manifest of the JSON of a file. Raises an exception of any kind where the JSON has another form."""
    segments = tuple(Segment(**segment) for segment in content.pop("segments"))
    sums = {name: tuple(map(float, values)) for name, values in content.pop("sums").items()}
    columns = tuple(map(str, content.pop("columns")))
    manifest = Manifest(**content, segments=segments, sums=sums, columns=columns)
    strange = [name for name in manifest.files() if NAMES.fullmatch(name) is None]
    if strange:
        raise ValueError(f"it names {strange[0]!r}, which is no file of an index")
    if (
        manifest.width < 1
        or manifest.dtype != "float16"
        or any(len(values) != manifest.width for values in sums.values())
    ):
        raise ValueError("width, dtype and sums do not fit one another")
    return manifest


def commit(
    folder: Path, change: Callable[[Manifest], Manifest], known: Manifest, keep_seconds: float = LEFT
) -> Manifest:
    """Make the next manifest from the newest one.

    Files that it no longer names stay for those who read an older manifest, and are removed by a later commit; files
    that no manifest has named yet, of another writer, stay for a day in any case.

    Args:
        folder: Folder of the index.
        change: Function from a manifest to the next; it is called again if another writer is faster.
        known: Manifest that the caller has read; what others have written since is reported. One that was never
            written, of generation -1, begins the index.
        keep_seconds: Seconds for which files stay that no manifest names any more; 0 removes them at once.

    Raises:
        ValueError: If the index is to begin, but another process has begun it.
        OSError: If the manifest cannot be written; the index is then as it was.
    """
    while True:
        current = known if known.generation < 0 else newest(folder)
        following = replace(change(current), generation=current.generation + 1, format=FORMAT)
        try:
            first = _write(folder, following)
        except OSError:
            stale = following.deleted if following.deleted != current.deleted else None
            if stale is not None and stale != newest(folder).deleted:
                (folder / stale).unlink(missing_ok=True)
            raise
        if first:
            if current.generation != known.generation:
                tell(f"{folder} was written by another process meanwhile; its changes are kept, these are added.")
            for name in current.files() - following.files():
                with suppress(OSError):
                    os.utime(folder / name)  # its time begins now
            _clean(folder, following, keep_seconds)
            return following
        if known.generation < 0:
            raise ValueError(f"{folder} was made an index by another process meanwhile; add to it.")


def _write(folder: Path, manifest: Manifest) -> bool:
    """Write a manifest; return False if there is one of its number. Raises OSError."""
    text = json.dumps(asdict(manifest), indent=1, allow_nan=False) + "\n"
    with _whole(folder, MANIFEST) as temporary:
        temporary.write_text(text)
        _to_disk(temporary)
        return _linked(temporary, folder / MANIFEST.format(manifest.generation))


@contextmanager
def published(folder: Path, form: str, start: int = 0) -> Iterator[tuple[Path, Callable[[], str]]]:
    """Temporary file, and a function that gives it the first free name of ``form`` at the end, and returns the name.

    Raises:
        OSError: If it cannot be written, such as on a full disk; the index is then as it was.
    """

    def publish() -> str:
        _to_disk(temporary)
        number = start
        while not _linked(temporary, folder / form.format(number)):
            number += 1
        return form.format(number)

    with _whole(folder, form) as temporary:
        yield temporary, publish


@contextmanager
def _whole(folder: Path, form: str) -> Iterator[Path]:
    """Temporary file of a folder, which is removed in the end."""
    temporary = folder / f".{form.partition('-')[0]}-{os.getpid()}-{secrets.token_hex(4)}.partial"
    try:
        yield temporary
    except BaseException as error:
        if isinstance(error, OSError) or type(error).__name__ == "SafetensorError":
            state = "the index is as it was" if is_index(folder) else "it holds no index"
            raise OSError(f"{folder} could not be written, {state}: {error}") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _linked(temporary: Path, path: Path) -> bool:
    """Give a file its final name; return False if there is a file of that name."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    return True


def _to_disk(path: Path) -> None:
    """Wait until the disk has the bytes of a file, so that no manifest names lost ones."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _clean(folder: Path, manifest: Manifest, keep_seconds: float) -> None:
    """Remove old files that the manifest does not need: those of manifests before it, and of writers that were killed.

    A file that no manifest before it names may be another writer's, who is about to commit it: it stays for a day.
    """
    needed = manifest.files()
    superseded = _superseded(folder, manifest.generation) if keep_seconds < LEFT else set()
    for path in sorted(folder.iterdir(), key=lambda path: path.name.startswith("index")):  # manifests after their files
        if path.name not in needed and (NAMES.fullmatch(path.name) or path.name.endswith(".partial")):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime >= (keep_seconds if path.name in superseded else LEFT):
                    path.unlink()


def _superseded(folder: Path, generation: int) -> set[str]:
    """Names of the manifests before a generation, and of all files that they name."""
    names: set[str] = set()
    for path in folder.glob("index-*.json"):
        match = NAMES.fullmatch(path.name)
        if match and int(match[2]) < generation:
            with suppress(OSError):  # another process may have removed it
                names |= {path.name, *(name[0] for name in NAMES.finditer(path.read_text()))}
    return names
