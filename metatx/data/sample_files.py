"""Folders of files that are a sample each: of splits, of classes, of images and their masks."""

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

IMAGES, MASKED = ("images", "image", "imgs"), ("masks", "mask")  # folders of images, and of their masks
FOREIGN = {"labels": (".txt", "YOLO"), "annotations": (".xml", "Pascal VOC")}  # folders of boxes that are not read
ADVICE = "Name them by split, move what is no data elsewhere, or give the data of each split by itself: DATA, --test."


def split_folders(path: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """The folders of splits, by split; empty where folders are classes, or there are none.

    Raises:
        ValueError: If some folders are called by splits and others that hold data are not.
    """
    folders = [held for held in visible(path) if held.is_dir()]
    named = {folder: folder.name for folder in folders}
    known = splits_of(named.values())
    below = {folder: _data_in(folder, suffixes) for folder in folders}
    others = [folder for folder in folders if folder.name not in known and below[folder]]
    if not known or (others and _all_hold_splits([*others, *(f for f in folders if f.name in known)])):
        # seg_train/ and seg_test/ beside seg_pred/ are no classes; a train station and a test tube among others are.
        alike = [folder for folder in others if resembles(folder.name)]
        seen = {split for folder in alike for split in resembles(folder.name)}
        if "train" in seen and len(seen) > 1 and 2 * len(alike) >= len(others) and not _pair(path):
            names = ", ".join(folder.name for folder in others)
            raise ValueError(
                f"{path} holds {names}: of no split that is known. They are called {KNOWN}; rename those that are some."
            )
        return {}
    if not others:
        return one_each(folders, named)
    splits = set(known.values())
    flat = all(file.parent == folder for folder in folders for file in below[folder])
    alike = [folder for folder in others if resembles(folder.name)]
    if flat and len(known) == 1 and not alike and (len(others) > 1 or splits != {"train"}):
        classes = ", ".join(folder.name for folder in folders if below[folder])
        tell(f"{path}: {next(iter(known))} lies among folders of other names, so it is taken for a class: {classes}.")
        return {}
    raise ValueError(
        f"{path} has folders of splits ({', '.join(known)}), and {', '.join(f.name for f in others)} beside them would "
        f"be left out. {ADVICE}"
    )


def _data_in(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Files of samples, or what says something of them."""
    known = suffixes or TABLES
    return [file for file in files_below(folder) if file.suffix.lower() in known or file.stem.lower() == "metadata"]


def _all_hold_splits(folders: Iterable[Path]) -> bool:
    """Whether folders hold folders of splits and nothing else, as ModelNet40's classes do."""
    held = [visible(folder) for folder in folders]
    return all(inner and all(item.is_dir() and split_of(item.name) for item in inner) for inner in held)


def read_files(
    path: Path, suffixes: tuple[str, ...], readers: Mapping[str, Reader], left: list[Path], whole: bool = False
) -> "Dataset":
    """A table of files, with their masks or the names of their folders; with their splits, if ``whole``.

    Files that it leaves out are added to ``left``. Raises ValueError if there are none to read, or only part of them
    would be.
    """
    pair, held = _pair(path), files_below(path)
    if pair:
        table = _read_pairs(path, *pair, suffixes)
    else:
        _refuse_foreign(path)
        table = _read_classes(path, held, suffixes, readers, whole)
    mark_files(table)
    read = {file for column in ("file", "mask") if column in table.column_names for file in table[column]}
    left.extend(file for file in held if str(file) not in read)
    return table


def _read_classes(
    path: Path, held: list[Path], suffixes: tuple[str, ...], readers: Mapping[str, Reader], whole: bool
) -> "Dataset":
    """A table of files, with the name of the folder that each lies in as ``label``, where they lie in such."""
    from datasets import Dataset

    found = [file for file in held if file.suffix.lower() in suffixes]
    if not found:
        raise ValueError(_nothing(path, held, suffixes, readers))
    places = [file.relative_to(path).parts for file in found]
    labels = [place[0] if len(place) > 1 else None for place in places]
    columns: dict[str, list[str | None]] = {"file": [str(file) for file in found]}
    if any(labels):
        columns["label"] = labels
        loose = [file.name for file, label in zip(found, labels, strict=True) if label is None]
        if loose:
            tell(f"{path}: {_count(loose)} without a label, beside the folders that name one, as {loose[0]}.")
    names = [place[1] if len(place) > 2 else "" for place in places]
    known = splits_of(dict.fromkeys(names)) if whole else {}
    strange = [file for file, name in zip(found, names, strict=True) if name not in known]
    if known and strange:
        raise ValueError(
            f"{path}: {strange[0].relative_to(path)} lies in no folder of a split, where {len(found) - len(strange)} "
            f"other files do ({', '.join(known)}). {ADVICE}"
        )
    if known:
        columns["split"] = [known[name] for name in names]
    return Dataset.from_dict(columns)


def _pair(path: Path) -> tuple[Path, Path] | None:
    """The folders of images and of masks, where there are both."""
    folders = {held.name.lower(): held for held in visible(path) if held.is_dir()}
    images = [folders[name] for name in IMAGES if name in folders]
    masks = [folders[name] for name in MASKED if name in folders]
    return (images[0], masks[0]) if images and masks else None


def _read_pairs(path: Path, image_folder: Path, masks: Path, suffixes: tuple[str, ...]) -> "Dataset":
    """A table of the files in ``images`` and those of the same name in ``masks``, of splits where both hold such."""
    from datasets import Dataset

    images = _by_name(image_folder, suffixes)
    masked = _by_name(masks, MASKS)
    alone = sorted(images.keys() ^ masked.keys())
    if alone or not images:
        named = ", as " + "/".join(alone[0]) if alone else ""
        raise ValueError(
            f"{path}: {len(alone)} files in {image_folder.name} or {masks.name} have no partner of the same name"
            f"{named}; images end in {', '.join(suffixes)}, masks in {', '.join(MASKS)}."
        )
    columns = {"file": [str(images[name]) for name in images], "mask": [str(masked[name]) for name in images]}
    known = splits_of({name[0] for name in images if len(name) > 1})
    if known:
        strange = [name for name in images if len(name) == 1 or name[0] not in known]
        if strange:
            raise ValueError(f"{path}: {'/'.join(strange[0])} lies in no folder of a split, and others do. {ADVICE}")
        columns["split"] = [known[name[0]] for name in images]
    return Dataset.from_dict(columns)


def _by_name(folder: Path, suffixes: tuple[str, ...]) -> dict[tuple[str, ...], Path]:
    """Files below a folder by their place in it, without suffix. Raises ValueError if two differ in that alone."""
    found: dict[tuple[str, ...], Path] = {}
    for file in files_below(folder):
        if file.suffix.lower() not in suffixes:
            continue
        name = file.relative_to(folder).with_suffix("").parts
        if name in found:
            raise ValueError(f"{found[name]} and {file} differ in their suffix alone; leave one of them.")
        found[name] = file
    return found


def _refuse_foreign(path: Path) -> None:
    """Raise ValueError for images beside boxes as YOLO or Pascal VOC writes them, or masks in a folder ``labels``."""
    folders = {held.name.lower(): held for held in visible(path) if held.is_dir()}
    if not folders.keys() & {*IMAGES, "jpegimages"}:
        return
    kinds = {name: {file.suffix.lower() for file in files_below(folders[name])} for name in FOREIGN if name in folders}
    for name, found in kinds.items():
        if FOREIGN[name][0] in found and not found & set(MASKS):
            raise ValueError(
                f"{path}: {folders[name].name}/ holds boxes as {FOREIGN[name][1]} writes them; metatx reads boxes from "
                "COCO json. Export them so, as annotations.json beside the folder of images."
            )
        if found and found <= set(MASKS):
            raise ValueError(f"{path}: {folders[name].name}/ holds images; if those are masks, call it masks/.")


# What is said


def _nothing(path: Path, files: Sequence[Path], suffixes: tuple[str, ...], readers: Mapping[str, Reader]) -> str:
    """That a folder holds nothing that is read, what it holds, and what would be."""
    held = _kinds(files) or "nothing"
    endings = ", ".join(ending for ending in readers if ending.startswith(".") and ending not in suffixes)
    tables = f"a table ({', '.join(TABLES)}) with a row a sample, lists of numbers within cells where a sample has many"
    named = f"; or files {endings}, one by itself or each called by its split (train, val, test)" if endings else ""
    if suffixes:
        return (
            f"{path} holds no {', '.join(suffixes)}, but {held}; expected such files, in one folder a class where they "
            f"have classes, or {tables}{named}."
        )
    return (
        f"{path} holds {held}; of this modality, files in folders are not read as a sample each. Give {tables}, or a "
        f"folder with one a split (train.csv, test.csv){named}."
    )


def tell_left(path: Path, suffixes: tuple[str, ...], left: Sequence[Path]) -> None:
    """Say once which files are left out: of other kinds, or beside the folders of splits."""
    others = [file for file in left if file.suffix.lower() not in (*suffixes, ".md")]
    # Without a suffix on top: licence, readme, checksums.
    others = [file for file in others if file.suffix or file.parent != path]
    if others and suffixes:
        tell(f"{path}: {_count(others)} of other kinds left out: {_kinds(others)}.")
    beside = [file for file in left if file.suffix.lower() in suffixes]
    if beside:
        tell(f"{path}: {_count(beside)} beside the data left out, as {beside[0].relative_to(path)}.")


def _count(files: Sequence[object]) -> str:
    return "1 file" if len(files) == 1 else f"{len(files)} files"


def _kinds(files: Iterable[Path]) -> str:
    """Suffixes and how many files have each: ``.gif 2, .txt 4``."""
    counts = Counter(file.suffix.lower() or "without suffix" for file in files)
    return ", ".join(f"{suffix} {count}" for suffix, count in sorted(counts.items()))
