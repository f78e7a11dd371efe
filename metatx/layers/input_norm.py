"""LayerNorm that rescales tokens to the stem's RMS before the first block."""

from typing import TYPE_CHECKING, Protocol

from torch import nn

if TYPE_CHECKING:
    from metatx.backbone.base import Backbone

__all__ = ["input_norm"]


class Scale(Protocol):
    """Tokenizer or bridge, which says the scale of its tokens, see ``Tokenizer``."""

    uses_stem_tokens: bool
    token_rms_factor: float


def input_norm(backbone: "Backbone", tokenizer: Scale) -> nn.Module:
    """LayerNorm to the RMS of the stem's tokens times the tokenizer's factor; the identity where none is needed.

    Tokens of another scale than the stem's pass through the blocks almost unchanged, or drown them. Where the backbone
    adds positions and then normalises, a larger scale would but drown the positions; the factor is 1 there.
    """
    if tokenizer.uses_stem_tokens or (backbone.normalises_input and not backbone.adds_positions):
        return nn.Identity()
    factor = 1.0 if backbone.normalises_input else tokenizer.token_rms_factor
    norm = nn.LayerNorm(backbone.dim)
    nn.init.constant_(norm.weight, backbone.token_rms * factor)
    return norm
