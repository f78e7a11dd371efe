"""A backbone's stem for images of one channel: X-ray, infrared, spectrograms."""

from dataclasses import replace

import torch
from torch import nn

from metatx.backbone.stem import Stem, StemConfig

__all__ = ["NO_STEM", "folded_stem"]

NO_STEM = StemConfig(patch_size=16, image_size=224)  # what a random one is made with


def folded_stem(stem: Stem | None, dim: int) -> Stem:
    """A trainable stem of one channel, values in 0..1, that sees in a grey image what ``stem`` sees in it as RGB.

    The RGB filters are summed, each divided by its channel's standard deviation, and the bias takes over the means;
    positions are copied, so that other sizes of image resample them as ``stem`` does.

    Args:
        stem: ``backbone.stem``; never changed. None for a backbone without one: patches of 16 pixels, with filters
            that start orthogonal and small random positions of 14 x 14 patches.
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
