"""Tasks whose photo is read by another backbone first."""

import numpy as np
import pytest

import metatx
from metatx.backbone.stem import StemConfig
from metatx.backbone.vit import BackboneConfig, VisionTransformer
from tests.mixed_tasks import small_backbone, unlike_any

BACKBONE = small_backbone()
# Another width and another patch than those of the task's backbone.
SHAPE = BackboneConfig(dim=24, depth=2, num_heads=2, mlp_dim=32, stem=StemConfig(patch_size=8, image_size=16))
OTHER = VisionTransformer(SHAPE, None, spec="other")
WAY = {"backbone": "other", "bridge": "linear"}
ANSWERS = ["even", "odd"]


def samples(count: int = 8, seed: int = 0) -> list[dict]:
    rng = np.random.default_rng(seed)
    return [
        {"photo": rng.integers(0, 256, (16, 16, 3), dtype=np.uint8), "words": f"film {at} is " + "so " * (at % 5)}
        for at in range(count)
    ]


DATA = (samples(), ANSWERS * 4)


def task(through: dict | None = None, said: bool = True, **choices) -> metatx.Task:
    """A task whose photo is read by the other backbone first."""
    inputs = [
        metatx.Input(name="photo", modality="image", through=through or WAY),
        metatx.Input(name="words", modality="text"),
    ]
    others = choices.pop("others", {"other": OTHER})
    made = metatx.Task.from_data(BACKBONE, inputs, DATA, others=others, **choices)
    return (unlike_any(made, 1) if said else made).set_inference(precision="fp32")


def counted(monkeypatch: pytest.MonkeyPatch, backbone: metatx.Backbone) -> list[int]:
    """Numbers of sequences of each pass of a backbone."""
    passes: list[int] = []
    forward = backbone.forward

    def counting(sequence, **options):
        passes.append(len(sequence.lengths))
        return forward(sequence, **options)

    monkeypatch.setattr(backbone, "forward", counting)
    return passes
