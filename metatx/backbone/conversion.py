"""Conversion of weights of timm, open_clip and Meta-Transformer to a backbone's names; heads are left out."""

import re
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from metatx.backbone.attention_pool import AttentionPoolConfig
from metatx.backbone.stem import StemConfig

__all__ = ["from_blocks", "from_open_clip", "from_timm"]

Tensors = Mapping[str, Tensor]


class Shape(Protocol):
    """Fields of a backbone's config that the conversion needs."""

    @property
    def dim(self) -> int:
        """Width of the tokens, D."""
        ...

    @property
    def prefix(self) -> int:
        """Number of prefix tokens, P."""
        ...

    @property
    def stem(self) -> StemConfig | None:
        """Layer from images to tokens; None without one."""
        ...

    @property
    def attention_pool(self) -> AttentionPoolConfig | None:
        """Layer from a sequence to one vector; None without one."""
        ...


# timm keeps relative positions inside attention; the backbone keeps them beside it.
TIMM_NAMES = (
    (r"patch_embed\.", "stem."),
    (r"(blocks\.\d+\.)attn\.rel_pos\.", r"\1position_bias."),
    (r"(blocks\.\d+\.)attn\.relative_position_bias_table", r"\1position_bias.relative_position_bias_table"),
    (r"(rel_pos_bias|shared_rel_pos)\.", "position_bias."),
    (r"attn_pool\.", "attention_pool."),
)

OPEN_CLIP_NAMES = {
    "conv1.": "stem.proj.",
    "ln_pre.": "norm_pre.",
    "ln_post.": "norm.",
    "transformer.resblocks.": "blocks.",
    "ln_1.": "norm1.",
    "ln_2.": "norm2.",
    "ls_1.": "ls1.",
    "ls_2.": "ls2.",
    "attn.in_proj_": "attn.qkv.",
    "attn.out_proj.": "attn.proj.",
    "mlp.c_fc.": "mlp.fc1.",
    "mlp.c_proj.": "mlp.fc2.",
}


def from_timm(tensors: Tensors, config: Shape, *, embedded: bool = True) -> dict[str, Tensor]:
    """Convert the weights of a Vision Transformer of timm.

    The position embedding may begin with rows for the prefix tokens; these are added to the prefix tokens.

    Args:
        tensors: Weights by timm's names.
        config: Config of the backbone.
        embedded: True if the model has a position embedding. Without one, as with rotary positions, the stem's is zero.
    """
    starts = ("patch_embed.", "norm_pre.", "blocks.", "norm.", "rope.", "rel_pos_bias.", "shared_rel_pos.")
    ours = {}
    pool = ("attn_pool.",) if config.attention_pool else ()
    for name in _starting(tensors, *starts, *pool):
        renamed = name
        for pattern, replacement in TIMM_NAMES:
            renamed = re.sub(f"^{pattern}", replacement, renamed)
        ours[renamed] = tensors[name]
    tokens = [tensors[name].flatten(0, -2) for name in ("cls_token", "dist_token", "reg_token") if name in tensors]
    prefix = torch.cat(tokens) if tokens else None
    if not tokens and not config.prefix:
        prefix = torch.empty(0, config.dim)
    positions = tensors.get("pos_embed")
    if not embedded and config.stem:
        positions = torch.zeros(config.stem.side**2, config.dim)
    return ours | _embeddings(prefix, positions, config)


def from_open_clip(tensors: Tensors, config: Shape) -> dict[str, Tensor]:
    """Convert the weights of open_clip's visual tower, alone or inside the whole model's."""
    if any(name.startswith("visual.") for name in tensors):
        tensors = {name.removeprefix("visual."): tensors[name] for name in _starting(tensors, "visual.")}
    ours = {}
    for name in _starting(tensors, "conv1.", "ln_pre.", "ln_post.", "transformer.resblocks."):
        renamed = name
        for theirs, ours_name in OPEN_CLIP_NAMES.items():
            renamed = renamed.replace(theirs, ours_name)
        ours[renamed] = tensors[name]
    cls_token = tensors.get("class_embedding")
    prefix = None if cls_token is None else cls_token[None]
    return ours | _embeddings(prefix, tensors.get("positional_embedding"), config)


def from_blocks(tensors: Tensors, config: Shape) -> dict[str, Tensor]:
    """Convert bare blocks, ``{i}.norm1.weight`` and so on, to a backbone without prefix tokens."""
    ours = {f"blocks.{name}": value for name, value in tensors.items() if name.split(".")[0].isdigit()}
    return ours | {"cls_token": torch.empty(0, config.dim)}


def _embeddings(prefix: Tensor | None, positions: Tensor | None, config: Shape) -> dict[str, Tensor]:
    """Name prefix tokens (P, D) and positions (..., N, D), or (..., P + N, D) if the prefix has positions, in front."""
    ours = {}
    if positions is not None:
        positions = positions.flatten(0, -2)
        if prefix is not None and config.stem and len(positions) == config.stem.side**2 + len(prefix):
            # In float32: a sum in half precision would be rounded once more.
            prefix_positions = positions[: len(prefix)]
            positions = positions[len(prefix) :]
            prefix = prefix.float() + prefix_positions.float()
        ours["stem.positions"] = positions
    if prefix is not None:
        ours["cls_token"] = prefix
    return ours


def _starting(tensors: Tensors, *starts: str) -> list[str]:
    return [name for name in tensors if name.startswith(starts)]
