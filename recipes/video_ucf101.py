"""UCF101: which of 101 actions does this film show?

    python recipes/video_ucf101.py --data UCF-101 --backbone timm:vit_tiny_patch16_224 --checkpoint FILE

The folder as it is published, of a folder a class, with ``trainlist01.txt``, ``testlist01.txt`` and ``classInd.txt``
beside these: its first split. Options are those of ``video_pushup_speed.py``, but for tubelets. The films are not at
hand here: a test runs the recipe on a small folder of the same form, and no score of it on UCF101 is claimed.
"""

from pathlib import Path

import pandas as pd

import metatx
from metatx.cli.scripts import recipe_command

LISTS = {"train": "trainlist01.txt", "test": "testlist01.txt"}
HELD_GROUPS = 3  # of the 18 groups of training films, by which settings are chosen: films of a group are alike


def read(folder: Path) -> dict[str, pd.DataFrame]:
    """Tables of files and actions by split.

    Raises:
        ValueError: If a list names an action that is not in ``classInd.txt``, or a file without a group.
    """
    actions = {line.split()[1] for line in (folder / "classInd.txt").read_text().splitlines() if line.strip()}
    splits = {}
    for split, file in LISTS.items():
        names = pd.read_csv(folder / file, sep=" ", header=None).iloc[:, 0]
        parts = names.str.extract(r"^(?P<label>\w+)/.*_g(?P<group>\d+)_")
        for name in names[parts.group.isna() | ~parts.label.isin(actions)]:
            raise ValueError(f"{file} names {name}; expected Action/v_Action_g01_c01.avi, of classInd.txt.")
        splits[split] = parts.assign(file=f"{folder}/" + names, group=parts.group.astype(int))
    groups_of_training = sorted(set(splits["train"].group))
    held = splits["train"].group.isin(groups_of_training[-min(HELD_GROUPS, len(groups_of_training) - 1) :])
    splits |= {"validation": splits["train"][held], "train": splits["train"][~held]}
    return {split: table[["file", "label"]] for split, table in splits.items() if len(table)}


RECIPE = metatx.Recipe(
    name="UCF101",
    place="video/ucf101",
    source="crcv.ucf.edu/data/UCF101.php",
    read=read,
    spec=metatx.TaskSpec(
        modality="video",
        target="label",
        inputs=("file",),
        head="classification",
        tokenizer_options={"tokens": "tubelets", "frames": 16, "image_size": 112, "freeze_stem": True},
        head_options={"layers": 12, "hidden": 256, "dropout": 0.3, "label_smoothing": 0.1},
    ),
    settings=metatx.TrainingSettings(epochs=40, weight_decay=0.1),
)

if __name__ == "__main__":
    recipe_command(RECIPE)
