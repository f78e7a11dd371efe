"""Backbones by name: their shapes and the sources of their weights."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from timm.layers.activations import GELUTanh, QuickGELU
from timm.layers.attention import Attention
from timm.layers.attention_pool import AttentionPoolLatent
from timm.layers.mlp import Mlp
from timm.layers.norm import LayerNorm
from timm.layers.patch_embed import PatchEmbed
from timm.models import vision_transformer as timm_vit
from timm.models.beit import Beit
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.vision_transformer import Block
from timm.models.vision_transformer_relpos import VisionTransformerRelPos
from torch import Tensor, nn

from metatx.backbone.attention_pool import AttentionPool, AttentionPoolConfig
from metatx.backbone.base import Backbone
from metatx.backbone.conversion import Tensors, from_blocks, from_open_clip, from_timm
from metatx.backbone.language import LanguageBackbone
from metatx.backbone.language_source import (
    download_language_model,
    from_transformers,
    language_config,
    language_repository,
)
from metatx.backbone.stem import StemConfig
from metatx.backbone.timm_blocks import TimmBlocks, TimmConfig, take_bias
from metatx.backbone.vit import BackboneConfig, VisionTransformer
from metatx.disk.weight_files import read_tensors
from metatx.registry import unknown

__all__ = ["REPOSITORIES", "SOURCES", "Source"]


@dataclass(frozen=True)
class Source:
    """Source of a backbone's weights.

    Attributes:
        config: Shape of the backbone.
        convert: Function from tensors in the source's layout to the backbone's weights.
        download: Function that fetches the published weights; raises ValueError where there are none.
        mismatch: Reason why the published weights do not belong to this shape; empty if they do.
        kind: Class of the backbone.
    """

    config: Any
    convert: Callable[[Tensors, Any], dict[str, Tensor]]
    download: Callable[[], Mapping[str, Tensor]]
    mismatch: str = ""
    kind: type[Backbone] = VisionTransformer


# timm

FAMILIES = (timm_vit.VisionTransformer, VisionTransformerDistilled, Eva, Beit, VisionTransformerRelPos)


def timm(name: str) -> Source:
    """Source for ``timm:NAME``: a Vision Transformer by its timm name, with or without tag.

    Raises:
        ValueError: If timm has no such model, or its architecture cannot be used.
    """
    import timm as library

    architecture, _, tag = name.partition(".")
    if not library.is_model(architecture):
        near = difflib.get_close_matches(architecture, library.list_models(), n=3)
        hint = f"Did you mean {' or '.join(near)}?" if near else "timm.list_models('vit_*') lists them."
        raise ValueError(f"timm has no model {architecture!r}. {hint}")
    tags = [weights.partition(".")[2] for weights in library.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise ValueError(unknown(f"weights of timm's {architecture}", tag, tags))
    with torch.device("meta"):
        model = library.create_model(name, pretrained=False)
    kind = TimmBlocks if strangeness(model) else VisionTransformer
    config = blocks_config(name, model) if kind is TimmBlocks else timm_config(model)

    def download() -> Mapping[str, Tensor]:
        if not tags:
            raise ValueError(f"timm publishes no weights of {architecture}; give a checkpoint or pretrained=False.")
        weights: Mapping[str, Tensor] = library.create_model(name, pretrained=True).state_dict()
        return weights

    mismatch = ""
    quick = name.replace("_clip_", "_clip_quickgelu_")
    if tag and quick != name and library.is_model_pretrained(quick):
        mismatch = f"The weights {tag} were trained with QuickGELU, {architecture} has GELU; use timm:{quick}."
    if name == "vit_base_patch16_clip_224.dfn2b":
        # timm publishes these weights for GELU, open_clip publishes the same weights for QuickGELU.
        mismatch = f"Sources disagree on the activation of {name}; use open_clip:ViT-B-16-quickgelu/dfn2b."
    convert = partial(from_timm, embedded=getattr(model, "pos_embed", None) is not None)
    return Source(config, convert, download, mismatch, kind)


def timm_config(model: Any) -> BackboneConfig:
    """Config of a timm model that ``VisionTransformer`` computes."""
    block = model.blocks[0]
    return BackboneConfig(
        dim=model.embed_dim,
        depth=len(model.blocks),
        num_heads=block.attn.num_heads,
        mlp_dim=block.mlp.fc1.out_features,
        activation="quick_gelu" if isinstance(block.mlp.act, QuickGELU) else "gelu",
        prefix=model.num_prefix_tokens,
        norm_pre=isinstance(model.norm_pre, LayerNorm),
        norm=isinstance(model.norm, LayerNorm),
        norm_eps=block.norm1.eps,
        qkv_bias=block.attn.qkv.bias is not None,
        qk_norm=isinstance(block.attn.q_norm, LayerNorm),
        layer_scale=not isinstance(block.ls1, nn.Identity),
        stem=timm_stem(model),
        class_token=model.cls_token is not None,
        attention_pool=timm_pool(model),
    )


def blocks_config(name: str, model: Any) -> TimmConfig:
    """Config of a timm model for ``TimmBlocks``. Raises ValueError, with the reason, if it cannot be used."""
    reason = _unusable(model)
    if reason:
        raise ValueError(
            f"timm's {name} {reason}; a backbone is a Vision Transformer that cuts square images into patches "
            "and maps tokens to tokens of one width, such as vit_base_patch16_clip_224."
        )
    return TimmConfig(
        model=name,
        dim=model.embed_dim,
        depth=len(model.blocks),
        prefix=model.num_prefix_tokens,
        class_token=model.cls_token is not None,
        stem=timm_stem(model),
        attention_pool=timm_pool(model),
    )


def timm_pool(model: Any) -> AttentionPoolConfig | None:
    """Config of a timm model's attention pool; None if there is none that ``AttentionPool`` computes."""
    pool: Any = getattr(model, "attn_pool", None)
    if type(pool) is not AttentionPoolLatent or pool.mlp is None or not isinstance(model.fc_norm, nn.Identity):
        return None
    hidden: Any = pool.mlp.fc1
    config = AttentionPoolConfig(
        num_heads=pool.num_heads,
        mlp_dim=hidden.out_features,
        approximate="tanh" if isinstance(pool.mlp.act, GELUTanh) else "none",
        norm_eps=getattr(pool.norm, "eps", 0.0),
        reads_prefix=getattr(model, "pool_include_prefix", True),
    )
    with torch.device("meta"):
        ours = AttentionPool(model.embed_dim, config)
    shapes, theirs = ({name: weight.shape for name, weight in each.named_parameters()} for each in (ours, pool))
    same = shapes == theirs and type(pool.norm) is LayerNorm and isinstance(pool.mlp.act, nn.GELU | GELUTanh)
    return config if same and pool.pool == "token" else None


