"""Backbone: the frozen transformer that all tasks share, and where its weights come from."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metatx.backbone.base import Backbone, LayerChanges
    from metatx.backbone.exchange import Exchange
    from metatx.backbone.vit import BackboneConfig, VisionTransformer

__all__ = ["Backbone", "BackboneConfig", "Exchange", "LayerChanges", "VisionTransformer"]

_HOME = {
    "Backbone": "base",
    "BackboneConfig": "vit",
    "Exchange": "exchange",
    "LayerChanges": "base",
    "VisionTransformer": "vit",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: the names of backbones, a module beside it, are read without torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'metatx.backbone' has no attribute {name!r}")
    return getattr(import_module(f"metatx.backbone.{_HOME[name]}"), name)
