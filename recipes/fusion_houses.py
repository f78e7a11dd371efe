"""Houses: what does a house cost, by four photographs of it and a row of facts?

    python recipes/fusion_houses.py --backbone timm:vit_tiny_patch16_224 --checkpoint FILE

535 houses in California: front, bedroom, bathroom, kitchen, and rooms, area and zip code; the target is the natural
logarithm of the price in dollars. The four photographs share one tokenizer, and their features are computed once.
"""

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

if __name__ == "__main__":
    recipe_command(RECIPE)
