"""The frozen transformer that all tasks share: its parts, the weights it starts from, how they are found and read."""

from metatx.backbone.vit import Backbone, BackboneConfig

__all__ = ["Backbone", "BackboneConfig"]
