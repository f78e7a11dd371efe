"""Catalog of the tasks in the served folder, with versions and aliases, and of those that the pool holds."""

import logging
import os
import re
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from metatx.backbone.base import Backbone
from metatx.disk.task_files import CARD, Signature, content_of, plain_file, signature_of
from metatx.errors import TaskError
from metatx.inputs.inputs import Inputs
from metatx.pool.pool import TaskPool
from metatx.reading.folders import visible
from metatx.registry import unknown
from metatx.serving.file_checks import accepted_suffixes
from metatx.serving.limits import Limits
from metatx.serving.samples import Sample, tried
from metatx.storage.folder import OWN_BACKBONE_TIERS, describe
from metatx.storage.others import others_of
from metatx.tokenizer import Tokenizer

__all__ = ["NAME", "Catalog", "Served", "ServedInput", "UnknownTaskError", "common_backbone", "common_others"]

LOG = logging.getLogger("metatx.serving")
PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
NAME = re.compile(rf"{PART}(@{PART})?")  # no separator and no dot in front, so that it cannot leave the folder
SHOWN = 100_000  # bytes of a card that are published
CHANGED = "Its files changed, but a version never changes: save another version."


class UnknownTaskError(ValueError):
    """Error of a request for a task that is not served."""


@dataclass(frozen=True)
class ServedInput:
    """An input of a task with several.

    Attributes:
        name: Name of the input.
        modality: Name of its tokenizer.
        files: Suffixes of the files that it takes.
    """

    name: str
    modality: str
    files: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Served:
    """A task that is served.

    Attributes:
        folder: Folder of its files.
        signature: Signature of those files; another one means that they changed.
        config: Description of the task, from ``metatx.storage.folder.describe``.
        card: Text of its README.md, its beginning where it is long.
        sample: JSON Schema of an input, an example, the answer to the example.
        files: Suffixes of the files that it takes.
        inputs: Its inputs, in order; empty for a task of one modality.
    """

    folder: Path
    signature: Signature
    config: dict[str, Any]
    card: str
    sample: Sample
    files: tuple[str, ...]
    inputs: tuple[ServedInput, ...] = ()

    @property
    def modality(self) -> str:
        """Modality; of several inputs, those of all with commas."""
        return ", ".join(dict.fromkeys(part.modality for part in self.inputs)) or str(self.config["tokenizer"]["name"])

    @property
    def about(self) -> str:
        """Modality, or the inputs with theirs, and the head."""
        inputs = ", ".join(f"{part.name} ({part.modality})" for part in self.inputs)
        return f"{inputs or self.modality} -> {self.config['head']['name']}"


