"""Predicted boxes as COCO files."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metatx.files import written_whole
from metatx.progress import tell
from metatx.reading.coco import Listed

__all__ = ["write_coco"]


def write_coco(
    path: Path,
    files: Sequence[Any],
    predictions: Sequence[dict[str, Any] | None],
    classes: Sequence[Any],
    threshold: float | None = None,
) -> None:
    """Write boxes as a COCO file with a ``score`` in each annotation; pycocotools' ``loadRes`` takes ``annotations``.

    Images from ``reading.coco.listed`` keep the ids that their COCO file gives them and its categories.

    Args:
        path: File to write.
        files: Names of the images, in their order.
        predictions: For each image a dict of ``boxes`` (M, 4), left, top, right, bottom in pixels, ``labels``,
            ``scores``, ``extent`` (height, width), and optionally ``all``, the boxes below the threshold too, in the
            same form; None for an image that could not be read.
        classes: Names of the classes; ids are counted from 1, unless the images' COCO file has others.
        threshold: Least score of a predicted box, stored in ``info``.
    """
    entries, categories = _ids(files, classes)
    ids = {category["name"]: category["id"] for category in categories}
    annotations: list[dict[str, Any]] = []
    for image, answer in zip(entries, predictions, strict=True):
        if answer is None:
            continue
        image["height"], image["width"] = (int(side) for side in answer["extent"])
        candidates = answer.get("all", answer)
        for box, label, score in zip(candidates["boxes"], candidates["labels"], candidates["scores"], strict=True):
            # Not rounded: average precision depends on the order of the scores and on the last digit of an overlap.
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
    """Entries of the images and of the categories, from the COCO file that lists the images, or counted from 1."""
    named = [file for file in files if isinstance(file, Listed)]
    same_file = len({file.categories for file in named}) == 1
    unique = same_file and len({file.entry["id"] for file in named}) == len(files)
    if named and not unique:
        tell("The images come from several COCO files with other categories or the same ids; they get new ids, from 1.")
    if not unique:
        entries = [{"id": number, "file_name": Path(str(file)).name} for number, file in enumerate(files, start=1)]
        return entries, [{"id": number, "name": str(name)} for number, name in enumerate(classes, start=1)]
    categories = json.loads(named[0].categories)
    present = {category["name"] for category in categories}
    last = max((category["id"] for category in categories if not isinstance(category["id"], str)), default=0)
    new = [str(name) for name in classes if str(name) not in present]
    more = [{"id": int(last) + number, "name": name} for number, name in enumerate(new, start=1)]
    if any(isinstance(category["id"], str) for category in categories):
        more = [{"id": name, "name": name} for name in new]
    return [dict(file.entry) for file in named], categories + more
