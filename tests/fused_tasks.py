"""Tasks of 1, 2 and 4 inputs on one small backbone, of every fusion, and samples in which inputs are missing."""

from typing import Any

import numpy as np

import metatx
from tests.mixed_tasks import unlike_any

MODALITIES = {"photo": "image", "words": "text", "facts": "tabular", "signal": "time_series"}
INPUTS = {1: ("facts",), 2: ("photo", "words"), 4: tuple(MODALITIES)}
OPTIONS = {"photo": {"image_size": 16}, "signal": {"patch_size": 8, "stride": 8, "channels": "separate"}}
WORDS = ("a red shoe", "grey", "two blue boots with laces, for snow and rain", "a hat")


def sample(number: int, inputs: Any = tuple(MODALITIES)) -> dict[str, Any]:
    """Raw sample of these inputs; samples of other numbers differ in all of them, and in their lengths."""
    rng = np.random.default_rng(number)
    values = {
        "photo": rng.integers(0, 255, (16, 16, 3), dtype=np.uint8),
        "words": WORDS[number % len(WORDS)],
        "facts": {"rooms": float(number), "kind": "flat" if number % 2 else "house"},
        "signal": rng.normal(size=(2, 16 + 8 * (number % 3))),
    }
    return {name: values[name] for name in inputs}


def build(
    backbone: metatx.Backbone, count: int, fusion: str = "late", tune: str = "frozen", seed: int = 0, **choices: Any
) -> metatx.Task:
    """Task of 1, 2 or 4 inputs that was never trained but whose every part says something."""
    names = INPUTS[count]
    targets = ["even", "odd"] * 4 if seed % 2 else [float(number % 3) for number in range(8)]
    task = metatx.Task.from_data(
        backbone,
        {name: MODALITIES[name] for name in names},
        ([sample(number, names) for number in range(8)], targets),
        head="classification" if seed % 2 else "regression",
        fusion=fusion,
        tokenizer_options={name: OPTIONS[name] for name in names if name in OPTIONS},
        tune=tune,
        adapter_options={"r": 2, "alpha": 5} if tune == "lora" else None,
        seed=seed,
        **choices,
    )
    return unlike_any(task, seed).set_inference(precision="fp32")
