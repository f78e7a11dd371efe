"""Finding the files that a table or a COCO file names, wherever it was written."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from metatx.reading.folders import inside, visible

__all__ = ["Lookup", "lookup_beside", "places_beside"]


class Lookup:
    """Finds named files in some places, in their order.

    Backslashes count as slashes. Of a path of another machine, as much of its end is taken as is found here. A name
    without a suffix, or a number, means the one file that is called so but for its suffix; of a name with a suffix the
    capitals may differ.

    Args:
        places: Folders to look in.
        suffixes: Of the files that may be named so; none, if names are whole and exact.
        parts: Folders among which the files may be divided: what is in none of the places is taken from these, if one
            alone has it.
        root: The folder that files must lie in; None where names are the user's own word, and may lead anywhere.
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
        """The file of that name; None where there is none.

        Raises:
            ValueError: If two paths of another machine come to one file here, or a file lies outside of ``root``.
        """
        path = path_of(name)
        if path is None:
            return None
        found = self._found(path, name)
        if self.root is not None:
            inside(self.root, found or self.root / path, "The name")
        return found

    def _found(self, path: Path, name: Any) -> Path | None:
        if not _is_rooted(path):
            return self._in_places(path)
        if path.is_file():
            return path
        for cut in range(1, len(path.parts)):
            found = self._in_places(Path(*path.parts[cut:]))
            if found is not None:
                if self._moved.setdefault(found, str(name)) != str(name):
                    raise ValueError(
                        f"{self._moved[found]} and {name} are paths of another machine, and for both only {found} is "
                        "here; write them from where the files are now."
                    )
                return found
        return None

    def _in_places(self, path: Path) -> Path | None:
        for place in self.places:
            if (place / path).is_file():
                return place / path
        if not self.suffixes:
            return None
        found = next(filter(None, (self._alike(place / path.parent, path.name) for place in self.places)), None)
        return self._in_parts(path.name) if found is None and len(path.parts) == 1 else found

    def _in_parts(self, name: str) -> Path | None:
        """The one file that a name means in all parts together."""
        if self._divided is None:
            self._divided = {}
            for part in self.parts:
                for key, files in self._list(part).items():
                    self._divided.setdefault(key, []).extend(files)
        return self._meant(self._divided, name)

    def _alike(self, folder: Path, name: str) -> Path | None:
        """The one file in a folder that a name means: but for capitals if it has a suffix, or else but for the suffix.

        A number in a table has lost the zeros in front.
        """
        if folder not in self._listed:
            self._listed[folder] = self._list(folder)
        return self._meant(self._listed[folder], name)

    def _meant(self, listed: dict[tuple[str, str], list[Path]], name: str) -> Path | None:
        if name.lower().endswith(self.suffixes):
            found = listed.get(("name", name.lower()), [])
        else:
            found = listed.get(("stem", name)) or listed.get(("number", name), [])
        return found[0] if len(found) == 1 else None

    def _list(self, folder: Path) -> dict[tuple[str, str], list[Path]]:
        listed: dict[tuple[str, str], list[Path]] = {}
        for file in visible(folder) if folder.is_dir() else []:
            if file.suffix.lower() in self.suffixes:
                listed.setdefault(("name", file.name.lower()), []).append(file)
                listed.setdefault(("stem", file.stem), []).append(file)
                if re.fullmatch("[0-9]+", file.stem):
                    listed.setdefault(("number", str(int(file.stem))), []).append(file)
        return listed


def path_of(name: Any) -> Path | None:
    """A cell that names a file as a path, with slashes; None where it is empty or nothing of the kind."""
    if isinstance(name, float) and name.is_integer():
        name = int(name)  # pandas makes floats of whole numbers where a cell is empty
    if isinstance(name, bool) or not isinstance(name, str | int) or not str(name).strip():
        return None
    return Path(str(name).strip().replace("\\", "/"))


def _is_rooted(path: Path) -> bool:
    """Whether a path begins at a root, of this system or of Windows."""
    return path.is_absolute() or re.fullmatch("[A-Za-z]:", path.parts[0] if path.parts else "") is not None


def lookup_beside(file: Path, suffixes: Sequence[str], names: Iterable[Any], root: Path | None = None) -> Lookup:
    """A lookup of the files that a table names; of none of them in the usual places, in all folders beside the table.

    Not of those that are missing where others are: a folder of the test split may hold others of the same names. With
    ``root``, nothing outside of it is found.
    """
    places = [
        place for place in places_beside(file) if root is None or place.absolute().is_relative_to(root.absolute())
    ]
    usual = Lookup(places, suffixes, root=root)
    if any(map(usual.find, names)):
        return usual
    return Lookup(usual.places, suffixes, [held for held in visible(file.parent) if held.is_dir()], root)


def places_beside(file: Path) -> list[Path]:
    """Folders in which the files are that a table names: beside it, the working directory, and where they are usual."""
    beside, stem = file.parent, file.stem
    usual = [beside / stem, beside / f"{stem}_images", beside / "images", beside / "images" / stem]
    return [beside, Path(), *(folder for folder in usual if folder.is_dir()), beside.absolute().parent]
