"""Train small tasks of every modality, tier and head for a few steps, and save them with what they answer.

    OMP_NUM_THREADS=1 python -m tests.saved_tasks.make FOLDER [NAME ...]

The tasks that are committed stay as they are for ever, so that folders of older versions are still read:

* ``version_1``: format 1, saved by the last code that wrote it (commit 5dd97ed);
* ``version_2_first``: format 2, saved by the first code that wrote it (commit fcedf7c);
* ``version_2``: format 2, saved by commit 5caeef8;
* ``version_3``: format 3, some of the same tasks, saved by the first code that wrote it.

All answers beside them are those of commit 5caeef8, to which the code of ``version_3`` gives equal ones. They differ by
less than 1e-6 from those of the code that saved formats 1 and 2 first, whose forecasts were float32 and are float64
since. Tasks of a new version go into a folder of their own.

The same code makes the same files on the same machine, so ``diff -r`` of two folders shows whether a change of the code
leaves training as it was.
"""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

import metatx
from tests.saved_tasks import samples as data
from tests.saved_tasks.answers import shared_backbone, write_answers

EVERY_LAYER = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"]
TRAINING = {"epochs": 2, "batch_size": 4, "lr": 0.02, "precision": "fp32", "seed": 0}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One task: its samples and targets, which head, and what of the backbone it trains."""

    samples: Callable[[], Any]
    targets: Callable[[], Any] | str | None  # the name of a table's column; None where the head needs none
    head: str
    tune: str = "frozen"
    merge: bool = False
    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)  # of the head
    adapter: Mapping[str, Any] | None = None


SMALL_SOUND = {"tokens": "both", "width": 4, "num_mels": 16}
SMALL_CLOUD = {"points": 32, "groups": 8, "neighbours": 6, "width": 4}
WHOLE = {"image_size": [16, 16]}  # nothing is cut away, as masks and boxes need it
CASES = {
    # Every modality, and every head
    "audio-frozen": Case(
        samples=data.clips, targets=data.classes, head="classification", tokenizer=SMALL_SOUND, options={"layers": 2}
    ),
    "graph-frozen": Case(samples=data.graphs, targets=data.numbers, head="regression"),
    "graph-frozen-molecules": Case(
        # The numbers of descriptors may change with rdkit.
        samples=data.molecules,
        targets=data.classes,
        head="classification",
        tokenizer={"descriptors": False},
    ),
    "hyperspectral-frozen": Case(
        samples=data.spectra, targets=data.classes, head="classification", options={"hidden": 8, "pooling": "mean"}
    ),
    "image-frozen": Case(samples=data.pictures, targets=data.classes, head="classification"),
    "image-frozen-detection": Case(
        samples=data.pictures,
        targets=data.boxes,
        head="detection",
        tokenizer=WHOLE,
        options={"layers": 2, "hidden": 8, "cells": 2, "max_boxes": 5, "threshold": 0.06},
    ),
    "image-frozen-embedding": Case(
        samples=data.pictures, targets=data.classes, head="embedding", options={"size": 8, "layers": 2}
    ),
    "image-frozen-segmentation": Case(
        samples=data.pictures,
        targets=data.masks,
        head="segmentation",
        tokenizer=WHOLE,
        options={"layers": 2, "hidden": 8, "cells": 2},
    ),
    "imu-frozen": Case(
        samples=data.motions, targets=data.classes, head="classification", tokenizer={"width": 4, "frame": 16}
    ),
    "infrared-frozen": Case(
        samples=data.grey_pictures, targets=data.labels, head="multilabel", tokenizer={"normalize": "instance"}
    ),
    "point_cloud-frozen": Case(
        samples=data.clouds,
        targets=data.point_masks,
        head="segmentation",
        tokenizer=SMALL_CLOUD,
        options={"layers": 2, "hidden": 8},
    ),
    "tabular-frozen": Case(samples=data.table, targets="kind", head="classification"),
    "tabular-frozen-rows": Case(
        samples=data.rows, targets=data.numbers, head="regression", tokenizer={"bins": 4, "columns": {"city": "ignore"}}
    ),
    "text-frozen": Case(
        samples=data.texts, targets=data.classes, head="classification", tokenizer={"context": 16, "overlap": 4}
    ),
    "time_series-frozen": Case(
        samples=data.hours,
        targets=None,
        head="forecasting",
        tokenizer={"lookback": 16, "patch_size": 8, "stride": 4},
        options={"horizon": data.HORIZON, "tokens": 2},
    ),
    "time_series-frozen-quantiles": Case(
        samples=data.series,
        targets=data.futures,
        head="forecasting",
        tokenizer={"lookback": 20, "patch_size": 8, "stride": 4, "channels": "mixed"},
        options={"horizon": data.HORIZON, "quantiles": [0.1, 0.5, 0.9], "per_sequence": 2, "linear": 8},
    ),
    "video-frozen": Case(
        samples=data.films,
        targets=data.numbers,
        head="regression",
        tokenizer={"tokens": "both", "frames": 4, "slices": 2},
        options={"pooling": "both", "layers": 2},
    ),
    "xray-frozen": Case(samples=data.grey_pictures, targets=data.classes, head="classification"),
    # Every tier, on modalities that differ
    "image-norm": Case(samples=data.pictures, targets=data.labels, head="multilabel", tune="norm"),
    "time_series-norm": Case(samples=data.series, targets=data.classes, head="classification", tune="norm"),
    "image-lora": Case(
        samples=data.pictures,
        targets=data.numbers,
        head="regression",
        tune="lora",
        tokenizer={"freeze_stem": False, "augment": "flip"},
        adapter={"r": 2, "alpha": 5, "target_modules": r"blocks\.1\.attn\.(qkv|proj)"},
    ),
    "tabular-lora": Case(
        samples=data.table,
        targets="kind",
        head="classification",
        tune="lora",
        adapter={"r": 3, "target_modules": EVERY_LAYER, "use_rslora": True},
    ),
    "point_cloud-lora": Case(
        samples=data.clouds,
        targets=data.classes,
        head="classification",
        tune="lora",
        tokenizer=SMALL_CLOUD,
        adapter={"r": 1, "target_modules": ["mlp.fc1", "mlp.fc2"], "use_dora": True},
    ),
    "text-lora": Case(
        samples=data.texts,
        targets=data.classes,
        head="embedding",
        tune="lora",
        tokenizer={"context": 16, "overlap": 4},
        options={"size": 8},
        adapter={"r": 2, "dropout": 0.1},
    ),
    "image-full": Case(samples=data.pictures, targets=data.classes, head="classification", tune="full"),
    "graph-full": Case(samples=data.graphs, targets=data.numbers, head="regression", tune="full"),
    "audio-merged": Case(
        samples=data.clips,
        targets=data.labels,
        head="multilabel",
        tune="lora",
        merge=True,
        tokenizer=SMALL_SOUND,
        adapter={"r": 1, "target_modules": EVERY_LAYER, "use_dora": True},
    ),
    "time_series-merged": Case(samples=data.series, targets=data.numbers, head="regression", tune="norm", merge=True),
}


def trained(name: str) -> metatx.Task:
    """The task of that name, trained."""
    case = CASES[name]
    column = case.targets is None or isinstance(case.targets, str)
    train = case.samples() if column else (case.samples(), case.targets())
    keywords: dict[str, Any] = {"target": case.targets} if column else {}
    if case.tune != "frozen":
        keywords |= {"tune": case.tune, "adapter_options": case.adapter}
    task = metatx.Task.from_data(
        shared_backbone(),
        name.partition("-")[0],
        train,
        head=case.head,
        tokenizer_options=dict(case.tokenizer),
        head_options=dict(case.options),
        seed=0,
        **keywords,
    )
    task.fit(train, train, **TRAINING)
    return task.merge() if case.merge else task


def main(folder: str, *names: str) -> None:
    """Make all tasks, or those that are named."""
    torch.set_num_threads(1)
    with TemporaryDirectory() as cache:
        os.environ["METATX_CACHE"] = cache
        for name in names or CASES:
            trained(name).save_pretrained(Path(folder) / name / "task")
            write_answers(Path(folder) / name, CASES[name].samples.__name__)
            print(name)


if __name__ == "__main__":
    main(*sys.argv[1:])
