"""RegDB: find a person in thermal pictures by a visible one, and the other way round.

    python recipes/image_regdb.py --data RegDB --trial 1 --backbone timm:vit_tiny_patch16_224 --checkpoint FILE

The folder as it is published: ``Visible``, ``Thermal`` and ``idx`` with the lists of ten trials, each of 206 people to
train with and 206 others to test with, ten pictures of both kinds each. Beside the table, in which every picture asks
among all others of the test split, the published protocol is printed: rank-1 and mAP of visible pictures among the
thermal ones, and back. The pictures are given out on request and are not at hand here: a test runs the recipe on a
small folder of the same form, and no score of it on RegDB is claimed.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import metatx
from metatx.evaluation.recipe import command, dataset, over_seeds, patch_size
from metatx.evaluation.report import Report

KINDS = ("visible", "thermal")
HELD = 20  # people of the training split, by whom settings are chosen
PUBLISHED = "Meta-Transformer (Zhang et al. 2023), visible among thermal, unverified: rank-1 0.735, mAP 0.652"


def people(folder: Path, trial: int) -> dict[str, pd.DataFrame]:
    """Pictures, kinds and identities of a trial by split; people of the test split are others than those of training.

    Raises:
        FileNotFoundError: If a list is not there.
        ValueError: If a line of one is not a picture and a number.
    """
    splits = {}
    for split in ("train", "test"):
        rows = []
        for kind in KINDS:
            file = folder / "idx" / f"{split}_{kind}_{trial}.txt"
            for number, line in enumerate(file.read_text().splitlines(), start=1):
                if len(line.split()) != 2:
                    raise ValueError(f"{file}, line {number}: {line!r}; expected a picture and a person's number.")
                picture, person = line.split()
                rows.append({"file": str(folder / picture), "kind": kind, "person": f"{split} {int(person)}"})
        splits[split] = pd.DataFrame(rows)
    known = sorted(set(splits["train"].person), key=lambda person: int(person.split()[1]))
    held = splits["train"].person.isin(known[-min(HELD, len(known) // 4) :])
    splits["validation"], splits["train"] = splits["train"][held], splits["train"][~held]
    return {split: table.reset_index(drop=True) for split, table in splits.items()}


def main(
    *,
    data: str | None = None,
    trial: int = 1,
    backbone: str = "nano",
    checkpoint: str | None = None,
    pretrained: bool = True,
    tune: str = "frozen",
    seeds: tuple[int, ...] = (0,),
    epochs: int = 40,
    batch_size: int = 128,
    lr: float = 1e-3,
    weight_decay: float = 0.1,
    grid: tuple[int, int] = (16, 8),
    layers: int = 12,
    size: int = 256,
    temperature: float = 0.1,
    out: str | None = None,
) -> list[Report]:
    """Train a head that gives vectors, on frozen features of people.

    Args:
        data: Folder with Visible, Thermal and idx.
        trial: Which of the ten pairs of lists.
        backbone: What reads the pictures.
        checkpoint: File with the backbone's weights.
        pretrained: False for random weights in the same shape.
        tune: What of the backbone is trained too: frozen (nothing), norm, lora or full.
        seeds: One run each.
        epochs: Passes over the cached features.
        batch_size: Pictures of a step.
        lr: Peak learning rate.
        weight_decay: Of matrices.
        grid: Rows and columns of patches; pictures are stretched to so many.
        layers: Of the backbone, that the head reads.
        size: Of the vectors.
        temperature: Of the cosines.
        out: Folder for the tasks, one a seed; none are kept without it.
    """
    splits = people(dataset(data, "image/regdb", "its authors, dm.dgu.edu"), trial)
    frozen = metatx.load_backbone(backbone, checkpoint=checkpoint, pretrained=pretrained)
    patch = patch_size(frozen)

    def one(seed: int) -> Report:
        report = metatx.run(
            splits,
            "image",
            backbone=frozen,
            tune=tune,
            name=f"RegDB, trial {trial}",
            head="embedding",
            target="person",
            inputs=["file"],
            tokenizer_options={"image_size": [patch * side for side in grid]},
            head_options={"layers": min(layers, frozen.depth), "size": size, "temperature": temperature},
            settings=metatx.TrainingSettings(
                epochs=epochs, batch_size=batch_size, lr=lr, weight_decay=weight_decay, seed=seed
            ),
            baseline=seed == seeds[0],
            out=out and Path(out) / f"seed{seed}",
        )
        for line in across_kinds(report.task, splits["test"]):
            print(line)
        print(PUBLISHED)
        return report

    return over_seeds(seeds, one)


def across_kinds(task: Any, table: pd.DataFrame) -> list[str]:
    """Rank-1 and mean average precision of each kind of picture among those of the other, a line each."""
    from sklearn.metrics import average_precision_score

    vectors, people = task.predict(table.file.tolist()), table.person.to_numpy()
    lines = []
    for kind, other in (KINDS, KINDS[::-1]):
        asks, among = (table.kind == name for name in (kind, other))
        likeness = vectors[asks] @ vectors[among].T
        same = people[asks][:, None] == people[among][None]
        first = same[np.arange(len(same)), likeness.argmax(1)].mean()
        precision = np.mean([average_precision_score(*pair) for pair in zip(same, likeness, strict=True)])
        lines.append(f"{kind} among {other}: rank-1 {first:.4f}, mAP {precision:.4f}")
    return lines


if __name__ == "__main__":
    command(main)
