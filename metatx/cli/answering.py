"""``metatx evaluate``, ``metatx predict`` and ``metatx embed``."""

import sys
from pathlib import Path
from typing import Any

__all__ = ["embed", "evaluate", "predict"]


def evaluate(
    task: str,
    data: str,
    *,
    backbone: str | None = None,
    checkpoint: str | None = None,
    skip_bad_samples: bool = False,
) -> None:
    """Measure a saved task on labelled data.

    Args:
        task: Folder of the task, or user/task on the Hugging Face hub.
        data: As in "metatx train"; its test split, where it is split.
        backbone: The backbone, where the task's own cannot be loaded by name.
        checkpoint: File with the backbone's weights.
        skip_bad_samples: Leave out samples that cannot be used, not stop.
    """
    metrics = _load(task, backbone, checkpoint).evaluate(data, skip_bad_samples=skip_bad_samples)
    for name, value in metrics.items():
        print(f"{name} {value:.6g}")


def predict(
    task: str,
    inputs: list[str],
    *,
    out: str | None = None,
    backbone: str | None = None,
    checkpoint: str | None = None,
) -> None:
    """Answer with a saved task: one row a sample.

    Args:
        task: Folder of the task, or user/task on the Hugging Face hub.
        inputs: Tables, files or folders of samples.
        out: File to write: .csv or .jsonl; .json (COCO) for boxes; a folder for masks; .png or .npy for the map of a
            scene of many bands. Without it the terminal, as csv.
        backbone: The backbone, where the task's own cannot be loaded by name.
        checkpoint: File with the backbone's weights.
    """
    from metatx.answers import write_answers

    write_answers(_load(task, backbone, checkpoint), inputs, out, sys.stdout)


def embed(
    task: str,
    inputs: list[str],
    *,
    out: str | None = None,
    backbone: str | None = None,
    checkpoint: str | None = None,
) -> None:
    """Embed samples with a saved task: vectors of the backbone's width.

    Args:
        task: Folder of the task, or user/task on the Hugging Face hub.
        inputs: Tables, files or folders of samples.
        out: File to write, .csv or .npy (an array, float32); without it the terminal, as csv.
        backbone: The backbone, where the task's own cannot be loaded by name.
        checkpoint: File with the backbone's weights.
    """
    import numpy as np

    from metatx.answers import check_ending, write_rows
    from metatx.files import written_whole

    check_ending(out, (".csv", ".npy"))
    loaded = _load(task, backbone, checkpoint)
    vectors = np.concatenate([loaded.embed(entry) for entry in inputs])
    if out and out.endswith(".npy"):
        with written_whole(Path(out)) as temporary, temporary.open("wb") as file:
            np.save(file, vectors)
    else:
        write_rows([dict(enumerate(vector)) for vector in vectors.tolist()], out, sys.stdout)


def _load(task: str, backbone: str | None, checkpoint: str | None) -> Any:
    from metatx.task import Task
    from metatx.weights import load_backbone

    loaded = None if backbone is None else load_backbone(backbone, checkpoint=checkpoint)
    return Task.from_pretrained(task, backbone=loaded)
