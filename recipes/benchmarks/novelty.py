"""Novelty: does a task notice samples that are unlike those it was trained on?

    METATX_DATA=FOLDER python recipes/benchmarks/novelty.py        # nano, half an hour on a busy core

A task is trained without a share of the classes. The table shows the area under the ROC curve (AUROC, 0.5 is chance)
with which a score tells test samples of its classes from those of the classes held out, and from the samples of another
data set: the Mahalanobis distance of features, the energy of outputs, and as the trivial baseline 1 minus the largest
probability (Hendrycks and Gimpel 2017, arXiv 1610.02136). With nano and seed 0:

| task | against | mahalanobis | energy | 1 - max probability | accuracy |
|---|---|---|---|---|---|
| CLINC150 | 30 held-out classes | 0.808 | 0.900 | 0.894 | 0.899 |
| CLINC150 | out of scope | 0.871 | 0.943 | 0.918 | |
| CLINC150 | SST-2 | 0.925 | 0.981 | 0.955 | |
| Japanese Vowels | 3 held-out classes | 0.983 | 0.979 | 0.971 | 0.996 |
| Japanese Vowels | played backwards | 0.927 | 0.893 | 0.861 | |
| Speech Commands | 3 held-out classes | 0.697 | 0.776 | 0.617 | 0.795 |
| CIFAR-10 subset | 3 held-out classes | 0.516 | 0.568 | 0.458 | 0.643 |
| CIFAR-10 subset | chest X-rays | 0.638 | 0.500 | 0.472 | |
| CIFAR-10 subset | solar modules | 0.990 | 0.636 | 0.677 | |
| Solar modules | 4 held-out classes | 0.580 | 0.531 | 0.576 | 0.538 |
| Solar modules | CIFAR-10 | 1.000 | 0.088 | 0.172 | |
| Solar modules | chest X-rays | 1.000 | 0.178 | 0.352 | |

Where the task itself is weak, as nano's on pictures, nothing tells its held-out classes.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score

import metatx
from metatx.cli.scripts import command
from metatx.encoding.collate import widened
from metatx.inference import ask, joined
from metatx.model import Model
from metatx.training.novelty import novelty_scores

SCORES = ("mahalanobis", "energy", "1 - max probability")
Part = tuple[list[Any], list[str]]  # samples, labels


@dataclass(frozen=True, kw_only=True)
class Case:
    """Data set whose last classes are held out.

    Attributes:
        modality: Modality of the samples.
        train, test: Samples with labels.
        others: Samples of other data sets, by name.
        held: Number of classes that are held out.
        tokenizer: Options of the tokenizer.
        settings: Settings of the training.
    """

    modality: str
    train: Part
    test: Part
    others: dict[str, list[Any]]
    held: int
    tokenizer: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


def pictures(folder: Path) -> Part:
    """Files and their folders' names."""
    files = sorted(path for path in folder.glob("*/*") if path.suffix in (".jpg", ".png"))
    return [str(path) for path in files], [path.parent.name for path in files]


def rows(path: Path, samples: str, labels: str, without: str = "") -> Part:
    """Two columns of a table, without the rows of a label."""
    table = pd.read_parquet(path)
    table = table[table[labels].astype(str) != without]
    return list(table[samples]), [str(label) for label in table[labels]]


def cases(data: Path, count: int) -> dict[str, Case]:
    """Cases by name; ``count`` is the most samples of another data set."""
    cifar = data / "image/cifar10_subset"
    solar = data / "infrared/solar_modules"
    xray = data / "xray/pneumoniamnist/images"
    clinc = data / "text/clinc150"
    series = data / "time_series/japanese_vowels"
    clips = pd.read_csv(data / "audio/speech_commands_v2_10/metadata.csv")
    clips["file"] = [str(data / "audio/speech_commands_v2_10" / name) for name in clips.file_name]
    words = {split: (list(part.file), list(part.label_name)) for split, part in clips.groupby("split")}
    vowels = [np.stack(list(each)) for each in rows(series / "test.parquet", "series", "label")[0]]
    outside = [
        pictures(cifar / "test")[0][:count],
        pictures(xray / "test")[0][:count],
        pictures(solar / "test")[0][:count],
    ]
    return {
        "CIFAR-10 subset": Case(
            modality="image",
            train=pictures(cifar / "train"),
            test=pictures(cifar / "test"),
            others={"chest X-rays": outside[1], "solar modules": outside[2]},
            held=3,
            tokenizer={"crop_pct": 1.0},
            settings={"epochs": 20, "batch_size": 256},
        ),
        "CLINC150": Case(
            modality="text",
            train=rows(clinc / "train.parquet", "text", "intent", "oos"),
            test=rows(clinc / "test.parquet", "text", "intent", "oos"),
            others={
                "out of scope": list(pd.read_parquet(clinc / "test.parquet").query("intent == 'oos'").text),
                "SST-2": list(pd.read_parquet(data / "text/sst2/validation.parquet").iloc[:, 0])[:count],
            },
            held=30,
            settings={"epochs": 2, "lr": 3e-3},
        ),
        "Japanese Vowels": Case(
            modality="time_series",
            train=rows(series / "train.parquet", "series", "label"),
            test=rows(series / "test.parquet", "series", "label"),
            others={"played backwards": [each[::-1].copy() for each in vowels]},
            held=3,
            tokenizer={"patch_size": 7, "stride": 3, "channels": "mixed", "normalize": "training", "time_axis": 0},
            settings={"epochs": 40, "batch_size": 32, "lr": 2e-3},
        ),
        "Solar modules": Case(
            modality="infrared",
            train=pictures(solar / "train"),
            test=pictures(solar / "test"),
            others={"CIFAR-10": outside[0], "chest X-rays": outside[1]},
            held=4,
            tokenizer={"freeze_stem": True},
            settings={"epochs": 20, "batch_size": 128},
        ),
        "Speech Commands": Case(
            modality="audio",
            train=words["train"],
            test=words["test"],
            others={},
            held=3,
            settings={"epochs": 8, "batch_size": 16},
        ),
    }