def timm_stem(model: Any) -> StemConfig:
    """Config of a timm model's stem: patches and preprocessing of images."""
    preprocessing = model.pretrained_cfg
    return StemConfig(
        patch_size=model.patch_embed.patch_size[0],
        image_size=model.patch_embed.img_size[0],
        bias=model.patch_embed.proj.bias is not None,
        mean=tuple(preprocessing["mean"]),
        std=tuple(preprocessing["std"]),
        interpolation=preprocessing["interpolation"],
        crop_pct=preprocessing["crop_pct"],
        crop_mode=preprocessing["crop_mode"],
    )


def _unusable(model: Any) -> str:
    """Reason why a timm model cannot be used; empty if it can."""
    if type(model) not in FAMILIES:
        return f"is a {type(model).__name__}, whose way from images to tokens is not known here"
    cut = model.patch_embed
    if type(cut) is not PatchEmbed or not isinstance(cut.norm, nn.Identity):
        return f"has a stem that does more than cut images into patches ({type(cut).__name__})"
    if cut.img_size[0] != cut.img_size[1] or cut.patch_size[0] != cut.patch_size[1]:
        return "reads images that are not square"
    try:
        take_bias(model)
    except ValueError as error:
        return str(error)
    return ""


def strangeness(model: Any) -> str:
    """First part of a timm model that ``VisionTransformer`` does not compute; empty if it computes all."""
    if type(model) not in (timm_vit.VisionTransformer, VisionTransformerDistilled) or _unusable(model):
        return f"is a {type(model).__name__}"
    kinds = {type(block) for block in model.blocks}
    if kinds != {Block}:
        return f"has blocks of type {', '.join(kind.__name__ for kind in kinds)}"
    attention = model.blocks[0].attn
    mlp = model.blocks[0].mlp
    norm = model.blocks[0].norm1
    if type(attention) is not Attention or attention.gate is not None or attention.proj.bias is None:
        return "has attention of another kind"
    if type(mlp) is not Mlp or not all(isinstance(extra, nn.Identity) for extra in (mlp.norm, attention.norm)):
        return "has blocks with further norms, or an MLP of another kind"
    if type(mlp.act) not in (nn.GELU, QuickGELU):
        return f"has the activation {type(mlp.act).__name__}"
    return "" if type(norm) is LayerNorm else f"has norms of type {type(norm).__name__}"


