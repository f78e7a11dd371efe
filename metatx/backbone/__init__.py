"""The frozen transformer that all tasks share: its parts, the weights it starts from, how they are found and read."""

from metatx.backbone.base import Backbone, LayerChanges
from metatx.backbone.exchange import Exchange
from metatx.backbone.vit import BackboneConfig, VisionTransformer

__all__ = ["Backbone", "BackboneConfig", "Exchange", "LayerChanges", "VisionTransformer"]
