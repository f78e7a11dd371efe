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
    found: Sequence[dict[str, Any] | None],
    classes: Sequence[Any],
    threshold: float | None = None,
) -> None:
    """Write boxes as a COCO file, with ``score`` in each annotation; ``annotations`` alone is what ``loadRes`` takes.

    Images that ``listed`` gave keep the ids that their file has for them and for its categories.

    Args:
        path: Of the file.
        files: Names of the images, in their order.
        found: Of each image ``boxes`` (M, 4), left, top, right, bottom in pixels, ``labels``, ``scores``, and
            ``extent`` (height, width); ``all`` boxes, in the same form, where more are known than answered. None of a
            image that could not be read.
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
    """Entries of the images and of the categories: those of the COCO file that lists them, or counted from 1."""
    named = [file for file in files if isinstance(file, Listed)]
    one = len({file.categories for file in named}) == 1 and len({file.entry["id"] for file in named}) == len(files)
    if named and not one:
        tell("The images are of several COCO files whose ids differ or meet; they are numbered anew, from 1.")
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
