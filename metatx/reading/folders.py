"""What lies in a folder, without what systems and editors leave there."""

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["FOLLOW", "check_folder", "check_name", "escaped", "files_below", "inside", "is_hidden", "visible"]

FOLLOW = "METATX_FOLLOW_LINKS"

LEFT = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "@eadir"}


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is no data: hidden, or left by Windows, macOS or a file server."""
    return name.startswith(".") or name.lower() in LEFT


def visible(folder: Path) -> list[Path]:
    """Files and folders in a folder, sorted, without those that are no data."""
    return sorted(folder / name for name in os.listdir(folder) if not is_hidden(name))


def files_below(folder: Path) -> list[Path]:
    """All files in a folder and its folders, links followed, sorted, without those that are no data."""
    return list(_files(folder, ()))


def _files(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in above:  # a link to a folder that it lies in
        return
    with os.scandir(folder) as entries:
        kept = sorted((entry for entry in entries if not is_hidden(entry.name)), key=lambda entry: entry.name)
    # Sorted here, and not as paths: that takes ten times as long, for the same order.
    for entry in kept:
        if entry.is_dir():
            yield from _files(folder / entry.name, (*above, real))
        else:
            yield folder / entry.name


def inside(root: Path, file: Path, named: str) -> Path:
    """A file that data name, if it lies in their folder.

    Args:
        root: The folder; may be a link itself.
        file: May not be there.
        named: Subject of the sentence, such as "a.csv, row 3: file".

    Raises:
        ValueError: If its name leads out of the folder, or a link does and METATX_FOLLOW_LINKS is not 1.
    """
    if Path(os.path.realpath(file)).is_relative_to(_held_in(root)):
        return file
    if not Path(os.path.abspath(file)).is_relative_to(os.path.abspath(root)):
        raise ValueError(
            f"{named} {escaped(file)} lies outside of {escaped(root)}; put it into the folder, and name it from there."
        )
    if os.environ.get(FOLLOW) == "1":
        return file
    raise ValueError(
        f"{named} {escaped(file)} is a link that leads out of {escaped(root)}; put what it leads to in its place, or "
        f"set {FOLLOW}=1 if you know who made it."
    )


def _held_in(root: Path) -> Path:
    """The folder that may hold what a data set's folder links to: itself, or its repository in Hugging Face's cache."""
    real = Path(os.path.realpath(root))
    for folder in (real, *real.parents):
        if folder.parent.name == "snapshots" and (folder.parents[1] / "blobs").is_dir():
            return folder.parents[1]
    return real


def check_folder(root: Path) -> None:
    """Refuse what is in a folder of data and leads out of it, or has a name that is no text. Raises ValueError."""
    check_name(root)
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_hidden(entry.name):
                    continue
                place = folder / entry.name
                check_name(place)
                if entry.is_symlink():
                    inside(root, place, "The data:")
                elif entry.is_dir():
                    waiting.append(place)


def check_name(path: Path) -> None:
    """Refuse a name whose bytes are no UTF-8: no table could hold it. Raises ValueError."""
    if escaped(path) != str(path):
        raise ValueError(f"The name {escaped(path)} is no UTF-8 (its bytes are written as \\udcXX); rename it.")


def escaped(path: Path) -> str:
    """A path as any output takes it."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")
