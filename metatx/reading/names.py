"""Look-up of the files that a table or a COCO file names, also if it was written on another machine."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from metatx.reading.folders import inside, visible

__all__ = ["Lookup", "lookup_beside", "places_beside"]


class Lookup:
    """Search for named files in several folders, in order.

    Backslashes count as slashes. For a path of another machine, the longest end of it that exists here is taken. A name
    without a suffix, or a number, means the one file of that name with any of the suffixes; a name with a suffix may
    differ in capitals.

    Args:
        places: Folders to search.
        suffixes: Suffixes of files whose names may be incomplete; none if all names are complete and exact.
        parts: Folders among which the files may be divided, searched last; a file is taken if only one of them has it.
        root: Folder in which files must lie; None if the user wrote the names himself, and they may lead anywhere.
    """

    def __init__(
        self,
        places: Iterable[Path],
        suffixes: Sequence[str] = (),
        parts: Iterable[Path] = (),
        root: Path | None = None,
    ) -> None:
        self.root = root
        self.places = list(dict.fromkeys(places))
        self.suffixes = tuple(suffixes)
        self.parts = [part for part in dict.fromkeys(parts) if part not in self.places]
        self._divided: dict[tuple[str, str], list[Path]] | None = None
        self._listed: dict[Path, dict[tuple[str, str], list[Path]]] = {}
        self._moved: dict[Path, str] = {}

    @property
    def where(self) -> str:
        """The places, for messages."""
        places = ["the working directory" if place == Path() else str(place) for place in self.places]
        return ", ".join([*places, *(["the other folders beside"] if self.parts else [])])

    def find(self, name: Any) -> Path | None:
        """Find the file of a name; None if there is none.

        Raises:
            ValueError: If two paths of another machine lead to one file here, or a file lies outside ``root``.
        """
        path = path_of(name)
        if path is None:
            return None
        file = self._search(path, name)
        if self.root is not None:
            inside(self.root, file or self.root / path, "The name")
        return file

    def _search(self, path: Path, name: Any) -> Path | None:
        """Find a path, or for an absolute one that does not exist, its longest end."""
        if not _is_rooted(path):
            return self._in_places(path)
        if path.is_file():
            return path
        for cut in range(1, len(path.parts)):
            file = self._in_places(Path(*path.parts[cut:]))
            if file is not None:
                if self._moved.setdefault(file, str(name)) != str(name):
                    raise ValueError(
                        f"{self._moved[file]} and {name} are paths of another machine, and for both only {file} is "
                        "here; write them from where the files are now."
                    )
                return file
        return None

    def _in_places(self, path: Path) -> Path | None:
        """Find a relative path in the places, exactly, then by its incomplete name; a bare name also in the parts."""
        for place in self.places:
            if (place / path).is_file():
                return place / path
        if not self.suffixes:
            return None
        file = next(filter(None, (self._alike(place / path.parent, path.name) for place in self.places)), None)
        return self._in_parts(path.name) if file is None and len(path.parts) == 1 else file

    def _in_parts(self, name: str) -> Path | None:
        """File of an incomplete name, if exactly one of the parts has it."""
        if self._divided is None:
            self._divided = {}
            for part in self.parts:
                for key, files in self._list(part).items():
                    self._divided.setdefault(key, []).extend(files)
        return self._meant(self._divided, name)

    def _alike(self, folder: Path, name: str) -> Path | None:
        """File of an incomplete name in a folder, if there is exactly one.

        A name with a suffix may differ in capitals, one without may have any suffix, a number may have lost its leading
        zeros.
        """
        if folder not in self._listed:
            self._listed[folder] = self._list(folder)
        return self._meant(self._listed[folder], name)

    def _meant(self, listed: dict[tuple[str, str], list[Path]], name: str) -> Path | None:
        """File of an incomplete name in an index of ``_list``, if there is exactly one."""
        if name.lower().endswith(self.suffixes):
            files = listed.get(("name", name.lower()), [])
        else:
            files = listed.get(("stem", name)) or listed.get(("number", name), [])
        return files[0] if len(files) == 1 else None

    def _list(self, folder: Path) -> dict[tuple[str, str], list[Path]]:
        """Index of a folder's files by name without capitals, by name without suffix, and by number."""
        listed: dict[tuple[str, str], list[Path]] = {}
        for file in visible(folder) if folder.is_dir() else []:
            if file.suffix.lower() in self.suffixes:
                listed.setdefault(("name", file.name.lower()), []).append(file)
                listed.setdefault(("stem", file.stem), []).append(file)
                if re.fullmatch("[0-9]+", file.stem):
                    listed.setdefault(("number", str(int(file.stem))), []).append(file)
        return listed


def path_of(name: Any) -> Path | None:
    """Convert a cell that names a file to a path, with slashes; None if it is empty or no name."""
    if isinstance(name, float) and name.is_integer():
        name = int(name)  # pandas converts whole numbers to floats if a cell of the column is empty
    if isinstance(name, bool) or not isinstance(name, str | int) or not str(name).strip():
        return None
    return Path(str(name).strip().replace("\\", "/"))


def _is_rooted(path: Path) -> bool:
    """Return whether a path is absolute, on this system or on Windows."""
    return path.is_absolute() or re.fullmatch("[A-Za-z]:", path.parts[0] if path.parts else "") is not None


def lookup_beside(file: Path, suffixes: Sequence[str], names: Iterable[Any], root: Path | None = None) -> Lookup:
    """Look-up of the files that a table names: in the usual places, or else in all folders beside the table.

    If one name is found in the usual places, the folders beside are not searched for the others: a folder of the test
    split may hold other files of the same names.

    Args:
        file: File of the table.
        suffixes: Suffixes of files whose names may be incomplete.
        names: Names in the table.
        root: Folder in which files must lie; None for any.
    """
    places = [
        place for place in places_beside(file) if root is None or place.absolute().is_relative_to(root.absolute())
    ]
    usual = Lookup(places, suffixes, root=root)
    if any(map(usual.find, names)):
        return usual
    return Lookup(usual.places, suffixes, [place for place in visible(file.parent) if place.is_dir()], root)


def places_beside(file: Path) -> list[Path]:
    """Folders that usually hold the files of a table: its own, the working directory, ``images`` and the like."""
    beside = file.parent
    stem = file.stem
    usual = [beside / stem, beside / f"{stem}_images", beside / "images", beside / "images" / stem]
    return [beside, Path(), *(folder for folder in usual if folder.is_dir()), beside.absolute().parent]
