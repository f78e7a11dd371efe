"""Stem of a backbone folded to one channel, for X-ray, infrared and spectrograms."""

from dataclasses import replace

import torch
from torch import nn

from metatx.backbone.stem import Stem, StemConfig

__all__ = ["NO_STEM", "folded_stem", "random_stem"]

NO_STEM = StemConfig(patch_size=16, image_size=224)  # of ``random_stem``


def random_stem(dim: int, config: StemConfig = NO_STEM) -> Stem:
    """Stem for a backbone that has none: orthogonal filters, small random positions.

    Args:
        dim: Width of the backbone.
        config: Sizes of patch and image, and channels; by default patches of 16 pixels of an RGB image of 224.
    """
    stem = Stem(dim, config)
    nn.init.orthogonal_(stem.proj.weight.view(dim, -1))
    nn.init.zeros_(stem.proj.bias)  # type: ignore[arg-type]
    nn.init.trunc_normal_(stem.positions, std=0.02)
    return stem


def folded_stem(stem: Stem | None, dim: int) -> Stem:
    """Trainable stem of one channel, values 0..1, whose tokens equal those of ``stem`` for the grey image as RGB.

    The RGB filters are divided by their channels' standard deviations and summed, and the bias takes over the means;
    positions are copied, so that other image sizes resample them as ``stem`` does.

    Args:
        stem: Stem of the backbone, which is not changed. None for a backbone without one: ``random_stem``.
        dim: Width of the backbone.
    """
    config = replace(NO_STEM if stem is None else stem.config, bias=True, mean=(0.0,), std=(1.0,))
    if stem is None:
        return random_stem(dim, config)
    grey = Stem(dim, config)
    assert grey.proj.bias is not None
    with torch.no_grad():
        filters = stem.proj.weight.double() / stem.std
        bias = -(filters * stem.mean).sum((1, 2, 3))
        grey.proj.weight.copy_(filters.sum(1, keepdim=True))
        grey.proj.bias.copy_(bias if stem.proj.bias is None else bias + stem.proj.bias)
        grey.positions.copy_(stem.positions)
    return grey