class Catalog:
    """Tasks of a folder, one a subfolder: the subfolder itself, or ``task`` inside it, as ``metatx train`` writes it.

    ``NAME@VERSION`` is a version, which never changes once it is served; a symbolic link ``NAME`` to it is an alias,
    which can move. A task that cannot be loaded is left out; all others are served.

    Args:
        folder: Folder of the tasks.
        pool: Pool that the tasks are loaded into.
        tokens: Largest number of tokens in the example of a task.

    Attributes:
        served: Tasks that are served, by name.
        aliases: Names of versions, by alias.
        refused: Reasons why tasks were left out, by name.

    Raises:
        FileNotFoundError: If there is no such folder.
    """

    def __init__(self, folder: Path, pool: TaskPool, tokens: int = Limits.tokens) -> None:
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is no folder; expected a folder with one subfolder a task.")
        self.folder = folder.resolve()
        self.pool = pool
        self.tokens = tokens
        self.served: dict[str, Served] = {}
        self.aliases: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self._tried: dict[str, Signature] = {}  # signatures of refused tasks, which are tried again when they change
        self._versions: dict[str, str] = {}  # content of the files of each version when it was first served
        self._missing: set[str] = set()
        self._dropped: set[str] = set()  # names that ``drop`` removed: only ``load`` brings them back
        self._lock = threading.Lock()

    def resolve(self, name: str) -> str:
        """Return the name of a served task, an alias followed. Raises UnknownTaskError."""
        target = self.aliases.get(name, name)
        if target not in self.served:
            raise UnknownTaskError(unknown("task", name[:100], sorted([*self.served, *self.aliases])))
        return target

    def refresh(self) -> None:
        """Bring the pool up to date with the folder: load new tasks, reload changed ones, drop missing ones.

        Raises:
            OSError: If the folder cannot be read.
        """
        with self._lock:
            places, aliases, strange = self._found()
            for name, place in places.items():
                if name in self._dropped:
                    continue
                signature = signature_of(place)
                served = self.served.get(name)
                if self._tried.get(name) != signature and (served is None or served.signature != signature):
                    self._take(name, place, signature)
            self.aliases = aliases
            # A folder that is being replaced is away for a moment, so a task goes when it is missing twice.
            missing = set(self.served) - set(places)
            for name in missing & self._missing:
                self._remove(name)
            self._missing = missing
            self._tried = {name: signature for name, signature in self._tried.items() if name in places}
            self.refused = {name: why for name, why in self.refused.items() if name in places} | strange

    def load(self, name: str) -> None:
        """Load a task of the folder, or load it again.

        Raises:
            UnknownTaskError: If the folder has no task of that name.
            ValueError: If the task cannot be loaded, or is a version that is served; then nothing changes.
        """
        with self._lock:
            places, _, _ = self._found()
            if name not in places:
                raise UnknownTaskError(unknown("task in the folder", name[:100], sorted(places)))
            if name in self.served and "@" in name:
                raise ValueError(f"{name} is served already, and versions are immutable; save another version.")
            self._dropped.discard(name)
            if not self._take(name, places[name], signature_of(places[name])):
                raise ValueError(self.refused[name])

    def drop(self, name: str) -> None:
        """Stop serving a task; its folder stays. Raises UnknownTaskError."""
        with self._lock:
            if name not in self.served:
                raise UnknownTaskError(unknown("task", name[:100], sorted(self.served)))
            self._dropped.add(name)
            self._remove(name)

    def point(self, alias: str, name: str) -> None:
        """Point an alias to another version, at once and on disk.

        Args:
            alias: Name of the alias; it is made if it is new.
            name: Name of the version, ``NAME@VERSION``.

        Raises:
            UnknownTaskError: If that version is not served.
            ValueError: If the alias is no valid name, or the name of a task.
            OSError: If the link cannot be written.
        """
        with self._lock:
            if name not in self.served or "@" not in name:
                raise UnknownTaskError(unknown("version", name[:100], sorted(n for n in self.served if "@" in n)))
            link = self.folder / alias
            if not NAME.fullmatch(alias) or "@" in alias or (link.exists() and not link.is_symlink()):
                raise ValueError(
                    f"{alias[:100]!r} cannot be an alias; choose a name of letters, digits, . _ and - that no task has."
                )
            temporary = self.folder / f".{alias}.{secrets.token_hex(8)}"  # a killed process may have left another
            temporary.symlink_to(name)
            try:
                os.replace(temporary, link)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
            self.aliases = {**self.aliases, alias: name}

    def _found(self) -> tuple[dict[str, Path], dict[str, str], dict[str, str]]:
        """Look through the folder: places of tasks, targets of aliases, reasons why others are neither; all by name."""
        places: dict[str, Path] = {}
        aliases: dict[str, str] = {}
        strange: dict[str, str] = {}
        for path in visible(self.folder):
            if not NAME.fullmatch(path.name):
                continue
            try:
                link = path.is_symlink()  # only links are resolved, which takes most of the time of a look
                target = path.resolve() if link else path
                if link and target.parent == self.folder and "@" not in path.name and "@" in target.name:
                    aliases[path.name] = target.name
                elif (place := _place(path)) is not None:
                    linked = link or place.is_symlink()
                    if linked and not place.resolve().is_relative_to(self.folder):
                        raise ValueError("It is a link that leads out of the folder of tasks.")
                    places[path.name] = place
            except (OSError, RuntimeError, ValueError) as error:  # links in a circle, folders without permission
                reason = "It cannot be read"
                strange[path.name] = str(error) if isinstance(error, ValueError) else f"{reason}: {_why(error)}."
                if self.refused.get(path.name) != strange[path.name]:
                    LOG.warning("%s is refused: %s", path.name, error)
        return places, aliases, strange

    def _take(self, name: str, place: Path, signature: Signature) -> bool:
        """Load a task, in place of the one that is served, if any; return True if it could be loaded."""
        try:
            served = self._loaded(name, place, signature)
        except Exception as error:  # a bad folder may make the code raise anything, and must not stop the others
            if name not in self.served and name in [task.name for task in self.pool.tasks()]:
                self.pool.remove(name)
            expected = isinstance(error, ValueError | OSError | ImportError)
            reason = str(error) if expected else f"It could not be loaded ({type(error).__name__}); the log says why."
            for folder in (place, place.resolve(), self.folder):
                reason = reason.replace(str(folder), name)
            self.refused = {**self.refused, name: reason}
            self._tried[name] = signature
            LOG.warning("%s is refused: %s", name, error, exc_info=None if expected else error)
            return False
        self.served = {**self.served, name: served}
        self.refused = {other: why for other, why in self.refused.items() if other != name}
        self._tried.pop(name, None)
        LOG.info("%s is served: %s", name, served.about)
        return True

    def _loaded(self, name: str, place: Path, signature: Signature) -> Served:
        """Load a task into the pool. Raises whatever its files make the code raise."""
        config = describe(place)
        content = content_of(place) if "@" in name else None
        if content is not None and self._versions.get(name, content) != content:
            raise TaskError(CHANGED)
        if name in self.served and content is not None:  # the same content, written anew
            return replace(self.served[name], signature=signature)
        if name in self.served:
            self.pool.reload(name, place)
        else:
            self.pool.add(name, place, content=content)
        tokenizer = self.pool.task(name).tokenizer  # loads it, so that a damaged one is known now
        inputs = _inputs(tokenizer)
        served = Served(
            folder=place,
            signature=signature,
            config=config,
            card=_card(place),
            sample=tried(self.pool, name, self.tokens),
            files=tuple(accepted_suffixes(tokenizer)),
            inputs=inputs,
        )
        if content is not None:
            self._versions[name] = content
        return served

    def _remove(self, name: str) -> None:
        self.served = {other: task for other, task in self.served.items() if other != name}
        self._tried.pop(name, None)
        self.pool.remove(name)
        LOG.info("%s is no longer served", name)


