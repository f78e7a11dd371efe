"""Pictures of one colour with a caption, and a backbone small enough to be trained on them in seconds."""

import numpy as np

from metatx import Backbone
from metatx.backbone.stem import StemConfig
from metatx.backbone.vit import BackboneConfig, VisionTransformer
from metatx.pretraining.alignment import Alignment

COLOURS = {
    "red": (200, 30, 30),
    "green": (30, 180, 40),
    "blue": (30, 40, 200),
    "white": (230, 230, 230),
    "black": (20, 20, 20),
    "yellow": (220, 210, 40),
}


def small_backbone(**changes) -> Backbone:
    """Two blocks of width 48; images of 32 pixels in 16 patches."""
    shape = {"dim": 48, "depth": 2, "num_heads": 3, "mlp_dim": 96, "norm_pre": True}
    return VisionTransformer(
        BackboneConfig(**{**shape, **changes}, stem=StemConfig(patch_size=8, image_size=32, crop_pct=1.0)),
        None,
        spec="small",
    )


def coloured(count: int, seed: int = 0) -> dict[str, list]:
    """So many noisy pictures, and what they show in words; captions come again."""
    rng = np.random.default_rng(seed)
    names = list(COLOURS)
    found: dict[str, list] = {"image": [], "text": []}
    for _ in range(count):
        name = names[rng.integers(len(names))]
        noise = rng.normal(0, 25, (32, 32, 3))
        found["image"].append(np.clip(np.array(COLOURS[name]) + noise, 0, 255).astype(np.uint8))
        found["text"].append(f"a photo of something {name}")
    return found


def colour_alignment(backbone: Backbone, samples: dict[str, list], seed: int = 0) -> Alignment:
    """Pictures and captions on a backbone, without any dropout."""
    alignment = Alignment(backbone, size=32)
    alignment.add("image", samples["image"], seed=seed)
    return alignment.add("text", samples["text"], {"context": 16, "overlap": 4, "hide": 0.0}, seed=seed)
