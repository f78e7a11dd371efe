"""Twelve tasks of the twelve modalities on one small backbone, with adapters of every kind and without."""

import numpy as np
import torch

import metatx
from metatx.backbone.stem import StemConfig
from metatx.backbone.vit import BackboneConfig, VisionTransformer
from tests.samples import TOKENIZERS

EVERY_LAYER = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"]
TUNES = [
    ("frozen", None),
    ("lora", {"r": 2, "alpha": 5}),
    ("norm", None),
    ("lora", {"r": 3, "target_modules": EVERY_LAYER, "use_rslora": True}),
    ("scale", None),
    ("lora", {"r": 1, "target_modules": ["mlp.fc1"], "use_dora": True}),
]
MODALITIES = sorted(TOKENIZERS)


def small_backbone() -> metatx.Backbone:
    stem = StemConfig(patch_size=4, image_size=16)
    return VisionTransformer(BackboneConfig(dim=32, depth=3, num_heads=2, mlp_dim=64, stem=stem), None, spec="small")


def build(backbone: metatx.Backbone, modality: str, number: int) -> tuple[metatx.Task, list]:
    """A task that was never trained but whose every part says something, and its samples."""
    tune, options = TUNES[number % len(TUNES)]
    row = TOKENIZERS[modality]
    samples = row.samples[:4]
    labels = ["even", "odd"] * 2 if number % 2 else [0.5, 2.0, 3.0, 7.0]
    task = metatx.Task.from_data(
        backbone,
        modality,
        (samples, labels[: len(samples)]),
        head="classification" if number % 2 else "regression",
        head_options={"layers": 1 + number % 3},
        tokenizer_options=row.options[0],
        tune=tune,
        adapter_options=options,
        seed=number,
    )
    return unlike_any(task, number).set_inference(precision="fp32"), samples


def unlike_any(task: metatx.Task, seed: int) -> metatx.Task:
    """The task with other weights everywhere: a head and an adapter that are new say nothing yet."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return task


def number_of(record: dict) -> float:
    """What an answer says, as a number: of classes, the probability of the first."""
    return record.get("p(even)", record["prediction"])


def alone(task: metatx.Task, sample: object) -> tuple[np.ndarray, float]:
    """Embedding and answer of a task that is asked for one sample."""
    return task.embed([sample])[0], number_of(task.records([sample])[0])
