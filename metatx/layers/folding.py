"""A backbone's stem for pictures of one channel: X-ray, infrared, spectrograms."""

from dataclasses import replace

import torch
from torch import nn

from metatx.backbone.stem import Stem, StemConfig

__all__ = ["NO_STEM", "folded_stem", "random_stem"]

NO_STEM = StemConfig(patch_size=16, image_size=224)  # of ``random_stem``


def random_stem(dim: int, config: StemConfig = NO_STEM) -> Stem:
    """A stem for a backbone without one: its filters start orthogonal, its positions small and random.

    Args:
        dim: Width of the backbone.
        config: Patch, picture and channels; by default patches of 16 pixels in a picture of 224, in colour.
    """
    stem = Stem(dim, config)
    nn.init.orthogonal_(stem.proj.weight.view(dim, -1))
    nn.init.zeros_(stem.proj.bias)  # type: ignore[arg-type]
    nn.init.trunc_normal_(stem.positions, std=0.02)
    return stem


def folded_stem(stem: Stem | None, dim: int) -> Stem:
    """A trainable stem of one channel, values in 0..1, that sees in a grey picture what ``stem`` sees in it as RGB.

    The RGB filters are summed, each divided by its channel's standard deviation, and the bias takes over the means;
    positions are copied, so that other sizes of picture resample them as ``stem`` does.

    Args:
        stem: ``backbone.stem``; never changed. None for a backbone without one: as ``random_stem``.
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
