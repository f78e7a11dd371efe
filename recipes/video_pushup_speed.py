"""Push-ups: are all frames of the film there, every second, or every fourth? One frame alone does not tell.

    python recipes/video_pushup_speed.py --backbone timm:vit_tiny_patch16_224 --checkpoint FILE

Pictures of height and time, through a frozen copy of the stem, so features of all twelve layers are computed once: the
first run took 344 s on a busy core with ViT-Ti, each other seed 50 s. Accuracy on the test split, mean of 3 seeds:
0.561 ± 0.005, no better than a forest on optical flow; one seed with random weights in its shape 0.338; logistic
regression on differences of frames 0.537.
Settings were chosen on the validation split (72 clips) and by cross-validation over the scenes of the training split.
Tubelets of 64 pixels, trained for 24 epochs with flips, crops and reversal, came to 0.708 there (the best epoch) and
to 0.546 on the test split. Whether choosing on so few clips or other scenes make that gap was not separated.

A folder as UCF101 was published (101 actions, with ``trainlist01.txt``, ``testlist01.txt`` and ``classInd.txt`` beside
the folders of its classes) is read with its first split; for it, ``--tokens tubelets``.
"""

import re
from pathlib import Path
from typing import Any, Literal

import pandas as pd

import metatx
from metatx.evaluation.recipe import command, dataset, over_seeds
from metatx.evaluation.report import Report

PUBLISHED = {
    "first frame, linear SVM": {"accuracy": 0.329},
    "differences and optical flow, random forest": {"accuracy": 0.562},
}
LISTS = {"train": "trainlist01.txt", "test": "testlist01.txt"}
HELD_GROUPS = 3  # of UCF101's 18 groups of training films, by which settings are chosen: films of a group are alike


def clips(folder: Path) -> Any:
    """The folder itself, with its splits; or tables of files and actions by split, where it is UCF101's.

    Raises:
        ValueError: If a list names an action that is not in ``classInd.txt``, or a file without a group.
    """
    if not (folder / LISTS["train"]).exists():
        return folder
    actions = {line.split()[1] for line in (folder / "classInd.txt").read_text().splitlines() if line.strip()}
    splits = {}
    for split, file in LISTS.items():
        names = [line.split()[0] for line in (folder / file).read_text().splitlines() if line.strip()]
        labels = [name.partition("/")[0] for name in names]
        groups = [re.search(r"_g(\d+)_", name) for name in names]
        for name, label, group in zip(names, labels, groups, strict=True):
            if label not in actions or group is None:
                raise ValueError(f"{file} names {name}; expected Action/v_Action_g01_c01.avi, of classInd.txt.")
        table = {"file": [str(folder / name) for name in names], "label": labels}
        splits[split] = pd.DataFrame(table).assign(group=[int(group[1]) for group in groups if group])
    groups_of_training = sorted(set(splits["train"].group))
    held = splits["train"].group.isin(groups_of_training[-min(HELD_GROUPS, len(groups_of_training) - 1) :])
    splits["validation"], splits["train"] = splits["train"][held], splits["train"][~held]
    return {split: table[["file", "label"]] for split, table in splits.items() if len(table)}


def main(
    *,
    data: str | None = None,
    backbone: str = "nano",
    checkpoint: str | None = None,
    pretrained: bool = True,
    tune: str = "frozen",
    seeds: tuple[int, ...] = (0, 1, 2),
    epochs: int = 40,
    batch_size: int = 64,
    lr: float = 1e-3,
    weight_decay: float = 0.1,
    tokens: Literal["tubelets", "slices", "both"] = "slices",
    frames: int = 16,
    image_size: int = 112,
    slices: int = 7,
    freeze_stem: bool = True,
    augment: list[str] | None = None,
    layers: int = 12,
    hidden: int = 256,
    dropout: float = 0.3,
    label_smoothing: float = 0.1,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    out: str | None = None,
) -> list[Report]:
    """Train a head, and the tokenizer's stems where they are not frozen, on clips of 16 frames.

    Args:
        data: Folder with train, val and test, each of one folder a class; or UCF101's.
        backbone: What reads the clips.
        checkpoint: File with the backbone's weights.
        pretrained: False for random weights in the same shape.
        tune: What of the backbone is trained too: frozen (nothing), norm, lora or full.
        seeds: One run each.
        epochs: Passes over the training split.
        batch_size: Clips of a step.
        lr: Peak learning rate.
        weight_decay: Of matrices.
        tokens: What the backbone reads of a clip.
        frames: Of a clip.
        image_size: Side of a frame in pixels.
        slices: Columns of a clip that are cut through.
        freeze_stem: Leave the tokenizer as it starts, so that features are computed once.
        augment: Random variations in training, of flip, crop, reverse, cut; they need features anew in each epoch.
        layers: Of the backbone, that the head reads.
        hidden: Width of the head's layer between; 0 for a linear head.
        dropout: On the pooled features.
        label_smoothing: Share of the target spread over all classes.
        precision: In which the backbone computes.
        out: Folder for the tasks, one a seed; none are kept without it.
    """
    folder = dataset(data, "video/pushup_speed", "github.com/riyer8/cs231n-pushfit (every 1st, 2nd, 4th frame)")
    frozen = metatx.load_backbone(backbone, checkpoint=checkpoint, pretrained=pretrained)
    found = clips(folder)

    def one(seed: int) -> Report:
        return metatx.run(
            found,
            "video",
            backbone=frozen,
            tune=tune,
            name="UCF101" if isinstance(found, dict) else "Push-up speed",
            tokenizer_options={
                "tokens": tokens,
                "frames": frames,
                "image_size": image_size,
                "slices": slices,
                "freeze_stem": freeze_stem,
                "augment": augment or [],
            },
            head_options={
                "layers": min(layers, frozen.depth),
                "hidden": hidden,
                "dropout": dropout,
                "label_smoothing": label_smoothing,
            },
            settings=metatx.TrainingSettings(
                epochs=epochs, batch_size=batch_size, lr=lr, weight_decay=weight_decay, precision=precision, seed=seed
            ),
            published={} if isinstance(found, dict) else PUBLISHED,
            baseline=seed == seeds[0],
            out=out and Path(out) / f"seed{seed}",
        )

    return over_seeds(seeds, one)


if __name__ == "__main__":
    command(main)
