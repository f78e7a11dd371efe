"""Files of a folder, without those that operating systems and editors leave there; paths that stay inside it."""

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["FOLLOW", "check_folder", "check_name", "escaped", "files_below", "inside", "is_hidden", "visible"]

FOLLOW = "METATX_FOLLOW_LINKS"

# Names of what Windows, macOS and file servers leave in folders.
LEFT = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "@eadir"}


def is_hidden(name: str) -> bool:
    """Return whether a name is that of no data: hidden, or left by Windows, macOS or a file server."""
    return name.startswith(".") or name.lower() in LEFT


def visible(folder: Path) -> list[Path]:
    """Files and folders in a folder, sorted; hidden ones are left out."""
    return sorted(folder / name for name in os.listdir(folder) if not is_hidden(name))


def files_below(folder: Path) -> list[Path]:
    """All files in a folder and its subfolders, sorted; links are followed, hidden files and folders left out."""
    return list(_files(folder, ()))


def _files(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in above:  # a link to one of its own parents
        return
    with os.scandir(folder) as entries:
        kept = sorted((entry for entry in entries if not is_hidden(entry.name)), key=lambda entry: entry.name)
    # Sorting paths would take ten times as long, for the same order.
    for entry in kept:
        if entry.is_dir():
            yield from _files(folder / entry.name, (*above, real))
        else:
            yield folder / entry.name


def inside(root: Path, file: Path, named: str) -> Path:
    """Return a file that a data set names, if it lies in the data set's folder.

    Args:
        root: Folder of the data set; may be a link itself.
        file: File that is named; may not exist.
        named: Subject of the message, such as "a.csv, row 3: file".

    Raises:
        ValueError: If the path leads out of the folder, or a link in it does and METATX_FOLLOW_LINKS is not 1.
    """
    if Path(os.path.realpath(file)).is_relative_to(_holding_folder(root)):
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


def _holding_folder(root: Path) -> Path:
    """Folder in which the links of a data set may end: its own, or its repository in Hugging Face's cache."""
    real = Path(os.path.realpath(root))
    for folder in (real, *real.parents):
        if folder.parent.name == "snapshots" and (folder.parents[1] / "blobs").is_dir():
            return folder.parents[1]
    return real


def check_folder(root: Path) -> None:
    """Refuse a data set's folder with a link that leads out of it, or a name that is no UTF-8. Raises ValueError."""
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
    """Refuse a path that is no valid UTF-8, for no table can hold it. Raises ValueError."""
    if escaped(path) != str(path):
        raise ValueError(f"The name {escaped(path)} is no UTF-8 (its bytes are written as \\udcXX); rename it.")


def escaped(path: Path) -> str:
    """Path as text that every output can encode."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")
