"""Samples of several inputs, and tasks of them on a small backbone."""

from typing import Any

import numpy as np

import metatx
from tests.mixed_tasks import small_backbone, unlike_any

BACKBONE = small_backbone()
MODALITIES = {"photo": "image", "words": "text", "facts": "tabular", "motion": "time_series"}
FUSIONS = ["early", "late", "mid"]  # those that train nothing between the blocks


def samples(count: int, seed: int = 0, names: tuple[str, ...] = tuple(MODALITIES)) -> list[dict[str, Any]]:
    """Samples of four inputs; words are long enough for several windows, series have two channels."""
    rng = np.random.default_rng(seed)
    values = [
        {
            "photo": rng.integers(0, 256, (24, 20, 3), dtype=np.uint8),
            "words": f"film {int(rng.integers(99))} is " + "so " * int(rng.integers(1, 40)) + "good",
            "facts": {"area": float(rng.normal()), "town": ["Bern", "Oslo"][int(rng.integers(2))]},
            "motion": rng.normal(size=(2, int(rng.integers(20, 40)))),
        }
        for _ in range(count)
    ]
    return [{name: sample[name] for name in names} for sample in values]


def labels(count: int) -> list[str]:
    return [["even", "odd"][at % 2] for at in range(count)]


def several(names: tuple[str, ...] = tuple(MODALITIES), said: bool = True, **choices: Any) -> metatx.Task:
    """A task of these inputs; ``said`` gives all its weights other values, so that every part says something."""
    options = {"words": {"context": 16, "overlap": 4}}
    modality = {
        name: metatx.Input(name=name, modality=MODALITIES[name], options=options.get(name, {})) for name in names
    }
    data = choices.pop("data", (samples(8, names=names), labels(8)))
    task = metatx.Task.from_data(BACKBONE, modality, data, **choices)
    return (unlike_any(task, 1) if said else task).set_inference(precision="fp32")


def without(sample: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in sample.items() if name not in names}
