"""LayerNorm that rescales tokens to the stem's RMS before the first block."""

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from metatx.backbone.vit import Backbone
    from metatx.tokenizer import Tokenizer

__all__ = ["input_norm"]


def input_norm(backbone: "Backbone", tokenizer: "Tokenizer") -> nn.Module:
    """A LayerNorm that gives tokens the stem's scale, times ``tokenizer.amplitude``; nothing where none is needed.

    Tokens of another scale than the stem's pass through the blocks almost unchanged, or drown them.
    """
    if backbone.has_norm_pre or tokenizer.uses_stem_tokens:
        return nn.Identity()
    norm = nn.LayerNorm(backbone.dim)
    nn.init.constant_(norm.weight, backbone.token_rms * tokenizer.amplitude)
    return norm
