"""The way into a backbone, for tokens that its own stem did not make."""

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from metatx.backbone.vit import Backbone
    from metatx.tokenizer import Tokenizer

__all__ = ["input_norm"]


def input_norm(backbone: "Backbone", tokenizer: "Tokenizer") -> nn.Module:
    """LayerNorm to the RMS of the stem's tokens times the tokenizer's factor; the identity where none is needed.

    Tokens of another scale than the stem's pass through the blocks almost unchanged, or drown them.
    """
    if backbone.has_norm_pre or tokenizer.uses_stem_tokens:
        return nn.Identity()
    norm = nn.LayerNorm(backbone.dim)
    nn.init.constant_(norm.weight, backbone.token_rms * tokenizer.token_rms_factor)
    return norm