# open_clip


def open_clip(name: str) -> Source:
    """Source for ``open_clip:MODEL/TAG``: the visual tower of an open_clip model; a checkpoint needs no tag.

    Raises:
        ValueError: If open_clip has no such model or tag, or the tower's architecture cannot be used.
    """
    try:
        import open_clip as library
    except ImportError:
        raise ImportError("open_clip backbones need open_clip_torch: pip install 'metatx[clip]'") from None

    model, _, tag = name.partition("/")
    # list_models comes first: for names of other forms (hf-hub:, local-dir:) the library would ask the network or disk.
    settings = library.get_model_config(model) if model in library.list_models() else None
    if settings is None:
        near = difflib.get_close_matches(model, library.list_models(), n=3)
        hint = f"Did you mean {' or '.join(near)}?" if near else "open_clip.list_models() lists them."
        raise ValueError(f"open_clip has no model {model!r}. {hint}")
    tags = library.list_pretrained_tags_by_model(model)
    if tag and not library.pretrained.is_pretrained_cfg(model, tag):
        raise ValueError(unknown(f"weights of open_clip's {model}", tag, tags))
    published = library.get_pretrained_cfg(model, tag) if tag else {}
    config = _open_clip_config(model, settings, published)

    def download() -> Mapping[str, Tensor]:
        if not tag:
            raise ValueError(f"Name the weights: open_clip:{model}/TAG, where TAG is one of {', '.join(tags)}.")
        return read_tensors(library.download_pretrained(published))

    mismatch = ""
    quick = published.get("quick_gelu", False)
    if tag and quick != (config.activation == "quick_gelu"):
        other = model.removesuffix("-quickgelu") + ("-quickgelu" if quick else "")
        fits = library.pretrained.is_pretrained_cfg(other, tag) and other != model
        trained = "QuickGELU" if quick else "GELU"
        mismatch = f"The weights {tag} were trained with {trained}, {model} has not; " + (
            f"use open_clip:{other}/{tag}." if fits else "open_clip has no model that fits them."
        )
    return Source(config, from_open_clip, download, mismatch)


SHAPE = {
    "layers",
    "width",
    "head_width",
    "mlp_ratio",
    "patch_size",
    "image_size",
    "ls_init_value",
    "no_ln_pre",
}
# Options of training, pooling and initialisation, which do not change what the frozen blocks compute.
NO_MATTER = {"patch_dropout", "pool_type", "final_ln_after_pool", "output_tokens", "pos_embed_type"}


