"""Houses: what does a house cost, by four photographs of it and a row of facts?

    python recipes/fusion_houses.py --backbone timm:vit_tiny_patch16_224 --checkpoint FILE
    python recipes/fusion_houses.py --through timm:vit_tiny_patch16_224 --weights FILE

535 houses in California: front, bedroom, bathroom, kitchen, and rooms, area and zip code; the target is the natural
logarithm of the price in dollars. The four photographs share one tokenizer, and their features are computed once.

With ``--through``, that backbone reads the photographs first, and what it says comes over a bridge into the tokens of
``--backbone``, by default nano. Its pass is made once for all epochs.
"""

from dataclasses import replace
from typing import Any

import metatx
from metatx.cli.scripts import recipe_command

ROOMS = ("frontal", "bedroom", "bathroom", "kitchen")


RECIPE = metatx.Recipe(
    name="Houses, log price",
    place="multimodal/houses/houses.csv",
    source="github.com/emanhamed/Houses-dataset (arXiv 1609.08399)",
    grid=14,
    spec=metatx.TaskSpec(
        modality=[
            metatx.Input(name="frontal", modality="image", frozen=True),
            *(metatx.Input(name=room, modality="image", shares="frontal", frozen=True) for room in ROOMS[1:]),
            metatx.Input(name="facts", modality="tabular", columns="bedrooms,bathrooms,area,zipcode"),
        ],
        target="log_price",
        head="regression",
        tokenizer_options={"facts": {"columns": {"zipcode": "categorical"}}},
        fusion_options={"dropout": 0.3},
    ),
    settings=metatx.TrainingSettings(epochs=30, lr=1e-3, weight_decay=1.0),
    published={
        "table, ridge": {"r2": 0.740, "mae": 0.277},
        "table, ExtraTrees": {"r2": 0.787, "mae": 0.262},
        "pictures, ViT-Ti ridge": {"r2": 0.496, "mae": 0.484},
        "both, ridge": {"r2": 0.769, "mae": 0.256},
        "both, stacked": {"r2": 0.791, "mae": 0.262},
    },
)


def recipe(*, through: str | None = None, weights: str | None = None, bridge: str = "grid") -> metatx.Recipe:
    """Return the recipe.

    Args:
        through: Name of another frozen backbone that reads the photographs first.
        weights: File with the weights of that backbone.
        bridge: Name of the bridge behind it; grid: nine tokens of a photograph.
    """
    if through is None:
        return RECIPE
    way: dict[str, Any] = {"backbone": through, "checkpoint": weights, "bridge": bridge}
    inputs = [replace(each, through=way) if each.name == ROOMS[0] else each for each in RECIPE.spec.several]
    return replace(RECIPE, name=f"{RECIPE.name}, {through}", grid=None, spec=replace(RECIPE.spec, modality=inputs))


if __name__ == "__main__":
    recipe_command(recipe)
