"""RegDB: find a person in thermal pictures by a visible one, and the other way round.

    python recipes/image_regdb.py --data RegDB --trial 1 --backbone timm:vit_tiny_patch16_224 --checkpoint FILE

The folder as it is published: ``Visible``, ``Thermal`` and ``idx`` with the lists of ten trials, each of 206 people to
train with and 206 others to test with, ten pictures of both kinds each. Beside the table, in which every picture asks
among all others of the test split, the published protocol is printed: rank-1 and mAP of visible pictures among the
thermal ones, and back. The pictures are given out on request and are not at hand here: a test runs the recipe on a
small folder of the same form, and no score of it on RegDB is claimed.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score

import metatx
from metatx.cli.scripts import recipe_command
from metatx.evaluation.report import Report

KINDS = ("visible", "thermal")
HELD = 20  # people of the training split, by whom settings are chosen
PUBLISHED = "Meta-Transformer (Zhang et al. 2023), visible among thermal, unverified: rank-1 0.735, mAP 0.652"


def read(folder: Path, *, trial: int = 1) -> dict[str, pd.DataFrame]:
    """Pictures, kinds and identities of a trial by split; people of the test split are others than those of training.

    Args:
        folder: Folder as it is published.
        trial: Number of the trial, from 1 to 10.

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
    splits |= {"validation": splits["train"][held], "train": splits["train"][~held]}
    return {split: table.reset_index(drop=True) for split, table in splits.items()}


def across_kinds(report: Report, splits: dict[str, pd.DataFrame]) -> str:
    """Rank-1 and mean average precision of each kind of picture among those of the other, a line each."""
    table = splits["test"]
    vectors = report.task.predict(table.file.tolist())
    people = table.person.to_numpy()
    lines = []
    for kind, other in (KINDS, KINDS[::-1]):
        asks, among = (table.kind == name for name in (kind, other))
        likeness = vectors[asks] @ vectors[among].T
        same = people[asks][:, None] == people[among][None]
        first = same[np.arange(len(same)), likeness.argmax(1)].mean()
        precision = np.mean([average_precision_score(*pair) for pair in zip(same, likeness, strict=True)])
        lines.append(f"{kind} among {other}: rank-1 {first:.4f}, mAP {precision:.4f}")
    return "\n".join([*lines, PUBLISHED])


RECIPE = metatx.Recipe(
    name="RegDB",
    place="image/regdb",
    source="its authors, dm.dgu.edu",
    read=read,
    remarks=across_kinds,
    grid=(16, 8),
    spec=metatx.TaskSpec(
        modality="image",
        target="person",
        inputs=("file",),
        head="embedding",
        head_options={"layers": 12, "size": 256, "temperature": 0.1},
    ),
    settings=metatx.TrainingSettings(epochs=40, batch_size=128, weight_decay=0.1),
    seeds=(0,),
)

if __name__ == "__main__":
    recipe_command(RECIPE)
