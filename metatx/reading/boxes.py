"""Boxes in pictures: COCO files, and the classical detector that stands beside for comparison."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from metatx.files import written_whole
from metatx.parts.boxes import is_crowd, learnable
from metatx.progress import tell
from metatx.reading.pictures import upright_size

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["BlobForest", "Listed", "MedianBoxes", "coco_content", "listed", "read_coco", "write_coco"]

# What each entry of a COCO file must have, and of what type.
ENTRIES: dict[str, dict[str, type | tuple[type, ...]]] = {
    "images": {"id": (int, float, str), "file_name": str},
    "categories": {"id": (int, float, str), "name": (int, str)},
    "annotations": {"image_id": (int, float, str), "category_id": (int, float, str), "bbox": list},
}
TRIED = 20  # pictures that are looked for in a folder, to know whether it is the one
COLOURS = 8  # that pictures are reduced to, for their connected areas
WIDTH = 160  # pixels that pictures are reduced to, for the same
LEARNED = 500  # pictures, evenly spread, that the forest learns from
SMALLEST = 8  # pixels of a connected area at that width
OVERLAP = 0.5  # of an area's box with a true one of its class, to count as that class


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
    except ValueError:
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
    except ValueError as error:
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
                if not isinstance(found, kind):
                    raise ValueError(f"{path}: {field} of entry {number} of {part} is {found!r:.40}; is it damaged?")
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
    """Entries by their id, ascending. Raises ValueError, naming both, if two different ones share it."""
    found: dict[Any, dict[str, Any]] = {}
    for entry in entries:
        first = found.setdefault(entry["id"], entry)
        if first[name] != entry[name]:
            raise ValueError(
                f"{path}: {what} id {entry['id']!r} is both {first[name]} and {entry[name]}, so its annotations may be "
                "of either; give each an id of its own (were two files joined?)."
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
        ValueError: If none of the first is there, or two pictures are one file.
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
    files: dict[Path, Any] = {}
    for name, image in zip(names, images, strict=True):
        other = files.setdefault(folder / name, image["id"])
        if other != image["id"]:
            raise ValueError(f"{path}: images {other!r} and {image['id']!r} are both the file {name}; list it once.")
    return list(files)


def _holds(folder: Path, names: Sequence[str]) -> bool:
    """Whether one of the first pictures is in a folder."""
    return any((folder / name).is_file() for name in names[:TRIED])


def write_coco(
    path: Path,
    files: Sequence[Any],
    found: Sequence[dict[str, Any] | None],
    classes: Sequence[Any],
    threshold: float | None = None,
) -> None:
    """Write boxes as a COCO file, with ``score`` in each annotation; ``annotations`` alone is what ``loadRes`` takes.

    Pictures that ``listed`` gave keep the ids that their file has for them and for its categories.

    Args:
        path: Of the file.
        files: Names of the pictures, in their order.
        found: Of each picture ``boxes`` (M, 4), left, top, right, bottom in pixels, ``labels``, ``scores``, and
            ``extent`` (height, width); ``all`` boxes, in the same form, where more are known than answered. None of a
            picture that could not be read.
        classes: Names; their ids count from 1, where files do not say otherwise.
        threshold: Least score of an answer, noted in ``info``.
    """
    entries, categories = _ids(files, classes)
    ids = {category["name"]: category["id"] for category in categories}
    annotations: list[dict[str, Any]] = []
    for image, answer in zip(entries, found, strict=True):
        if answer is None:
            continue
        image["height"], image["width"] = (int(side) for side in answer["extent"])
        known = answer.get("all", answer)
        for box, label, score in zip(known["boxes"], known["labels"], known["scores"], strict=True):
            # Not rounded: average precision depends on the order of scores and on the last digit of an overlap.
            left, top, right, bottom = (float(value) for value in box)
            size = [right - left, bottom - top]
            entry = {"id": len(annotations) + 1, "image_id": image["id"], "category_id": ids[str(label)], "iscrowd": 0}
            area = {"bbox": [left, top, *size], "area": size[0] * size[1], "score": float(score)}
            annotations.append(entry | area)
    info = {"description": "Boxes that metatx found", **({} if threshold is None else {"threshold": threshold})}
    content = {"info": info, "images": entries, "annotations": annotations, "categories": categories}
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")


def _ids(files: Sequence[Any], classes: Sequence[Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Entries of the pictures and of the categories: those of the COCO file that lists them, or counted from 1."""
    named = [file for file in files if isinstance(file, Listed)]
    one = len({file.categories for file in named}) == 1 and len({file.entry["id"] for file in named}) == len(files)
    if named and not one:
        tell("The pictures are of several COCO files whose ids differ or meet; they are numbered anew, from 1.")
    if not named or not one:
        entries = [{"id": number, "file_name": Path(str(file)).name} for number, file in enumerate(files, start=1)]
        return entries, [{"id": number, "name": str(name)} for number, name in enumerate(classes, start=1)]
    categories = json.loads(named[0].categories)
    known = {category["name"] for category in categories}
    last = max((category["id"] for category in categories if not isinstance(category["id"], str)), default=0)
    new = [str(name) for name in classes if str(name) not in known]
    more = [{"id": int(last) + number, "name": name} for number, name in enumerate(new, start=1)]
    if any(isinstance(category["id"], str) for category in categories):
        more = [{"id": name, "name": name} for name in new]
    return [dict(file.entry) for file in named], categories + more


