"""Tiers of tuning: the part of the backbone that a task trains."""

from collections.abc import Mapping
from typing import Any

import torch

from metatx.adapters.lora import Adapter, LoraOptions, lora_adapter, norm_adapter, options_of
from metatx.adapters.scale import ScaleOptions, scale_adapter
from metatx.backbone.base import Backbone
from metatx.registry import unknown
from metatx.seeding import seeded

__all__ = ["SHARED", "TIERS", "merged", "own_copy", "tuned"]

TIERS = ("frozen", "scale", "norm", "lora", "full")
SHARED = ("scale", "norm", "lora")  # tiers whose tasks have an adapter on the shared backbone


def tuned(
    backbone: Backbone, tune: str, options: Mapping[str, Any] | None, seed: int
) -> tuple[Backbone, Adapter | None]:
    """Backbone and adapter of a task of the tier ``tune``; a task tuned in full gets its own copy of the backbone.

    Args:
        backbone: Shared backbone; never changed.
        tune: One of ``TIERS``.
        options: Options of the adapter of the tier, by name: those of ``LoraOptions`` or ``ScaleOptions``.
        seed: Seed of the adapter's initial weights.

    Raises:
        ValueError: If the tier or an option is unknown, or a value cannot be used.
    """
    if tune not in TIERS:
        raise ValueError(unknown("tune", tune, list(TIERS)))
    if options and tune not in ("scale", "lora"):
        raise ValueError(f"tune={tune!r} takes no adapter options; {', '.join(options)} would need tune='lora'.")
    if tune == "full":
        return own_copy(backbone), None
    if tune == "frozen":
        return backbone, None
    with seeded(seed):
        made = _adapter(backbone, tune, options or {})
    return backbone, made.to(backbone.device)


def _adapter(backbone: Backbone, tune: str, options: Mapping[str, Any]) -> Adapter:
    if tune == "scale":
        return scale_adapter(backbone, options_of(ScaleOptions, options))
    return lora_adapter(backbone, LoraOptions.of(options)) if tune == "lora" else norm_adapter(backbone)


def own_copy(backbone: Backbone) -> Backbone:
    """Trainable copy whose stems take no gradients, as tokenizers train copies of them, nor its pool."""
    copy = backbone.trainable_copy()
    for part in (*copy.stems.values(), copy.attention_pool):
        if part is not None:
            part.requires_grad_(False)
    return copy


@torch.no_grad()
def merged(backbone: Backbone, adapter: Adapter) -> Backbone:
    """Copy of the backbone with the adapter folded into its weights; it takes no gradients."""
    copy = own_copy(backbone).requires_grad_(False)
    for name, weight in adapter.merged(backbone).items():
        copy.get_parameter(name).copy_(weight)
    return copy
