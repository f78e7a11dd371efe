"""Boxes in pictures: COCO files, and the classical detector that stands beside for comparison."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from metatx.files import written_whole
from metatx.progress import tell
from metatx.reading.names import Lookup
from metatx.reading.pictures import SUFFIXES, upright_size

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["BlobForest", "MedianBoxes", "is_coco", "read_coco", "write_coco"]

# What each entry of a COCO file must have, and of what type.
ENTRIES: dict[str, dict[str, type | tuple[type, ...]]] = {
    "images": {"id": (int, str), "file_name": str},
    "categories": {"id": (int, str), "name": (int, str)},
    "annotations": {"image_id": (int, str), "category_id": (int, str), "bbox": list},
}
COLOURS = 8  # that pictures are reduced to, for their connected areas
WIDTH = 160  # pixels that pictures are reduced to, for the same
LEARNED = 500  # pictures, evenly spread, that the forest learns from
SMALLEST = 8  # pixels of a connected area at that width
OVERLAP = 0.5  # of an area's box with a true one of its class, to count as that class


def is_coco(content: Any) -> bool:
    """Whether the content of a json file is a data set in COCO's form."""
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys()


def read_coco(path: Path) -> "Dataset":
    """A table of a COCO file: ``file``, and ``objects`` as Hugging Face's object detection data have them.

    Of each box ``bbox`` (left, top, width, height in pixels) and ``category`` (its name); ``width`` and ``height`` of
    the picture, upright. Crowds are left out.

    Raises:
        ValueError: If it is no such file, its pictures are not beside it, or are of another size than it says.
    """
    from datasets import Dataset

    try:
        content = json.loads(path.read_text())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} cannot be read as json: {error}") from None
    if not is_coco(content):
        raise ValueError(f"{path} is no COCO file; one holds images, annotations and categories.")
    names, boxes = _boxes(path, content)
    if not boxes:
        raise ValueError(f"{path} holds no samples.")
    files = _pictures_of(path, content["images"])
    rows = []
    for image, file in zip(content["images"], files, strict=True):
        found = boxes[image["id"]]
        said = image.get("width"), image.get("height")
        width, height = upright_size(file) or said
        if None not in said and said != (width, height):
            raise ValueError(
                f"{path} says that {file.name} is {said[0]} x {said[1]} pixels; it is {width} x {height}, and so its "
                "boxes may be elsewhere."
            )
        objects = {
            "bbox": [box for box, _ in found],
            "category": [names[category] for _, category in found],
            "width": width,
            "height": height,
        }
        rows.append({"file": str(file), "objects": objects})
    return Dataset.from_list(rows)


def _boxes(path: Path, content: dict[str, Any]) -> tuple[dict[Any, str], dict[Any, list[Any]]]:
    """Names of the categories, and of each image its boxes with their category. Raises ValueError as ``read_coco``."""
    for part, fields in ENTRIES.items():
        if not isinstance(content[part], list):
            raise ValueError(f"{path}: {part} is a {type(content[part]).__name__}; expected a list.")
        for number, entry in enumerate(content[part], start=1):
            for field, kind in fields.items():
                found = entry.get(field) if isinstance(entry, dict) else None
                if not isinstance(found, kind):
                    raise ValueError(f"{path}: {field} of entry {number} of {part} is {found!r:.40}; is it damaged?")
    names = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
    boxes: dict[Any, list[Any]] = {image["id"]: [] for image in content["images"]}
    for entry in content["annotations"]:
        if entry["image_id"] not in boxes or entry["category_id"] not in names:
            raise ValueError(f"{path}: annotation {entry.get('id')} is of an image or category that is not listed.")
        if not all(isinstance(value, int | float) for value in entry["bbox"]):
            raise ValueError(f"{path}: bbox of annotation {entry.get('id')} is {entry['bbox']}; expected four numbers.")
        if not entry.get("iscrowd"):
            boxes[entry["image_id"]].append(([float(value) for value in entry["bbox"]], entry["category_id"]))
    return names, boxes


def _pictures_of(path: Path, images: Sequence[dict[str, Any]]) -> list[Path]:
    """The pictures that a COCO file names, in the folders where they are usual.

    Raises:
        ValueError: If none of them is there. Those that are missing beside others are bad samples.
    """
    beside, name = path.parent, path.stem.removeprefix("instances_")
    usual = [beside / name, beside, beside / "images", beside.parent / name, beside.parent / "images" / name]
    lookup = Lookup([*usual, beside.parent / "images", beside.parent], SUFFIXES)
    found = [lookup.find(image["file_name"]) for image in images]
    if not any(found):
        first = images[0]["file_name"] if images else ""
        raise ValueError(f"{path}: no picture {first}; looked in {lookup.where}.")
    missing = [image["file_name"] for image, file in zip(images, found, strict=True) if file is None]
    if missing:
        tell(f"{path}: {len(missing)} of {len(images)} pictures are not there, as {missing[0]}; in {lookup.where}.")
    return [file or beside / image["file_name"] for image, file in zip(images, found, strict=True)]


def write_coco(path: Path, files: Sequence[Any], found: Sequence[dict[str, Any]], classes: Sequence[Any]) -> None:
    """Write boxes as a COCO file, with ``score`` in each annotation.

    Args:
        path: Of the file.
        files: Names of the pictures, in their order.
        found: Of each picture ``boxes`` (M, 4), left, top, right, bottom in pixels, ``labels``, ``scores``, and
            ``extent`` (height, width).
        classes: Names; their ids count from 1.
    """
    ids = {name: number for number, name in enumerate(classes, start=1)}
    annotations: list[dict[str, Any]] = []
    for image, answer in enumerate(found, start=1):
        for box, label, score in zip(answer["boxes"], answer["labels"], answer["scores"], strict=True):
            left, top, right, bottom = (round(float(value), 2) for value in box)
            size = [round(right - left, 2), round(bottom - top, 2)]
            entry = {"id": len(annotations) + 1, "image_id": image, "category_id": ids[label], "iscrowd": 0}
            area = {"bbox": [left, top, *size], "area": round(size[0] * size[1], 2), "score": round(float(score), 4)}
            annotations.append(entry | area)
    images = [
        {"id": image, "file_name": Path(str(file)).name, "height": answer["extent"][0], "width": answer["extent"][1]}
        for image, (file, answer) in enumerate(zip(files, found, strict=True), start=1)
    ]
    categories = [{"id": number, "name": str(name)} for name, number in ids.items()]
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


class MedianBoxes:
    """The median box of each class, in every picture, scored by how many pictures have the class."""

    def fit(self, features: Any, answers: Sequence[np.ndarray]) -> Self:
        """Learn from boxes (M, 5) of each picture: class number, left, top, right, bottom in shares."""
        boxes = np.concatenate(list(answers))
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
