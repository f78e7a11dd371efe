"""Folders whose files are a sample each: by split, by class, or images with masks."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from metatx.data.file_columns import MASKS
from metatx.data.table_files import TABLES, mark_files
from metatx.examples import Reader
from metatx.progress import tell
from metatx.reading.folders import files_below, visible
from metatx.reading.split_names import KNOWN, one_each, resembles, split_of, splits_of

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["ADVICE", "read_files", "split_folders", "tell_left"]

IMAGES = ("images", "image", "imgs")  # names of a folder of images
MASKED = ("masks", "mask")  # names of the folder of their masks
FOREIGN = {"labels": (".txt", "YOLO"), "annotations": (".xml", "Pascal VOC")}  # folders of boxes that are not read
ADVICE = "Name them by split, move what is no data elsewhere, or give the data of each split by itself: DATA, --test."


def split_folders(path: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Folders by the split that they are named after; empty if folders are classes, or there are none.

    Raises:
        ValueError: If some folders are named after splits and others that hold data are not.
    """
    folders = [item for item in visible(path) if item.is_dir()]
    named = {folder: folder.name for folder in folders}
    split_by_name = splits_of(named.values())
    below = {folder: _data_in(folder, suffixes) for folder in folders}
    others = [folder for folder in folders if folder.name not in split_by_name and below[folder]]
    if not split_by_name or (others and _all_hold_splits([*others, *(f for f in folders if f.name in split_by_name)])):
        # seg_train/, seg_test/ and seg_pred/ are no classes; train_station/ and test_tube/ among others are.
        alike = [folder for folder in others if resembles(folder.name)]
        seen = {split for folder in alike for split in resembles(folder.name)}
        if "train" in seen and len(seen) > 1 and 2 * len(alike) >= len(others) and not _pair(path):
            names = ", ".join(folder.name for folder in others)
            raise ValueError(
                f"{path} holds {names}: folders of no known split. Splits are called {KNOWN}; rename the folders that "
                "are splits."
            )
        return {}
    if not others:
        return one_each(folders, named)
    splits = set(split_by_name.values())
    flat = all(file.parent == folder for folder in folders for file in below[folder])
    alike = [folder for folder in others if resembles(folder.name)]
    if flat and len(split_by_name) == 1 and not alike and (len(others) > 1 or splits != {"train"}):
        classes = ", ".join(folder.name for folder in folders if below[folder])
        name = next(iter(split_by_name))
        tell(f"{path}: {name} lies among folders of other names, so it is taken for a class: {classes}.")
        return {}
    raise ValueError(
        f"{path} has folders of splits ({', '.join(split_by_name)}), and {', '.join(f.name for f in others)} beside "
        f"them would be left out. {ADVICE}"
    )