def _open_clip_config(name: str, settings: Mapping[str, Any], published: Mapping[str, Any]) -> BackboneConfig:
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    tower = settings["vision_cfg"]
    if "timm_model_name" in tower:
        raise ValueError(f"The visual tower of {name} is timm's; use timm:{tower['timm_model_name']}.")
    strange = sorted(key for key in tower if key not in SHAPE | NO_MATTER and tower[key])
    width = tower["width"]
    layers = tower["layers"]
    image = tower["image_size"]
    if strange or not isinstance(layers, int) or not isinstance(image, int):
        what = ", ".join(strange) or "a ResNet, or images that are not square"
        raise ValueError(
            f"The visual tower of {name} is no plain Vision Transformer ({what}); use one such as ViT-B-16."
        )
    resize = published.get("resize_mode", "shortest")
    if resize not in ("shortest", "squash"):
        raise ValueError(f"{name} wants images resized by {resize!r}; only shortest and squash are known.")
    return BackboneConfig(
        dim=width,
        depth=layers,
        num_heads=width // tower.get("head_width", 64),
        mlp_dim=int(width * tower.get("mlp_ratio", 4.0)),
        activation="quick_gelu" if settings.get("quick_gelu", False) else "gelu",
        norm_pre=not tower.get("no_ln_pre", False),
        norm_eps=1e-5,
        layer_scale=tower.get("ls_init_value") is not None,
        stem=StemConfig(
            patch_size=tower["patch_size"],
            image_size=image,
            bias=False,
            mean=tuple(published.get("mean", OPENAI_DATASET_MEAN)),
            std=tuple(published.get("std", OPENAI_DATASET_STD)),
            interpolation=published.get("interpolation", "bicubic"),
            crop_pct=1.0,
            crop_mode="squash" if resize == "squash" else "center",
        ),
    )


# Meta-Transformer

SIZES = {"base": (768, 12, 12), "large": (1024, 24, 16)}  # dim, depth, num_heads


def meta_transformer(name: str) -> Source:
    """Source for ``meta-transformer:base`` or ``:large``: published files of bare blocks (arXiv 2307.10802).

    Raises:
        ValueError: If the size is another one.
    """
    if name not in SIZES:
        raise ValueError(unknown("Meta-Transformer", name, list(SIZES)))
    dim, depth, num_heads = SIZES[name]
    config = BackboneConfig(
        dim=dim, depth=depth, num_heads=num_heads, mlp_dim=4 * dim, prefix=0, norm=False, norm_eps=1e-5
    )

    def download() -> Mapping[str, Tensor]:
        raise ValueError(
            f"meta-transformer:{name} cannot be fetched by name: download the encoder file that "
            "https://github.com/invictus717/MetaTransformer links, and give it as checkpoint."
        )

    return Source(config, from_blocks, download)


# transformers


def transformers(name: str) -> Source:
    """Source for ``transformers:NAME_OR_FOLDER``: a text encoder or causal language model.

    Raises:
        OSError: If it cannot be read.
        ValueError: If its architecture cannot be used.
    """
    config = language_config(name)
    return Source(config, from_transformers, partial(download_language_model, name, config), kind=LanguageBackbone)


SOURCES: dict[str, Callable[[str], Source]] = {
    "open_clip": open_clip,
    "timm": timm,
    "meta-transformer": meta_transformer,
    "transformers": transformers,
}


def timm_repository(name: str) -> str | None:
    """Repository of timm's weights ``name`` (with or without tag) on the Hugging Face hub; None without one."""
    from timm.models import get_pretrained_cfg

    published = get_pretrained_cfg(name)
    return (published and published.hf_hub_id) or None


def open_clip_repository(name: str) -> str | None:
    """Repository of open_clip's weights ``MODEL/TAG`` on the Hugging Face hub; None without one."""
    from open_clip import get_pretrained_cfg

    return get_pretrained_cfg(*name.split("/", 1)).get("hf_hub", "").rstrip("/") or None if "/" in name else None


REPOSITORIES: dict[str, Callable[[str], str | None]] = {
    "timm": timm_repository,
    "open_clip": open_clip_repository,
    "transformers": language_repository,
}
