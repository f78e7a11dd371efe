"""Weights in the layouts of timm, open_clip and Meta-Transformer, renamed into ours; heads stay behind."""

from collections.abc import Mapping

import torch
from torch import Tensor

from metatx.backbone.vit import BackboneConfig

__all__ = ["from_blocks", "from_open_clip", "from_timm"]

Tensors = Mapping[str, Tensor]

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


def from_timm(tensors: Tensors, config: BackboneConfig) -> dict[str, Tensor]:
    """A timm VisionTransformer's weights as a backbone's.

    The position embedding may have rows for the prefix tokens, in front; they are added to those tokens here.
    """
    names = _starting(tensors, "patch_embed.", "norm_pre.", "blocks.", "norm.")
    ours = {name.replace("patch_embed.", "stem."): tensors[name] for name in names}
    prefix = [tensors[name].flatten(0, -2) for name in ("cls_token", "reg_token") if name in tensors]
    return ours | _embeddings(torch.cat(prefix) if prefix else None, tensors.get("pos_embed"), config)


def from_open_clip(tensors: Tensors, config: BackboneConfig) -> dict[str, Tensor]:
    """An open_clip visual tower's weights as a backbone's, from its own file or from the whole model's."""
    if any(name.startswith("visual.") for name in tensors):
        tensors = {name.removeprefix("visual."): tensors[name] for name in _starting(tensors, "visual.")}
    ours = {}
    for name in _starting(tensors, "conv1.", "ln_pre.", "ln_post.", "transformer.resblocks."):
        renamed = name
        for theirs, own in OPEN_CLIP_NAMES.items():
            renamed = renamed.replace(theirs, own)
        ours[renamed] = tensors[name]
    cls_token = tensors.get("class_embedding")
    prefix = None if cls_token is None else cls_token[None]
    return ours | _embeddings(prefix, tensors.get("positional_embedding"), config)


def from_blocks(tensors: Tensors, config: BackboneConfig) -> dict[str, Tensor]:
    """Bare blocks ``{i}.norm1.weight`` ... as a backbone's, which then has no token of its own."""
    ours = {f"blocks.{name}": value for name, value in tensors.items() if name.split(".")[0].isdigit()}
    return ours | {"cls_token": torch.empty(0, config.dim)}


def _embeddings(prefix: Tensor | None, positions: Tensor | None, config: BackboneConfig) -> dict[str, Tensor]:
    """Prefix tokens (P, D) and positions (..., N, D), or (..., P + N, D) with the prefix's own in front."""
    ours = {}
    if positions is not None:
        positions = positions.flatten(0, -2)
        if prefix is not None and config.stem and len(positions) == config.stem.side**2 + len(prefix):
            # Files in half precision: their sum would be rounded once more.
            own, positions = positions[: len(prefix)], positions[len(prefix) :]
            prefix = prefix.float() + own.float()
        ours["stem.positions"] = positions
    if prefix is not None:
        ours["cls_token"] = prefix
    return ours


def _starting(tensors: Tensors, *starts: str) -> list[str]:
    return [name for name in tensors if name.startswith(starts)]
