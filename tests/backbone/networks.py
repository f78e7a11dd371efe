"""Small networks, and blocks of timm with the weights of one of ours."""

from functools import partial

import timm.models.vision_transformer as timm
from timm.layers import LayerNorm, get_act_layer
from torch import nn

from metatx import Backbone
from metatx.backbone.stem import StemConfig
from metatx.backbone.vit import BackboneConfig, VisionTransformer

TINY = BackboneConfig(
    dim=32,
    depth=2,
    num_heads=2,
    mlp_dim=64,
    prefix=3,
    norm_pre=True,
    qk_norm=True,
    layer_scale=True,
    stem=StemConfig(patch_size=4, image_size=8),
)
BARE = BackboneConfig(dim=32, depth=2, num_heads=2, mlp_dim=64, prefix=0, norm=False)


def tiny(config: BackboneConfig = TINY) -> Backbone:
    return VisionTransformer(config, None, spec="tiny")


def timm_block(config: BackboneConfig, block: nn.Module) -> timm.Block:
    """Timm's block of that shape, which reads (B, N, D), with the weights of ours."""
    theirs = timm.Block(
        config.dim,
        config.num_heads,
        mlp_ratio=(config.mlp_dim + 0.5) / config.dim,  # timm multiplies and rounds down: to exactly mlp_dim
        qkv_bias=config.qkv_bias,
        qk_norm=config.qk_norm,
        init_values=1.0 if config.layer_scale else None,
        act_layer=get_act_layer(config.activation),
        norm_layer=partial(LayerNorm, eps=config.norm_eps),
    )
    theirs.load_state_dict(block.state_dict())
    return theirs.eval()