def _data_in(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Files of samples below a folder, and metadata."""
    accepted = suffixes or TABLES
    return [file for file in files_below(folder) if file.suffix.lower() in accepted or file.stem.lower() == "metadata"]


def _all_hold_splits(folders: Iterable[Path]) -> bool:
    """Return whether all folders hold folders of splits and nothing else, as ModelNet40's classes do."""
    contents = [visible(folder) for folder in folders]
    return all(inner and all(item.is_dir() and split_of(item.name) for item in inner) for inner in contents)


def read_files(
    path: Path, suffixes: tuple[str, ...], readers: Mapping[str, Reader], left: list[Path], whole: bool = False
) -> "Dataset":
    """Make a table of the files below a folder, with their masks or with the names of their folders as labels.

    Args:
        path: Folder to read.
        suffixes: Suffixes of files that are a sample each.
        readers: Readers of containers, by suffix; for messages.
        left: List to which files that are not read are appended.
        whole: True if the folder holds all data, so that folders in it may be splits.

    Raises:
        ValueError: If there are no such files, or only some of them would be read.
    """
    pair = _pair(path)
    files = files_below(path)
    if pair:
        table = _read_pairs(path, *pair, suffixes)
    else:
        _refuse_foreign(path)
        table = _read_classes(path, files, suffixes, readers, whole)
    mark_files(table)
    read = {file for column in ("file", "mask") if column in table.column_names for file in table[column]}
    left.extend(file for file in files if str(file) not in read)
    return table


def _read_classes(
    path: Path, files: list[Path], suffixes: tuple[str, ...], readers: Mapping[str, Reader], whole: bool
) -> "Dataset":
    """Make a table of samples; ``label`` is the name of a sample's folder, ``split`` that of a folder in it."""
    from datasets import Dataset

    samples = [file for file in files if file.suffix.lower() in suffixes]
    if not samples:
        raise ValueError(_nothing(path, files, suffixes, readers))
    places = [file.relative_to(path).parts for file in samples]
    labels = [place[0] if len(place) > 1 else None for place in places]
    columns: dict[str, list[str | None]] = {"file": [str(file) for file in samples]}
    if any(labels):
        columns["label"] = labels
        loose = [file.name for file, label in zip(samples, labels, strict=True) if label is None]
        if loose:
            tell(f"{path}: {_count(loose)} without a label, outside the folders of classes, such as {loose[0]}.")
    names = [place[1] if len(place) > 2 else "" for place in places]
    splits = splits_of(dict.fromkeys(names)) if whole else {}
    strange = [file for file, name in zip(samples, names, strict=True) if name not in splits]
    if splits and strange:
        raise ValueError(
            f"{path}: {strange[0].relative_to(path)} lies in no folder of a split, where {len(samples) - len(strange)} "
            f"other files do ({', '.join(splits)}). {ADVICE}"
        )
    if splits:
        columns["split"] = [splits[name] for name in names]
    return Dataset.from_dict(columns)


def _pair(path: Path) -> tuple[Path, Path] | None:
    """Folders of images and of masks; None without both."""
    folders = _folders_in(path)
    images = [folders[name] for name in IMAGES if name in folders]
    masks = [folders[name] for name in MASKED if name in folders]
    return (images[0], masks[0]) if images and masks else None


def _read_pairs(path: Path, image_folder: Path, masks: Path, suffixes: tuple[str, ...]) -> "Dataset":
    """Make a table of images and the masks of the same names, by split if both folders hold folders of splits."""
    from datasets import Dataset

    images = _by_name(image_folder, suffixes)
    masked = _by_name(masks, MASKS)
    alone = sorted(images.keys() ^ masked.keys())
    if alone or not images:
        named = ", such as " + "/".join(alone[0]) if alone else ""
        raise ValueError(
            f"{path}: {len(alone)} files in {image_folder.name} or {masks.name} have no partner of the same name"
            f"{named}; images end in {', '.join(suffixes)}, masks in {', '.join(MASKS)}."
        )
    columns = {"file": [str(images[name]) for name in images], "mask": [str(masked[name]) for name in images]}
    splits = splits_of({name[0] for name in images if len(name) > 1})
    if splits:
        strange = [name for name in images if len(name) == 1 or name[0] not in splits]
        if strange:
            raise ValueError(f"{path}: {'/'.join(strange[0])} lies in no folder of a split, and others do. {ADVICE}")
        columns["split"] = [splits[name[0]] for name in images]
    return Dataset.from_dict(columns)


def _by_name(folder: Path, suffixes: tuple[str, ...]) -> dict[tuple[str, ...], Path]:
    """Files below a folder by their path in it without suffix. Raises ValueError if two differ only in the suffix."""
    by_name: dict[tuple[str, ...], Path] = {}
    for file in files_below(folder):
        if file.suffix.lower() not in suffixes:
            continue
        name = file.relative_to(folder).with_suffix("").parts
        if name in by_name:
            raise ValueError(f"{by_name[name]} and {file} differ in their suffix alone; leave one of them.")
        by_name[name] = file
    return by_name


def _folders_in(path: Path) -> dict[str, Path]:
    """Folders in a folder by their names in lower case."""
    return {item.name.lower(): item for item in visible(path) if item.is_dir()}


def _refuse_foreign(path: Path) -> None:
    """Refuse images beside boxes in the formats of YOLO or Pascal VOC, or with masks in a folder ``labels``.

    Raises:
        ValueError: If a folder of images has such a folder beside it.
    """
    folders = _folders_in(path)
    if not folders.keys() & {*IMAGES, "jpegimages"}:
        return
    kinds = {name: {file.suffix.lower() for file in files_below(folders[name])} for name in FOREIGN if name in folders}
    for name, suffixes in kinds.items():
        if FOREIGN[name][0] in suffixes and not suffixes & set(MASKS):
            raise ValueError(
                f"{path}: {folders[name].name}/ holds boxes as {FOREIGN[name][1]} writes them; metatx reads boxes from "
                "COCO json. Export them so, as annotations.json beside the folder of images."
            )
        if suffixes and suffixes <= set(MASKS):
            raise ValueError(f"{path}: {folders[name].name}/ holds images; if those are masks, call it masks/.")


# Messages


def _nothing(path: Path, files: Sequence[Path], suffixes: tuple[str, ...], readers: Mapping[str, Reader]) -> str:
    """Message about a folder without samples: what it holds, and what would be read."""
    kinds = _kinds(files) or "nothing"
    containers = ", ".join(name for name in readers if name.startswith(".") and name not in suffixes)
    tables = f"a table ({', '.join(TABLES)}) with a row a sample, lists of numbers within cells where a sample has many"
    named = f"; or files {containers}, one by itself or each called by its split (train, val, test)"
    if not containers:
        named = ""
    if suffixes:
        return (
            f"{path} holds no {', '.join(suffixes)}, but {kinds}; expected such files, in one folder a class where "
            f"they have classes, or {tables}{named}."
        )
    return (
        f"{path} holds {kinds}; of this modality, files in folders are not read as a sample each. Give {tables}, or a "
        f"folder with one a split (train.csv, test.csv){named}."
    )


def tell_left(path: Path, suffixes: tuple[str, ...], left: Sequence[Path]) -> None:
    """Report how many files are left out: files of other kinds, and samples outside the folders of splits."""
    others = [file for file in left if file.suffix.lower() not in (*suffixes, ".md")]
    # Files without suffix in the outermost folder are licences, readmes, checksums.
    others = [file for file in others if file.suffix or file.parent != path]
    if others and suffixes:
        tell(f"{path}: {_count(others)} of other kinds left out: {_kinds(others)}.")
    beside = [file for file in left if file.suffix.lower() in suffixes]
    if beside:
        tell(f"{path}: {_count(beside)} outside the data left out, such as {beside[0].relative_to(path)}.")


def _count(files: Sequence[object]) -> str:
    return "1 file" if len(files) == 1 else f"{len(files)} files"


def _kinds(files: Iterable[Path]) -> str:
    """Suffixes and the number of files of each: ``.gif 2, .txt 4``."""
    counts = Counter(file.suffix.lower() or "without suffix" for file in files)
    return ", ".join(f"{suffix} {count}" for suffix, count in sorted(counts.items()))