class MedianBoxes:
    """The median box of each class, in every picture, scored by how many pictures have the class."""

    def fit(self, features: Any, answers: Sequence[np.ndarray]) -> Self:
        """Learn from boxes (M, 5) of each picture: class number, left, top, right, bottom in shares."""
        answers = [learnable(picture) for picture in answers]
        boxes = np.concatenate(answers)
        self.boxes = np.stack([np.median(boxes[boxes[:, 0] == k], axis=0) for k in np.unique(boxes[:, 0])])
        self.scores = np.array([np.mean([(picture[:, 0] == k).any() for picture in answers]) for k in self.boxes[:, 0]])
        return self

    def predict(self, features: Sequence[Any]) -> list[np.ndarray]:
        """(M, 6) of each picture: class number, box, score."""
        return [np.column_stack([self.boxes, self.scores])] * len(features)


class BlobForest:
    """Connected areas of one colour as candidates, and a random forest that says which class each is, if any.

    Colours are k-means clusters; an area is described by its box, its place, how much of the box it fills, and its
    colour; the forest learns from areas whose box covers a true one by half.
    """

    def fit(self, features: Sequence[np.ndarray], answers: Sequence[np.ndarray]) -> Self:
        """Learn from pictures (H, W, C) in 0..1 and boxes (M, 5) of each, as ``MedianBoxes``."""
        from sklearn.cluster import MiniBatchKMeans
        from sklearn.ensemble import RandomForestClassifier

        rng = np.random.default_rng(0)
        answers = [learnable(picture) for picture in answers]
        chosen = range(0, len(features), -(-len(features) // LEARNED))
        pixels = [_drawn(features[i], rng) for i in chosen]
        self.colours = MiniBatchKMeans(COLOURS, random_state=0, n_init=3).fit(np.concatenate(pixels))
        rows, labels = [], []
        for picture, truth in ((features[i], answers[i]) for i in chosen):
            candidates = self._candidates(picture)
            overlaps = _overlaps(candidates[:, :4], truth[:, 1:])
            best = overlaps.argmax(1) if len(truth) else np.zeros(len(candidates), dtype=int)
            hit = overlaps.max(1, initial=0) >= OVERLAP
            rows.append(candidates)
            labels.append(np.where(hit, truth[best, 0] if len(truth) else -1, -1))
        forest = RandomForestClassifier(200, min_samples_leaf=2, n_jobs=-1, random_state=0)
        self.forest = forest.fit(np.concatenate(rows), np.concatenate(labels).astype(int))
        return self

    def predict(self, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        """(M, 6) of each picture: class number, box, score."""
        found = []
        for picture in features:
            candidates = self._candidates(picture)
            if not len(candidates):
                found.append(np.zeros((0, 6)))
                continue
            shares = self.forest.predict_proba(candidates)
            rows = [
                np.column_stack([np.full(len(candidates), k), candidates[:, :4], shares[:, column]])
                for column, k in enumerate(self.forest.classes_)
                if k >= 0
            ]
            found.append(np.concatenate(rows) if rows else np.zeros((0, 6)))
        return found

    def _candidates(self, picture: np.ndarray) -> np.ndarray:
        """(A, F): box in shares, width, height, fill, mean colour, which of the clusters."""
        from scipy.ndimage import find_objects, label

        step = max(1, picture.shape[1] // WIDTH)
        small = picture[::step, ::step]
        height, width, channels = small.shape
        clusters = self.colours.predict(small.reshape(-1, channels)).reshape(height, width)
        rows = [np.zeros((0, 8 + channels))]
        for cluster in range(COLOURS):
            areas, _ = label(clusters == cluster)
            for number, (down, across) in enumerate(find_objects(areas), start=1):
                inside = areas[down, across] == number
                if inside.sum() < SMALLEST:
                    continue
                box = [across.start / width, down.start / height, across.stop / width, down.stop / height]
                colour = small[down, across][inside].mean(0)
                rows.append(np.array([[*box, box[2] - box[0], box[3] - box[1], inside.mean(), *colour, cluster]]))
        return np.concatenate(rows)


def _drawn(picture: np.ndarray, rng: np.random.Generator, count: int = 500) -> np.ndarray:
    """Some pixels (count, C) of a picture (H, W, C)."""
    return rng.choice(picture.reshape(-1, picture.shape[-1]), count)


def _overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union (M, N) of boxes (M, 4) and (N, 4)."""
    low, high = np.maximum(boxes[:, None, :2], others[None, :, :2]), np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(2)
    sizes = [(found[:, 2:] - found[:, :2]).prod(1) for found in (boxes, others)]
    ratio: np.ndarray = shared / np.maximum(sizes[0][:, None] + sizes[1][None] - shared, 1e-12)
    return ratio