def _inputs(tokenizer: Tokenizer) -> tuple[ServedInput, ...]:
    if not isinstance(tokenizer, Inputs):
        return ()
    return tuple(
        ServedInput(name, part.modality, tuple(accepted_suffixes(tokenizer.tokenizer(name))))
        for name, part in tokenizer.inputs.items()
    )


def common_backbone(folder: Path) -> tuple[str, bool]:
    """Find the backbone of all tasks of a folder that can share one.

    Returns:
        Spec and ``pretrained``, as ``load_backbone`` takes them; ``nano`` and True where tasks differ or there is none.
    """
    backbones = {
        (config["backbone"]["spec"], config["backbone"].get("pretrained", True))
        for _, config in _configs(folder)
        if config["tune"] not in OWN_BACKBONE_TIERS
    }
    return backbones.pop() if len(backbones) == 1 else ("nano", True)


def common_others(folder: Path, given: Mapping[str, Backbone] | None = None) -> list[Backbone]:
    """Load the backbones that read inputs of a folder's tasks first, each once; those that cannot be loaded are out.

    Those that are given, by name or fingerprint, are not loaded.
    """
    others = dict(given or {})
    for place, config in _configs(folder):
        with suppress(TaskError):  # the catalog says why the task is refused
            others |= others_of(config, place, others)
    return list({id(other): other for other in others.values()}.values())


def _configs(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Folders of a folder's tasks, and their configs; those that cannot be read are left out."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            place = _place(path) if NAME.fullmatch(path.name) else None
            config = None if place is None else describe(place)
        except (ValueError, OSError, RuntimeError):
            continue  # the catalog says why it is refused
        if place is not None and config is not None:
            yield place, config


def _place(path: Path) -> Path | None:
    """Return the folder of the task in a subfolder, if it has one. Raises OSError if it cannot be looked at."""
    for place in (path, path / "task"):
        try:
            os.lstat(place / "config.json")  # ``describe`` refuses what is no plain file
        except (FileNotFoundError, NotADirectoryError):
            continue
        return place
    return None


def _card(place: Path) -> str:
    """Read the beginning of a task's card; empty if it has none. Raises TaskError if it is no plain file."""
    try:
        with plain_file(place, CARD).open("rb") as file:
            return file.read(SHOWN).decode(errors="replace")
    except FileNotFoundError:
        return ""


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or "links lead in a circle"
