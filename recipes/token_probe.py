"""Linear probe of untrained tokens: what is left of a tokenizer's words behind frozen blocks?

    python recipes/token_probe.py --only clinc150,spsw_har,esol,speech_commands_v2_10    # nano, two minutes on one core

Ridge regression (of classes: on their codes) on standardised features, CLS and the mean of the last block's tokens, of
2,000 samples of the training split: accuracy or R² over five folds, with the backbone's own blocks, with random ones
and with none. Where the own ones lead, they know something of these samples; where they trail, they lose what tokens
say, and a task has to learn tokens that pass. nano: CLINC150 .592 with its own blocks, .619 with random ones, .666
with none; phone and watch .955, .959, .948; ESOL .883, .883, .881; Speech Commands .542, .571, .527. What they lose
goes with how far they move tokens: ``--branches 0.4`` makes nano's own .633, .959, .888 and .578.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import RidgeClassifierCV, RidgeCV
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transfer_sets import chosen

import metatx
from metatx.cli.scripts import command
from metatx.data.tables import ALL, as_table, read_splits
from metatx.evaluation.recipe import Recipe, keywords
from metatx.progress import bar
from metatx.registry import lookup
from metatx.training.frozen_features import frozen_features

STRENGTHS = np.logspace(-2, 5, 15)


def main(
    *,
    only: str = "clinc150,spsw_har,esol,speech_commands_v2_10",
    data: str | None = None,
    backbone: str = "nano",
    checkpoint: str | None = None,
    branches: float = 1.0,
    samples: int = 2000,
) -> dict[str, dict[str, float]]:
    """Print the score of each probe.

    Args:
        only: Names of data sets, separated by commas.
        data: Folder of the data sets; by default the one that METATX_DATA names.
        backbone: Name of a pretrained backbone.
        checkpoint: File with the backbone's weights.
        branches: Scale of what its blocks add to tokens; see ``Backbone.scale_residuals``.
        samples: Number of samples of the training split, drawn with a seed.
    """
    found = {}
    own = metatx.load_backbone(backbone, checkpoint=checkpoint).scale_residuals(branches)
    random = metatx.load_backbone(backbone, pretrained=False)
    for name, recipe, place in chosen(only, data):
        table = training_split(recipe, place, samples)
        ways = {"pretrained": own, "random": random, "no blocks": own.without_blocks()}
        found[name] = {way: score(recipe, table, frozen) for way, frozen in ways.items()}
        shown = ", ".join(f"{way} {value:.4f}" for way, value in found[name].items())
        print(f"{recipe.name}, {len(table):,} training samples: {shown}", flush=True)
    return found


def training_split(recipe: Recipe, place: Path, count: int) -> Any:
    """Rows of the training split, drawn with a seed."""
    kind = lookup("tokenizers", recipe.spec.modality)
    found = recipe.read(place)
    splits = found if isinstance(found, dict) else read_splits(found, kind.suffixes, recipe.split_column, kind.readers)
    table = as_table(splits.get("train", splits.get(ALL)), kind.suffixes, "train", kind.readers)
    return table.select(np.sort(np.random.default_rng(0).permutation(len(table))[:count]))


def score(recipe: Recipe, table: Any, frozen: metatx.Backbone) -> float:
    """Accuracy, or R² of numbers."""
    spec = replace(recipe.spec_for(frozen), head_options={"pooling": "both"})
    task = metatx.Task.from_data(frozen, spec.modality, table, **keywords(spec))
    features = frozen_features(task, task.encode(table, "train"), task.settings, bar)
    targets = np.array([target.item() for target in features.targets])
    ridge = RidgeCV if task.head.name == "regression" else RidgeClassifierCV
    probe = make_pipeline(StandardScaler(), ridge(alphas=STRENGTHS))
    return float(cross_val_score(probe, features.features.numpy(), targets, cv=5).mean())


if __name__ == "__main__":
    command(main)
