"""Backbone: the frozen transformer that all tasks share, and where its weights come from."""

from metatx.backbone.base import Backbone, LayerChanges
from metatx.backbone.exchange import Exchange
from metatx.backbone.vit import BackboneConfig, VisionTransformer

__all__ = ["Backbone", "BackboneConfig", "Exchange", "LayerChanges", "VisionTransformer"]
