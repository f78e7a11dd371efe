"""COCO files: pictures and the boxes in them."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metatx.errors import short
from metatx.reading.boxes import is_crowd
from metatx.reading.folders import escaped, inside
from metatx.reading.image import upright_size

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["Listed", "coco_content", "listed", "read_coco"]

# What each entry of a COCO file must have, and of what type.
ENTRIES: dict[str, dict[str, type | tuple[type, ...]]] = {
    "images": {"id": (int, float, str), "file_name": str},
    "categories": {"id": (int, float, str), "name": (int, str)},
    "annotations": {"image_id": (int, float, str), "category_id": (int, float, str), "bbox": list},
}
TRIED = 20  # pictures that are looked for in a folder, to know whether it is the one


class Listed(str):
    """The file of a picture that a COCO file lists, and what that calls it.

    Attributes:
        entry: ``id`` and ``file_name``.
        categories: Those of the file, ``id`` and ``name`` of each, as json.
    """

    entry: dict[str, Any]
    categories: str


def coco_content(path: Path) -> dict[str, Any] | None:
    """What a json file in COCO's form holds, in any encoding that json may have; None if it is none.

    A list of rows is not parsed for that.
    """
    with path.open("rb") as file:
        start = file.read(100)
    if not start.decode(json.detect_encoding(start), "ignore").lstrip().startswith("{"):
        return None
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None
    return content if _is_coco(content) else None


def _is_coco(content: Any) -> bool:
    """Whether it lists images, and annotations or categories, as files of pictures to predict have no annotations."""
    return (
        isinstance(content, dict) and "images" in content and not content.keys().isdisjoint(ENTRIES.keys() - {"images"})
    )


def read_coco(path: Path, content: dict[str, Any] | None = None) -> "Dataset":
    """A table of a COCO file: ``file``, and ``objects`` as Hugging Face's object detection data have them.

    Of each box ``bbox`` (left, top, width, height in pixels, as the file says), ``category`` (its name) and, where the
    file has crowds, ``iscrowd``; ``width`` and ``height`` of the picture, upright. ``coco`` is what the file calls the
    picture, as json, for ``listed``. Rows are in the order of the images' ids, in which pycocotools measures. Of boxes
    that ``write_coco`` wrote, those below its threshold are left out.

    Args:
        path: Of the file.
        content: What it holds, where that is known.

    Raises:
        ValueError: If it is no such file, ids are not unique, or its pictures are not beside it, or are of another
            size than it says.
    """
    from datasets import Dataset

    try:
        content = content or json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as json: {error}") from None
    if not _is_coco(content):
        raise ValueError(f"{path} is no COCO file; one holds images, annotations and categories.")
    content = {**dict.fromkeys(ENTRIES, []), **content}
    images, names, boxes = _checked(path, content)
    if not images:
        raise ValueError(f"{path} holds no samples.")
    crowds = any(crowd for found in boxes.values() for _, _, crowd in found)
    rows = []
    for (number, image), file in zip(images.items(), _files(path, list(images.values())), strict=True):
        said = _side(image.get("width")), _side(image.get("height"))
        width, height = upright_size(file) or said
        if None not in said and said != (width, height):
            raise ValueError(
                f"{path} says that {file.name} is {said[0]:g} x {said[1]:g} pixels; it is {width} x {height}, and so "
                "its boxes may be elsewhere."
            )
        objects = {
            "bbox": [box for box, _, _ in boxes[number]],
            "category": [names[category] for _, category, _ in boxes[number]],
            "width": width,
            "height": height,
        }
        flags = {"iscrowd": [int(crowd) for _, _, crowd in boxes[number]]} if crowds else {}
        entry = json.dumps({"id": number, "file_name": image["file_name"]})
        rows.append({"file": str(file), "objects": objects | flags, "coco": entry})
    table = Dataset.from_list(rows)
    table.info.description = json.dumps([{"id": number, "name": name} for number, name in names.items()])
    return table


def listed(files: Sequence[Any], table: "Dataset") -> list[Any]:
    """The files that a table of ``read_coco`` names, as ``Listed``."""
    found = []
    for file, entry in zip(files, table["coco"], strict=True):
        picture = Listed(file)
        picture.entry, picture.categories = json.loads(entry), table.info.description
        found.append(picture)
    return found


def _checked(path: Path, content: dict[str, Any]) -> tuple[dict[Any, Any], dict[Any, str], dict[Any, list[Any]]]:
    """By id, ascending: the images, names of the categories, and each image's boxes (bbox, category's id, crowd).

    Raises:
        ValueError: As ``read_coco``.
    """
    for part, fields in ENTRIES.items():
        if not isinstance(content[part], list):
            raise ValueError(f"{path}: {part} is a {type(content[part]).__name__}; expected a list.")
        for number, entry in enumerate(content[part], start=1):
            for field, kind in fields.items():
                found = entry.get(field) if isinstance(entry, dict) else None
                if not isinstance(found, kind) or (isinstance(found, str) and escaped(Path(found)) != str(Path(found))):
                    raise ValueError(f"{path}: {field} of entry {number} of {part} is {short(found)}; is it damaged?")
    images = _by_id(path, content["images"], "image", "file_name")
    boxes: dict[Any, list[Any]] = {number: [] for number in images}
    categories = {
        number: str(entry["name"]) for number, entry in _by_id(path, content["categories"], "category", "name").items()
    }
    info = content.get("info")
    least = info.get("threshold", -np.inf) if isinstance(info, dict) else -np.inf
    for entry in content["annotations"]:
        name, bbox = f"annotation {entry.get('id')}", entry["bbox"]
        for field, known in (("image_id", images), ("category_id", categories)):
            if entry[field] not in known:
                ids = ", ".join(map(repr, list(known)[:3])) or "nothing"
                raise ValueError(
                    f"{path}: {name} is of {field} {entry[field]!r}, which is none of the {len(known)} listed ({ids}, "
                    "...); take it out, or list what it is of."
                )
        if len(bbox) != 4 or not all(isinstance(value, int | float) for value in bbox):
            raise ValueError(f"{path}: bbox of {name} is {bbox}; expected four numbers.")
        score = entry.get("score")
        if not isinstance(score, int | float) or score >= least:
            try:
                crowd = is_crowd(entry.get("iscrowd"))
            except ValueError as error:
                raise ValueError(f"{path}: {name}: {error}") from None
            boxes[entry["image_id"]].append(([float(value) for value in bbox], entry["category_id"], crowd))
    _check_names(path, categories, {category for found in boxes.values() for _, category, _ in found})
    return images, categories, boxes


def _side(value: Any) -> float | None:
    """A side of a picture, where an entry says it as a number or in digits; 0 is what is written for not known."""
    try:
        return float(value) or None
    except (TypeError, ValueError):
        return None


def _by_id(path: Path, entries: Sequence[dict[str, Any]], what: str, name: str) -> dict[Any, dict[str, Any]]:
    """Entries by their id, ascending. Raises ValueError, naming both, if two share it that are not equal."""
    found: dict[Any, dict[str, Any]] = {}
    for entry in entries:
        first = found.setdefault(entry["id"], entry)
        if first != entry:
            said = "listed twice, unlike" if first[name] == entry[name] else f"both {first[name]} and {entry[name]}"
            raise ValueError(
                f"{path}: {what} id {entry['id']!r} is {said}, so its annotations may be of either; give each an id of "
                "its own (were two files joined?)."
            )
    return dict(sorted(found.items(), key=lambda item: (isinstance(item[0], str), item[0])))


def _check_names(path: Path, categories: dict[Any, str], used: set[Any]) -> None:
    """Refuse two ids of one name that both have boxes; drop those without, so that the name says the id."""
    for name in {name for name in categories.values() if list(categories.values()).count(name) > 1}:
        same = [number for number, other in categories.items() if other == name]
        busy = [number for number in same if number in used]
        if len(busy) > 1:
            raise ValueError(f"{path}: categories {busy[0]!r} and {busy[1]!r} are both called {name}; rename one.")
        for number in set(same) - {(busy or same)[-1]}:
            del categories[number]


def _files(path: Path, images: Sequence[dict[str, Any]]) -> list[Path]:
    """The file of each picture: by its name in one of the usual folders, or by the last part of a foreign path.

    Raises:
        ValueError: If none of the first is there, one lies outside of the data, or two pictures are one file.
    """
    names = [image["file_name"].replace("\\", "/") for image in images]
    beside, split = path.parent, path.stem.removeprefix("instances_")
    usual = [beside / split, beside, beside / "images", beside.parent / split, beside.parent / "images" / split]
    usual.append(beside.parent / "images")
    folder = next((folder for folder in usual if _holds(folder, names)), None)
    if folder is None:
        names = [name.rsplit("/", 1)[-1] for name in names]
        near = dict.fromkeys([*usual, *sorted(child for child in beside.iterdir() if child.is_dir())])
        holding = [folder for folder in near if _holds(folder, names)]
        if not holding:
            looked = ", ".join(str(folder) for folder in near)
            raise ValueError(f"{path}: no picture {images[0]['file_name']}; looked in {looked}.")
        if len(holding) > 1:
            raise ValueError(
                f"{path}: pictures as {names[0]} are in {holding[0]} and in {holding[1]}; which are meant?"
            )
        folder = holding[0]
    root = beside if folder.is_relative_to(beside) else beside.parent
    files: dict[Path, Any] = {}
    for name, image in zip(names, images, strict=True):
        file = inside(root, folder / name, f"{path}: image {image['id']!r}:")
        other = files.setdefault(file, image["id"])
        if other != image["id"]:
            raise ValueError(f"{path}: images {other!r} and {image['id']!r} are both the file {name}; list it once.")
    return list(files)


def _holds(folder: Path, names: Sequence[str]) -> bool:
    """Whether one of the first pictures is in a folder, by a name that stays in it."""
    return any((folder / name).is_file() for name in names[:TRIED] if not _leaves(name))


def _leaves(name: str) -> bool:
    """Whether a name begins at a root, or goes up further than it went down."""
    return Path(name).is_absolute() or os.path.normpath(name).startswith("..")
