r"""Pretraining to be frozen: one backbone trained on pairs, labelled data sets and generated tasks, step by step.

    python recipes/pretrain_mixture.py --out runs/mixture --priors '{"tabular": 16, "time_series": 16, "image": 8}' \
        --sets adult,clinc150 --meta spsw_har,japanese_vowels --mixture.forget-every 2000
    python recipes/pretrain_mixture.py --out runs/both --priors '{"text": 8}' \
        --pairs '[{"data": ["FOLDER"], "modalities": ["image", "text"], "columns": ["image", "text"]}]'

A step has pairs of one set, and a few tasks, whose sequences pass through the backbone together. With one set of pairs
and no task it computes what pretrain_contrastive.py computes. Tokenizers and heads of the tasks are thrown away: those
of a user will be others, which ``--mixture.forget-every`` prepares the backbone for. Now and then the backbone is
frozen as it is, and trains new tokenizers and heads on the data sets of ``--meta``, which it never saw, beside a random
one. Writes ``backbone/``, which ``load_backbone`` reads; a killed run goes on with ``--resume true``.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate.utils import broadcast_object_list
from pretrain_contrastive import OPTIONS, read, sides
from transfer_sets import chosen

import metatx
from metatx.backbone.loading import save_backbone
from metatx.cli.scripts import command
from metatx.evaluation.splits import read_parts, training_part_of
from metatx.examples import Examples
from metatx.pretraining.alignment import Alignment
from metatx.pretraining.loop import PretrainingSettings, pretrain
from metatx.pretraining.mixture import MixtureSettings, Source, TaskMixture
from metatx.pretraining.pair_sets import NoPairs
from metatx.pretraining.paired_data import PairedDataset
from metatx.pretraining.prior import draw
from metatx.registry import lookup
from metatx.spec import TaskSpec
from metatx.storage.card import backbone_card
from metatx.training.distributed import processes

SETTINGS = PretrainingSettings(epochs=20, batch_size=128, lr=7e-4, weight_decay=0.05)
MIXTURE = MixtureSettings()


class MetaValidation:
    """Scores on data that were not trained on: new tokenizers and heads on the frozen backbone, and on a random one.

    They are measured on the validation split; where there is none, on rows held out of the training split.

    Args:
        recipes: Data sets, each with its folder, by name.
        minutes: Minutes between two measurements, which come at the end of an epoch.
        seconds: Seconds of training on each data set.
    """

    def __init__(self, recipes: dict[str, tuple[metatx.Recipe, Path]], minutes: float, seconds: float) -> None:
        self.recipes = recipes
        self.minutes = minutes
        self.seconds = seconds
        self.measured = time.monotonic()
        self.random: dict[str, float] = {}
        self.scores = {f"{way}_{name}": math.nan for name in recipes for way in ("frozen", "random")}

    def __call__(self, alignment: Alignment) -> dict[str, float]:
        """Scores; those of before where it is not time yet."""
        # All processes must agree, whose clocks differ a little.
        due = [time.monotonic() - self.measured >= 60 * self.minutes]
        if self.recipes and broadcast_object_list(due)[0]:
            trained = alignment.backbone
            frozen = trained.rebuilt(trained.config, dict(trained.named_weights()))
            for name in self.recipes:
                if name not in self.random:
                    self.random[name] = self._score(name, frozen.randomised())
                self.scores[f"frozen_{name}"] = self._score(name, frozen)
                self.scores[f"random_{name}"] = self.random[name]
                if processes().is_main_process:
                    print(f"{name}: {self.scores[f'frozen_{name}']:.4f}, random {self.random[name]:.4f}", flush=True)
            self.measured = time.monotonic()
        return dict(self.scores)

    def _score(self, name: str, backbone: metatx.Backbone) -> float:
        recipe, place = self.recipes[name]
        parts = splits(recipe, place)
        # The test split stays unread: it is for the backbone that is chosen by these scores.
        held = {"test": parts["validation"]} if "validation" in parts else {}
        arguments = {**recipe.arguments(backbone), "split_column": None, "backbone": backbone, "baseline": False}
        settings = replace(recipe.settings, seed=recipe.seeds[0])
        data = {"train": training_part_of(parts), **held}
        report = metatx.run(data, recipe.spec.modality, **arguments, settings=settings, budget=self.seconds)
        return report.test[report.task.head.primary_metric]


def splits(recipe: metatx.Recipe, place: Path) -> dict[str, Any]:
    """Tables or examples of a recipe, by split."""
    target = recipe.spec.target if isinstance(recipe.spec.target, str) else None
    kind = lookup("tokenizers", str(recipe.spec.modality))
    return read_parts(recipe.load(place), kind, target=target, split_column=recipe.split_column)


def paired(alignment: Alignment, pairs: Sequence[dict[str, Any]], seed: int) -> list[PairedDataset]:
    """Sets of pairs for an alignment, which gets a tower for each of their modalities."""
    sets = []
    for each in pairs:
        train = sides(read(tuple(each.get("data", ())))["train"], tuple(each["modalities"]), tuple(each["columns"]))
        for modality, samples in train.items():
            if modality not in alignment.towers:
                alignment.add(modality, samples, each.get("options", OPTIONS).get(modality), seed=seed)
        sets.append(PairedDataset(alignment, train, augment=True))
    return sets


def main(
    *,
    out: str,
    pairs: tuple[dict[str, Any], ...] = (),
    sets: str | None = None,
    priors: dict[str, int] | None = None,
    prior_size: int = 512,
    meta: str | None = None,
    meta_minutes: float = 30.0,
    meta_seconds: float = 60.0,
    backbone: str = "nano",
    checkpoint: str | None = None,
    pretrained: bool = False,
    size: int = 192,
    loss: Literal["softmax", "sigmoid"] = "softmax",
    steps: int = 500,
    settings: PretrainingSettings = SETTINGS,
    mixture: MixtureSettings = MIXTURE,
    resume: bool = False,
) -> dict[str, float]:
    """Train a backbone on a mixture.

    Args:
        out: Folder for the backbone, the history and the checkpoint.
        pairs: Sets of pairs, each with data (as ``pretrain_contrastive.py`` takes it), modalities and columns.
        sets: Names of labelled data sets, those of ``transfer_sets.py``, separated by commas.
        priors: Number of generated tasks by modality, see ``metatx.pretraining.prior``.
        prior_size: Samples of a generated task.
        meta: Names of data sets to validate on, separated by commas; none may be among ``sets``.
        meta_minutes: Minutes between two validations.
        meta_seconds: Seconds of training on each of these data sets.
        backbone: Name or folder of the backbone that is trained.
        checkpoint: File with the backbone's weights.
        pretrained: False to start from seeded random weights.
        size: Size of the vectors of pairs.
        loss: Loss between the vectors of pairs: softmax, CLIP's; sigmoid, SigLIP's.
        steps: Steps of an epoch where there are no pairs; otherwise the pairs decide.
        settings: Settings of the run.
        mixture: Settings of the mixture of tasks.
        resume: Go on from the checkpoint in ``out``.
    """
    seen = sorted({*(sets or "").split(",")} & {*(meta or "").split(",")} - {""})
    if seen:
        raise ValueError(f"{', '.join(seen)} is among sets and meta; validate on data that are not trained on.")
    start = metatx.load_backbone(backbone, checkpoint=checkpoint, pretrained=pretrained).trainable_copy()
    alignment = Alignment.on(start, size, loss).requires_grad_()
    several = paired(alignment, pairs, settings.seed)
    sources = {
        name: Source(start, recipe.spec_for(start), training_part_of(splits(recipe, place)), settings.seed)
        for name, recipe, place in picked(sets)
    }
    for modality, count in (priors or {}).items():
        for number in range(count):
            examples = Examples(*draw(modality, number, prior_size), f"prior {modality} {number}")
            sources[f"{modality} {number}"] = Source(start, TaskSpec(modality=modality), examples, settings.seed)
    tasks = TaskMixture(sources, mixture, settings.seed) if sources else None
    held = {name: (recipe, place) for name, recipe, place in picked(meta)}
    history = pretrain(
        alignment,
        several or NoPairs(steps, settings.batch_size),
        settings,
        tasks=tasks,
        measure=MetaValidation(held, meta_minutes, meta_seconds),
        out=Path(out),
        resume=resume,
    )
    made = {
        "data": f"{len(several)} sets of pairs; {', '.join(sources) or 'no tasks'}",
        "start": f"{backbone}, {'its own' if pretrained else 'random'} weights",
        "settings": ", ".join(f"{name} {value}" for name, value in vars(settings).items()),
    }
    if processes().is_main_process:
        about = f"trained on {made['data']}"
        if several:
            card = backbone_card(Path(out).name, list(alignment.towers), made, history[-1])
            alignment.save_pretrained(Path(out) / "backbone", about=about, card=card, dtype=torch.float16)
        else:
            save_backbone(start, Path(out) / "backbone", about=about, dtype=torch.float16)
        print(Path(out) / "backbone")
    return history[-1]


def picked(names: str | None) -> list[tuple[str, metatx.Recipe, Path]]:
    """Data sets of these names that are there."""
    return list(chosen(names, None)) if names else []


if __name__ == "__main__":
    command(main)