@torch.no_grad()
def raw_scores(model: Model, settings: metatx.TrainingSettings, batch: dict[str, Any], queries: Sequence[Any]) -> Any:
    """The three scores (B, 3) of a batch, larger where a sample is more unusual."""
    sequence = model.features(batch)
    output = widened(model.output(sequence))
    sure = model.head.probabilities(output).amax(1)
    return torch.stack([novelty_scores(model, sequence, output), model.head.energy(output), 1 - sure], dim=1).numpy()


def chosen(part: Part, labels: set[str]) -> Part:
    """Samples of some labels."""
    pairs = [pair for pair in zip(*part, strict=True) if pair[1] in labels]
    return [sample for sample, _ in pairs], [label for _, label in pairs]


def some(part: Part, most: int) -> Part:
    """At most so many samples, spread over all."""
    at = [place * len(part[0]) // min(most, len(part[0])) for place in range(min(most, len(part[0])))]
    return [part[0][i] for i in at], [part[1][i] for i in at]


def scored(task: metatx.Task, samples: Sequence[Any]) -> np.ndarray:
    """Scores (B, 3) of samples."""
    return joined(ask(task.model, task.settings, task.queries(list(samples)), raw_scores))


def main(
    *,
    data: str = os.environ.get("METATX_DATA", ""),
    backbone: str = "nano",
    checkpoint: str | None = None,
    names: tuple[str, ...] = (),
    count: int = 500,
    most: int = 1_000_000,
    seed: int = 0,
) -> None:
    """Print a table of AUROC.

    Args:
        data: Folder of data sets; by default that of the environment variable METATX_DATA.
        backbone: Name of the backbone.
        checkpoint: File with its weights.
        names: Data sets to take; by default all.
        count: Most samples of another data set.
        most: Most samples to train on, and to test on.
        seed: Seed of the training, and of the tenth of the training split that is the validation split.
    """
    frozen = metatx.load_backbone(backbone, checkpoint=checkpoint)
    print(f"| task ({backbone}, seed {seed}) | against | samples | " + " | ".join(SCORES) + " | accuracy |")
    print("|---" * 7 + "|")
    for name, case in cases(Path(data), count).items():
        if names and name not in names:
            continue
        classes = sorted(set(case.train[1]))
        learnt = set(classes[: -case.held])
        samples, labels = chosen(case.train, learnt)
        order = np.random.default_rng(seed).permutation(len(samples))[:most]
        parts = [([samples[i] for i in at], [labels[i] for i in at]) for at in np.split(order, [len(order) // 10])]
        options = {"tokenizer_options": case.tokenizer, "head": "classification", "seed": seed}
        task = metatx.Task.from_data(frozen, case.modality, parts[1], **options)
        task.fit(parts[1], parts[0], novelty="mahalanobis", seed=seed, **case.settings)
        inside = some(chosen(case.test, learnt), most)
        accuracy = task.evaluate(inside)["accuracy"]
        usual = scored(task, inside[0])
        unusual = {
            f"{case.held} held-out classes": some(chosen(case.test, set(classes) - learnt), most)[0],
            **case.others,
        }
        for what, others in unusual.items():
            strange = scored(task, others)
            truth = np.repeat([0, 1], [len(usual), len(strange)])
            areas = [roc_auc_score(truth, np.concatenate([usual[:, k], strange[:, k]])) for k in range(len(SCORES))]
            shown = " | ".join(f"{area:.3f}" for area in areas)
            print(f"| {name} | {what} | {len(usual)} / {len(strange)} | {shown} | {accuracy:.3f} |", flush=True)


if __name__ == "__main__":
    command(main)
