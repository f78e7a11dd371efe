"""COCO files: images, their boxes and the categories of the boxes."""

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

# Fields that each entry of a COCO file must have, with their types.
ENTRIES: dict[str, dict[str, type | tuple[type, ...]]] = {
    "images": {"id": (int, float, str), "file_name": str},
    "categories": {"id": (int, float, str), "name": (int, str)},
    "annotations": {"image_id": (int, float, str), "category_id": (int, float, str), "bbox": list},
}
TRIED = 20  # images that are looked for in a folder before it is taken for the folder of all


class Listed(str):
    """Path of an image that a COCO file lists, with its entry there.

    Attributes:
        entry: ``id`` and ``file_name`` of the image.
        categories: ``id`` and ``name`` of all categories of the COCO file, as json.
    """

    entry: dict[str, Any]
    categories: str


def coco_content(path: Path) -> dict[str, Any] | None:
    """Parse a json file, in any encoding of json, if it is a COCO file; else return None.

    A file that holds a list is not parsed.
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
    """Return whether content lists images, and annotations or categories: images to predict have no annotations."""
    return (
        isinstance(content, dict) and "images" in content and not content.keys().isdisjoint(ENTRIES.keys() - {"images"})
    )


def read_coco(path: Path, content: dict[str, Any] | None = None) -> "Dataset":
    """Read a COCO file into a table with the columns ``file``, ``objects`` and ``coco``, sorted by the images' ids.

    ``objects`` has the form of Hugging Face's object detection data sets: for each box its ``bbox`` (left, top, width,
    height in pixels), its ``category`` (a name) and, in files with crowds, ``iscrowd``; and the ``width`` and
    ``height`` of the upright image. ``coco`` is the image's entry as json, for ``listed``. pycocotools measures in the
    same order. In files of ``write_coco``, boxes below the threshold are left out.

    Args:
        path: File to read.
        content: Content of the file, if it is parsed already.

    Raises:
        ValueError: If it is no COCO file, ids are not unique, images are not found beside it, or an image has another
            size than the file says.
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
    crowds = any(crowd for of_image in boxes.values() for _, _, crowd in of_image)
    rows = []
    for (number, image), file in zip(images.items(), _files(path, list(images.values())), strict=True):
        declared = _side(image.get("width")), _side(image.get("height"))
        width, height = upright_size(file) or declared
        if None not in declared and declared != (width, height):
            raise ValueError(
                f"{path} says that {file.name} is {declared[0]:g} x {declared[1]:g} pixels; it is {width} x {height}, "
                "and so its boxes may be elsewhere."
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
    """Convert the files of a table of ``read_coco`` to ``Listed``."""
    images = []
    for file, entry in zip(files, table["coco"], strict=True):
        image = Listed(file)
        image.entry = json.loads(entry)
        image.categories = table.info.description
        images.append(image)
    return images


def _checked(path: Path, content: dict[str, Any]) -> tuple[dict[Any, Any], dict[Any, str], dict[Any, list[Any]]]:
    """Check the content of a COCO file.

    Returns:
        Images by id, ascending; names of categories by id; boxes by the image's id, each as (bbox, id of its category,
        crowd).

    Raises:
        ValueError: Cases of ``read_coco``.
    """
    for part, fields in ENTRIES.items():
        if not isinstance(content[part], list):
            raise ValueError(f"{path}: {part} is a {type(content[part]).__name__}; expected a list.")
        for number, entry in enumerate(content[part], start=1):
            for field, kind in fields.items():
                value = entry.get(field) if isinstance(entry, dict) else None
                if not isinstance(value, kind) or (isinstance(value, str) and escaped(Path(value)) != str(Path(value))):
                    raise ValueError(f"{path}: {field} of entry {number} of {part} is {short(value)}; is it damaged?")
    images = _by_id(path, content["images"], "image", "file_name")
    boxes: dict[Any, list[Any]] = {number: [] for number in images}
    categories = {
        number: str(entry["name"]) for number, entry in _by_id(path, content["categories"], "category", "name").items()
    }
    info = content.get("info")
    least = info.get("threshold", -np.inf) if isinstance(info, dict) else -np.inf
    for entry in content["annotations"]:
        name = f"annotation {entry.get('id')}"
        bbox = entry["bbox"]
        for field, by_id in (("image_id", images), ("category_id", categories)):
            if entry[field] not in by_id:
                ids = ", ".join(map(repr, list(by_id)[:3])) or "nothing"
                raise ValueError(
                    f"{path}: {name} has {field} {entry[field]!r}, which is none of the {len(by_id)} listed ({ids}, "
                    "...); remove the annotation, or list what it refers to."
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
    _check_names(path, categories, {category for of_image in boxes.values() for _, category, _ in of_image})
    return images, categories, boxes


def _side(value: Any) -> float | None:
    """Side of an image in pixels, from a number or digits; None where it is missing or 0, which means unknown."""
    try:
        return float(value) or None
    except (TypeError, ValueError):
        return None


def _by_id(path: Path, entries: Sequence[dict[str, Any]], what: str, name: str) -> dict[Any, dict[str, Any]]:
    """Entries by id, ascending. Raises ValueError if two entries that differ share an id."""
    by_id: dict[Any, dict[str, Any]] = {}
    for entry in entries:
        first = by_id.setdefault(entry["id"], entry)
        if first != entry:
            both = "listed twice, unlike" if first[name] == entry[name] else f"both {first[name]} and {entry[name]}"
            raise ValueError(
                f"{path}: {what} id {entry['id']!r} is {both}, so its annotations may be of either; give each an id of "
                "its own (were two files joined?)."
            )
    return dict(sorted(by_id.items(), key=lambda item: (isinstance(item[0], str), item[0])))


def _check_names(path: Path, categories: dict[Any, str], used: set[Any]) -> None:
    """Refuse two categories of one name that both have boxes; drop those without boxes, so that names are unique."""
    for name in {name for name in categories.values() if list(categories.values()).count(name) > 1}:
        same = [number for number, other in categories.items() if other == name]
        with_boxes = [number for number in same if number in used]
        if len(with_boxes) > 1:
            both = f"{with_boxes[0]!r} and {with_boxes[1]!r}"
            raise ValueError(f"{path}: categories {both} are both called {name}; rename one.")
        for number in set(same) - {(with_boxes or same)[-1]}:
            del categories[number]


def _files(path: Path, images: Sequence[dict[str, Any]]) -> list[Path]:
    """Find the file of each image: by its name in one of the usual folders, or by the last part of a foreign path.

    Raises:
        ValueError: If no folder holds one of the first images, a file lies outside the data, or two images are one
            file.
    """
    names = [image["file_name"].replace("\\", "/") for image in images]
    beside = path.parent
    split = path.stem.removeprefix("instances_")
    usual = [beside / split, beside, beside / "images", beside.parent / split, beside.parent / "images" / split]
    usual.append(beside.parent / "images")
    folder = next((folder for folder in usual if _holds(folder, names)), None)
    if folder is None:
        names = [name.rsplit("/", 1)[-1] for name in names]
        near = dict.fromkeys([*usual, *sorted(child for child in beside.iterdir() if child.is_dir())])
        holding = [folder for folder in near if _holds(folder, names)]
        if not holding:
            looked = ", ".join(str(folder) for folder in near)
            raise ValueError(f"{path}: no image {images[0]['file_name']}; looked in {looked}.")
        if len(holding) > 1:
            raise ValueError(
                f"{path}: images such as {names[0]} are in {holding[0]} and in {holding[1]}; rename the folder that is "
                "not meant."
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
    """Return whether a folder holds one of the first images, by a name that does not lead out of it."""
    return any((folder / name).is_file() for name in names[:TRIED] if not _leaves(name))


def _leaves(name: str) -> bool:
    """Return whether a path is absolute, or leads out of the folder it starts in."""
    return Path(name).is_absolute() or os.path.normpath(name).startswith("..")
