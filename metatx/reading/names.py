"""Finding the files that a table or a COCO file names, wherever it was written."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from metatx.reading.folders import visible

__all__ = ["Lookup", "places_beside"]

NUMBER = "/"  # before a number that a file's name is, which no name can begin with


class Lookup:
    """Finds named files in some places, in their order.

    Backslashes count as slashes. Of a path of another machine, as much of its end is taken as is found here. A name
    without a suffix, or a number, means the one file that is called so but for its suffix.

    Args:
        places: Folders to look in.
        suffixes: That a file may have whose name is given without one; none, if names are whole.
    """

    def __init__(self, places: Iterable[Path], suffixes: Sequence[str] = ()) -> None:
        self.places = list(dict.fromkeys(places))
        self.suffixes = tuple(suffixes)
        self._stems: dict[Path, dict[str, list[Path]]] = {}
        self._moved: dict[Path, str] = {}

    @property
    def where(self) -> str:
        """The places, for messages."""
        return ", ".join(str(place) for place in self.places)

    def find(self, name: Any) -> Path | None:
        """The file of that name; None where there is none.

        Raises:
            ValueError: If two paths of another machine come to one file here.
        """
        path = path_of(name)
        if path is None:
            return None
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

    def by_stem(self, name: Any) -> Path | None:
        """The one file that has this name but for its suffix; None where there is none, or more than one."""
        path = path_of(name)
        return None if path is None else next(filter(None, (self._with_suffix(p, path) for p in self.places)), None)

    def _in_places(self, path: Path) -> Path | None:
        for place in self.places:
            if (place / path).is_file():
                return place / path
        if path.suffix.lower() in self.suffixes:
            return None
        return self.by_stem(path)

    def _with_suffix(self, place: Path, path: Path) -> Path | None:
        folder = place / path.parent
        if folder not in self._stems:
            self._stems[folder] = self._listed(folder)
        stems = self._stems[folder]
        # A number in a table has lost the zeros in front.
        found = stems.get(path.name) or stems.get(f"{NUMBER}{path.name}", [])
        return found[0] if len(found) == 1 else None

    def _listed(self, folder: Path) -> dict[str, list[Path]]:
        """Files by name without suffix; those that are numbers with zeros in front by the number, too."""
        stems: dict[str, list[Path]] = {}
        for file in visible(folder) if self.suffixes and folder.is_dir() else []:
            if file.suffix.lower() in self.suffixes:
                stems.setdefault(file.stem, []).append(file)
                if re.fullmatch("0[0-9]+", file.stem):
                    stems.setdefault(f"{NUMBER}{int(file.stem)}", []).append(file)
        return stems


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


def places_beside(file: Path) -> list[Path]:
    """Folders in which the files are that a table names: beside it, the working directory, and where they are usual."""
    beside, stem = file.parent, file.stem
    usual = [beside / stem, beside / f"{stem}_images", beside / "images", beside / "images" / stem]
    return [beside, Path(os.curdir), *(folder for folder in usual if folder.is_dir()), beside.parent]
