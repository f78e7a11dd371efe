"""Names of backbones, each with one line that explains it, and of their precisions. They need no torch."""

import os
from typing import Literal, get_args

__all__ = ["KNOWN", "PRECISIONS", "Precision", "absolute_name", "backbones"]

Precision = Literal["auto", "fp32", "bf16", "int8"]
PRECISIONS = get_args(Precision)

KNOWN = {
    "nano": "small backbone inside the package, pretrained on images and their names",
    "open_clip:MODEL/TAG": "visual tower of an open_clip ViT, by model and tag or from a checkpoint",
    "timm:NAME": "Vision Transformer of timm that cuts images into patches, by name or from a checkpoint",
    "meta-transformer:base": "published Meta-Transformer B/16 encoder, whose file is given as checkpoint",
    "meta-transformer:large": "published Meta-Transformer L/14 encoder, whose file is given as checkpoint",
    "transformers:NAME_OR_FOLDER": "text encoder or causal language model of transformers, from the hub or a folder",
    "FOLDER": "folder that save_backbone wrote",
}


def backbones() -> dict[str, str]:
    """Names that ``load_backbone`` accepts, each with one line that explains it."""
    return dict(KNOWN)


def absolute_name(spec: str) -> str:
    """Name of a backbone that holds in any working folder: of a folder that is there, its absolute path.

    Example:
        >>> absolute_name("nano"), absolute_name("timm:vit_tiny_patch16_224")
        ('nano', 'timm:vit_tiny_patch16_224')
    """
    kind, colon, name = spec.partition(":")
    if spec != "nano" and os.path.isdir(spec):
        return os.path.abspath(spec)
    return f"{kind}:{os.path.abspath(name)}" if kind == "transformers" and colon and os.path.isdir(name) else spec
