"""The folder of tasks that is served: what is in it, its versions and aliases, and what of it the pool holds."""

import logging
import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metatx.pool import TaskPool
from metatx.reading.folders import visible
from metatx.registry import unknown
from metatx.serving.samples import Sample, tried
from metatx.storage import OWN, describe

__all__ = ["NAME", "Catalog", "Served", "UnknownTaskError", "common_backbone"]

LOG = logging.getLogger("metatx.serving")
PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
NAME = re.compile(rf"{PART}(@{PART})?")  # no separator, no dot in front: it cannot leave the folder
CARD = 100_000  # characters of a card that are shown

Signature = tuple[tuple[str, int, int, int], ...]


class UnknownTaskError(ValueError):
    """There is no task of that name."""


@dataclass(frozen=True, kw_only=True)
class Served:
    """A task that is served.

    Attributes:
        folder: Of its files.
        signature: By which a change of them is seen.
        config: As ``metatx.storage.describe`` gives it.
        card: Its README.
        sample: JSON Schema of an input, an example, the answer to it.
        files: Endings of files that it takes.
    """

    folder: Path
    signature: Signature
    config: dict[str, Any]
    card: str
    sample: Sample
    files: tuple[str, ...]


class Catalog:
    """Tasks in a folder, one subfolder each, or the ``task`` inside it, as ``metatx train`` writes it.

    ``NAME@VERSION`` is a version, which never changes once it is served; a symbolic link ``NAME`` to it is an alias,
    which can move. What cannot be loaded is left out, and said in ``refused``.

    Args:
        folder: Of the tasks.
        pool: That they are loaded into.

    Raises:
        FileNotFoundError: If there is no such folder.
    """

    def __init__(self, folder: Path, pool: TaskPool) -> None:
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is no folder; expected one of tasks, a folder each.")
        self.folder, self.pool = folder.resolve(), pool
        self.served: dict[str, Served] = {}
        self.aliases: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self._tried: dict[str, Signature] = {}  # of what was refused: tried again when it changes
        self._missing: set[str] = set()
        self._dropped: set[str] = set()  # by ``drop``: they come back by ``load`` only
        self._lock = threading.Lock()

    def resolve(self, name: str) -> str:
        """The task that a name means, an alias followed. Raises UnknownTaskError."""
        found = self.aliases.get(name, name)
        if found not in self.served:
            raise UnknownTaskError(unknown("task", name[:100], sorted([*self.served, *self.aliases])))
        return found

    def refresh(self) -> None:
        """Make the pool hold what the folder holds: load what appeared, reload what changed, drop what went."""
        with self._lock:
            places, aliases = self._found()
            for name, place in places.items():
                if name in self._dropped:
                    continue
                signature = _signature(place)
                known = self.served.get(name)
                if known is None and self._tried.get(name) != signature:
                    self._take(name, place, signature)
                elif known is not None and known.signature != signature and self._tried.get(name) != signature:
                    self._tried[name] = signature
                    if "@" in name:
                        LOG.warning("%s changed on disk; versions are immutable, the one loaded goes on", name)
                    else:
                        self._take(name, place, signature)
            self.aliases = aliases
            # A folder that is replaced is away for a moment: it goes when it is missing twice.
            missing = set(self.served) - set(places)
            for name in missing & self._missing:
                self._remove(name)
            self._missing = missing
            self.refused = {name: why for name, why in self.refused.items() if name in places}

    def load(self, name: str) -> None:
        """Load a task of the folder, or load it again.

        Raises:
            UnknownTaskError: If the folder has none of that name.
            ValueError: If it cannot be loaded, or is a version that is served; what was served stays.
        """
        with self._lock:
            places, _ = self._found()
            if name not in places:
                raise UnknownTaskError(unknown("task in the folder", name[:100], sorted(places)))
            if name in self.served and "@" in name:
                raise ValueError(f"{name} is served already, and versions are immutable; save another version.")
            self._dropped.discard(name)
            if not self._take(name, places[name], _signature(places[name])):
                raise ValueError(self.refused[name])

    def drop(self, name: str) -> None:
        """Serve a task no more; its folder stays. Raises UnknownTaskError."""
        with self._lock:
            if name not in self.served:
                raise UnknownTaskError(unknown("task", name[:100], sorted(self.served)))
            self._dropped.add(name)
            self._remove(name)

    def point(self, alias: str, name: str) -> None:
        """Make an alias mean another version, at once and on disk.

        Raises:
            UnknownTaskError: If that version is not served.
            ValueError: If the alias is no name for one.
            OSError: If the link cannot be written.
        """
        with self._lock:
            if name not in self.served or "@" not in name:
                raise UnknownTaskError(unknown("version", name[:100], sorted(n for n in self.served if "@" in n)))
            link = self.folder / alias
            if not NAME.fullmatch(alias) or "@" in alias or (link.exists() and not link.is_symlink()):
                raise ValueError(f"{alias[:100]!r} cannot be an alias: letters, digits, . _ and - make one, no task.")
            temporary = self.folder / f".{alias}.{os.getpid()}"
            temporary.symlink_to(name)
            os.replace(temporary, link)
            self.aliases = {**self.aliases, alias: name}

    def _found(self) -> tuple[dict[str, Path], dict[str, str]]:
        """Places of tasks, and aliases, by name."""
        places: dict[str, Path] = {}
        aliases: dict[str, str] = {}
        for path in visible(self.folder):
            if not NAME.fullmatch(path.name):
                continue
            target = path.resolve()
            if path.is_symlink() and target.parent == self.folder and "@" not in path.name and "@" in target.name:
                aliases[path.name] = target.name
            elif target.is_relative_to(self.folder):
                place = _place(path)
                if place is not None:
                    places[path.name] = place
        return places, aliases

    def _take(self, name: str, place: Path, signature: Signature) -> bool:
        """Load a task, in place of the one that is served, if any; whether it could be."""
        try:
            if name in self.served:
                self.pool.reload(name, place)
            else:
                self.pool.add(name, place)
            tokenizer = self.pool.task(name).tokenizer  # loads it, so that a damaged one is known now
            sample = tried(self.pool, name)
        except (ValueError, OSError, ImportError) as error:
            if name not in self.served and name in [task.name for task in self.pool.list()]:
                self.pool.remove(name)
            self.refused = {**self.refused, name: str(error).replace(str(place), name)}
            self._tried[name] = signature
            LOG.warning("%s is refused: %s", name, error)
            return False
        card = place / "README.md"
        endings = dict.fromkeys((*tokenizer.suffixes, *tokenizer.containers))
        served = Served(
            folder=place,
            signature=signature,
            config=describe(place),
            card=card.read_text(errors="replace")[:CARD] if card.is_file() else "",
            sample=sample,
            files=tuple(e for e in endings if e.startswith(".") and e not in tokenizer.linking),
        )
        self.served = {**self.served, name: served}
        self.refused = {other: why for other, why in self.refused.items() if other != name}
        LOG.info("%s is served", name)
        return True

    def _remove(self, name: str) -> None:
        self.served = {other: task for other, task in self.served.items() if other != name}
        self._tried.pop(name, None)
        self.pool.remove(name)
        LOG.info("%s is served no more", name)


def common_backbone(folder: Path) -> tuple[str, bool]:
    """What all tasks of a folder that can share a backbone stand on, as ``load_backbone`` takes it.

    Returns:
        Its spec, and whether it is pretrained; ``nano``, pretrained, where the tasks differ or there is none.
    """
    found = set()
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        place = _place(path) if NAME.fullmatch(path.name) else None
        try:
            config = None if place is None else describe(place)
        except (ValueError, OSError):
            continue  # the catalog says why it is refused
        if config is not None and config["tune"] not in OWN:
            found.add((config["backbone"]["spec"], config["backbone"].get("pretrained", True)))
    return found.pop() if len(found) == 1 else ("nano", True)


def _place(path: Path) -> Path | None:
    """Where the task of a subfolder lies, if it has one."""
    return next((place for place in (path, path / "task") if (place / "config.json").is_file()), None)


def _signature(place: Path) -> Signature:
    """Of all files of a task: name, size, time, number of the file."""
    found = []
    for file in sorted(place.rglob("*")):
        try:
            status = file.stat()
        except FileNotFoundError:  # replaced in this moment; the next look sees it
            continue
        found.append((str(file.relative_to(place)), status.st_size, status.st_mtime_ns, status.st_ino))
    return tuple(found)
