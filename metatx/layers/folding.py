"""Stem of a backbone folded to one channel, for X-ray, infrared and spectrograms."""

from dataclasses import replace

import torch
from torch import nn

from metatx.backbone.stem import Stem, StemConfig

__all__ = ["NO_STEM", "folded_stem"]

NO_STEM = StemConfig(patch_size=16, image_size=224)  # configuration of a random stem


def folded_stem(stem: Stem | None, dim: int) -> Stem:
    """Trainable stem of one channel, values 0..1, whose tokens equal those of ``stem`` for the grey image as RGB.

    The RGB filters are divided by their channels' standard deviations and summed, and the bias takes over the means;
    positions are copied, so that other image sizes resample them as ``stem`` does.

    Args:
        stem: Stem of the backbone, which is not changed. None for a backbone without one: then patches of 16 pixels,
            orthogonal filters, and small random positions of 14 x 14 patches.
        dim: Width of the backbone.
    """
    config = NO_STEM if stem is None else stem.config
    grey = Stem(dim, replace(config, bias=True, mean=(0.0,), std=(1.0,)))
    assert grey.proj.bias is not None
    with torch.no_grad():
        if stem is None:
            nn.init.orthogonal_(grey.proj.weight.view(dim, -1))
            nn.init.zeros_(grey.proj.bias)
            nn.init.trunc_normal_(grey.positions, std=0.02)
            return grey
        filters = stem.proj.weight.double() / stem.std
        bias = -(filters * stem.mean).sum((1, 2, 3))
        grey.proj.weight.copy_(filters.sum(1, keepdim=True))
        grey.proj.bias.copy_(bias if stem.proj.bias is None else bias + stem.proj.bias)
        grey.positions.copy_(stem.positions)
    return grey
