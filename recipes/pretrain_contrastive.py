r"""Contrastive pretraining: pairs of two modalities through one transformer, or a new modality onto a frozen one.

    python recipes/pretrain_contrastive.py --out runs/new              # image and text through a new backbone
    python recipes/pretrain_contrastive.py --out runs/infrared --data '["FOLDER"]' --modalities '["infrared","text"]' \
        --backbone runs/new/backbone --pretrained true --train-backbone false    # one more, on a frozen one
    python recipes/pretrain_contrastive.py --out runs/more \
        --settings.objectives '{"contrastive": 1, "matching": 1}'              # see "metatx list objectives"

Writes ``backbone/``, which ``load_backbone`` reads, with both modalities' tokenizers and projections beside it and a
card. ``torchrun --nproc_per_node N`` spreads it over processes: a pair's negatives are then those of all of them.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

import metatx
from metatx.cli.scripts import command
from metatx.data.tables import read_splits
from metatx.evaluation.recipe import dataset
from metatx.pretraining.alignment import Alignment
from metatx.pretraining.distillation import Distillation
from metatx.pretraining.loop import PretrainingSettings, pretrain
from metatx.pretraining.paired_data import PairedDataset
from metatx.retrieval.zero_shot import recalls, zero_shot_accuracy
from metatx.storage.card import backbone_card
from metatx.training.distributed import processes

if TYPE_CHECKING:
    from datasets import Dataset

SETS = {
    "tiny_imagenet_175": "cs231n.stanford.edu/tiny-imagenet-200.zip (ImageNet's terms: research, not commercial)",
    "fashion_products": "kaggle.com/datasets/paramaggarwal/fashion-product-images-small (MIT, says its page)",
}
SETTINGS = PretrainingSettings(epochs=26, batch_size=128, lr=7e-4, weight_decay=0.05, patch_dropout=0.5, whole_epochs=2)
ABOUT = (
    "27,125 photographs of 175 classes of Tiny ImageNet with the classes' names (ImageNet's terms: non-commercial "
    "research only; torchvision and timm publish weights trained on it, with that said) and 8,361 product photographs "
    "with their names (Kaggle's Fashion Product Images, published there as MIT); no photograph is in these files"
)
CLASSES = {"class_name": "a photo of a {}", "articleType": "{}"}  # columns for zero-shot classification, as texts
OPTIONS: dict[str, dict[str, Any]] = {"image": {"augment": "light"}, "text": {"context": 32, "overlap": 8}}


def read(data: tuple[str, ...]) -> dict[str, list["Dataset"]]:
    """Tables of each split, one a data set, by default those of nano."""
    folders = [Path(name) for name in data] or [dataset(None, f"image_text/{name}", SETS[name]) for name in SETS]
    tables = [read_splits(folder, ()) for folder in folders]
    return {split: [table[split] for table in tables if split in table] for split in ("train", "validation")}


def sides(tables: list["Dataset"], modalities: tuple[str, str], columns: tuple[str, str]) -> dict[str, list[Any]]:
    """Samples of both modalities, of all tables one after the other."""
    names = zip(modalities, columns, strict=True)
    return {modality: [value for table in tables for value in table[column]] for modality, column in names}


def measured(alignment: Alignment, tables: list["Dataset"], pairs: dict[str, list[Any]]) -> dict[str, float]:
    """Recall both ways among all held-out pairs, and zero-shot accuracy of each table whose classes have names."""
    vectors = {modality: alignment.embed(modality, samples) for modality, samples in pairs.items()}
    found = recalls(vectors, [str(value) for value in list(pairs.values())[1]])
    start = 0
    for table in tables:
        rows = slice(start, start := start + len(table))
        for column in set(CLASSES) & set(table.column_names) if {"image", "text"} == set(pairs) else ():
            names = sorted(set(table[column]))
            texts = alignment.embed("text", [CLASSES[column].format(name) for name in names])
            found[f"zero_shot_{column}"] = zero_shot_accuracy(vectors["image"][rows], texts, names, table[column])
    return found


def main(
    *,
    out: str,
    data: tuple[str, ...] = (),
    modalities: tuple[str, str] = ("image", "text"),
    columns: tuple[str, str] = ("image", "text"),
    options: dict[str, dict[str, Any]] | None = None,
    backbone: str = "nano",
    checkpoint: str | None = None,
    pretrained: bool = False,
    branches: float = 1.0,
    train_backbone: bool = True,
    teacher: str | None = None,
    teacher_checkpoint: str | None = None,
    size: int = 192,
    loss: Literal["softmax", "sigmoid"] = "softmax",
    settings: PretrainingSettings = SETTINGS,
    about: str | None = None,
    skip_bad_samples: bool = False,
    resume: bool = False,
) -> dict[str, float]:
    """Align two modalities.

    Args:
        out: Folder for the backbone, the history and the checkpoint.
        data: Data sets with train and validation splits, as ``metatx train`` reads them; by default nano's two.
        modalities: Names of two tokenizers.
        columns: Columns of the tables, one a modality.
        options: Options of the tokenizers, by modality; of towers that are there, only what is to change.
        backbone: Name or folder of the backbone that both pass through. Towers that its folder holds are used.
        checkpoint: File with the backbone's weights.
        pretrained: False to start from seeded random weights.
        branches: Scale of what its blocks add to tokens, before the first step; see ``Backbone.scale_residuals``.
        train_backbone: Train the backbone; otherwise it stays frozen, and only towers are trained.
        teacher: A backbone for pictures whose features it should match too.
        teacher_checkpoint: File with the teacher's weights.
        size: Size of the vectors.
        loss: Loss between the vectors: softmax, CLIP's; sigmoid, SigLIP's.
        settings: Settings of the run.
        about: Text of the card on the data and its terms; that on nano's own data is known.
        skip_bad_samples: Leave out pairs with a sample that cannot be used, not stop.
        resume: Go on from the checkpoint in ``out``.
    """
    tables = read(data)
    about = about or (f"of {', '.join(data)}" if data else ABOUT)
    train, held = (sides(tables[split], modalities, columns) for split in ("train", "validation"))
    start = metatx.load_backbone(backbone, checkpoint=checkpoint, pretrained=pretrained)
    start = start if branches == 1 else start.scale_residuals(branches)
    start = start.trainable_copy() if train_backbone else start
    alignment = Alignment.on(start, size, loss).requires_grad_(train_backbone)
    for modality in modalities:
        if modality in alignment.towers:
            alignment.set_options(modality, (options or {}).get(modality, {}))
        else:
            alignment.add(modality, train[modality], (options or OPTIONS).get(modality), seed=settings.seed)
    distillation = None
    if teacher is not None:
        torch.manual_seed(settings.seed)
        distillation = Distillation(start, metatx.load_backbone(teacher, checkpoint=teacher_checkpoint))
    seen = PairedDataset(alignment, train, augment=True, skip_bad=skip_bad_samples)
    measure = partial(measured, tables=tables["validation"], pairs=held)
    history = pretrain(
        alignment, seen, settings, distillation=distillation, measure=measure, out=Path(out), resume=resume
    )
    made = {
        "data": f"{len(train[modalities[0]]):,} pairs; {about}",
        "start": f"{backbone}, {'its own' if pretrained else 'random'} weights"
        + ("" if branches == 1 else f", branches times {branches:g}")
        + ("" if train_backbone else ", frozen"),
        "teacher": teacher or "none",
        "settings": ", ".join(f"{name} {value}" for name, value in vars(settings).items()),
        "time": f"{sum(row['seconds'] for row in history) / 3600:.2f} hours, {len(history)} epochs",
    }
    card = backbone_card(Path(out).name, list(alignment.towers), made, history[-1])
    if processes().is_main_process:
        print(alignment.save_pretrained(Path(out) / "backbone", about=about, card=card, dtype=torch.float16))
    return history[-1]


if __name__ == "__main__":
    command(main)
