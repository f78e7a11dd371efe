"""Vision Transformer: the backbone of ``metatx.backbone.block``."""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn

from metatx.backbone.attention import Call, Packing
from metatx.backbone.attention_pool import AttentionPool, AttentionPoolConfig
from metatx.backbone.base import Backbone, LayerChanges
from metatx.backbone.block import Activation, Block
from metatx.backbone.stem import Stem, StemConfig
from metatx.sequence import TokenSequence

__all__ = ["BackboneConfig", "VisionTransformer"]

ADAPTABLE_NORMS = re.compile(r"norm_pre|norm|blocks\.\d+\.norm[12]")
RESIDUALS = re.compile(r"blocks\.\d+\.(attn\.proj|mlp\.fc2)\.(weight|bias)")  # last layers of the blocks' branches


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """Config of a Vision Transformer: everything that decides what it computes, except the weights.

    Attributes:
        dim: Width of the tokens, D.
        depth: Number of blocks.
        num_heads: Number of attention heads, a divisor of ``dim``.
        mlp_dim: Width of the hidden layer of each block.
        activation: Activation of the hidden layer; weights work only with the one that they were trained with.
        prefix: Number of prefix tokens, P: CLS and registers.
        norm_pre: True if a LayerNorm stands before the blocks, as in CLIP.
        norm: True if a LayerNorm stands after the blocks.
        norm_eps: Epsilon of every LayerNorm.
        qkv_bias: True if the query, key and value maps have a bias.
        qk_norm: True if queries and keys are normalised.
        layer_scale: True if each residual branch has a learned scale per channel.
        class_token: True if the first prefix token is a class token; the others are registers.
        stem: Config of the layer from images to tokens, where the weights came with one.
        attention_pool: Config of the layer from a sequence to one vector, where the weights came with one.
    """

    dim: int
    depth: int
    num_heads: int
    mlp_dim: int
    activation: Activation = "gelu"
    prefix: int = 1
    norm_pre: bool = False
    norm: bool = True
    norm_eps: float = 1e-6
    qkv_bias: bool = True
    qk_norm: bool = False
    layer_scale: bool = False
    stem: StemConfig | None = None
    class_token: bool = True
    attention_pool: AttentionPoolConfig | None = None

    def __post_init__(self) -> None:
        if self.dim % self.num_heads:
            raise ValueError(f"{self.num_heads} heads do not divide a width of {self.dim}.")
        if self.activation not in ("gelu", "quick_gelu"):
            raise ValueError(f"activation is {self.activation!r}; known are gelu and quick_gelu.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build from the dict that ``dataclasses.asdict`` returned, or from its JSON.

        Raises:
            KeyError, TypeError: If a field is missing or unknown.
        """
        stem = values.get("stem")
        pool = values.get("attention_pool")
        parts = {
            "stem": None if stem is None else StemConfig.from_dict(stem),
            "attention_pool": None if pool is None else AttentionPoolConfig(**pool),
        }
        return cls(**{**values, **parts})

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; those that older folders and fingerprints lack only where they say more."""
        values = asdict(self)
        if self.class_token:
            del values["class_token"]
        if self.attention_pool is None:
            del values["attention_pool"]
        return values


class VisionTransformer(Backbone):
    """Pre-norm blocks (ViT, https://arxiv.org/abs/2010.11929), applied to all tokens of a batch at once.

    The blocks have timm's names and plain linear layers, which adapters need. Arguments and errors are those of
    ``Backbone``.
    """

    config_type = BackboneConfig
    exports = True

    def _build(self, config: BackboneConfig) -> None:
        layer_norm = partial(nn.LayerNorm, config.dim, eps=config.norm_eps)
        self.cls_token = nn.Parameter(torch.empty(config.prefix, config.dim))
        self.norm_pre = layer_norm() if config.norm_pre else nn.Identity()
        self.blocks = nn.ModuleList(
            Block(
                config.dim,
                config.num_heads,
                config.mlp_dim,
                activation=config.activation,
                qkv_bias=config.qkv_bias,
                qk_norm=config.qk_norm,
                layer_scale=config.layer_scale,
                norm_eps=config.norm_eps,
            )
            for _ in range(config.depth)
        )
        self.norm = layer_norm() if config.norm else nn.Identity()
        self.stem = Stem(config.dim, config.stem) if config.stem else None
        self.attention_pool = AttentionPool(config.dim, config.attention_pool) if config.attention_pool else None

    @property
    def num_heads(self) -> int:
        """Number of attention heads of each block."""
        heads: int = self.config.num_heads
        return heads

    @property
    def activation(self) -> str:
        """Activation of the blocks, ``"gelu"`` or ``"quick_gelu"``."""
        name: str = self.config.activation
        return name

    def reader(
        self, sequence: TokenSequence, packing: Packing, call: Call, adapter: LayerChanges | None
    ) -> Callable[[int, Tensor], Tensor]:
        """Return a function that applies a block to all tokens at once, however they are grouped."""

        def read(number: int, x: Tensor) -> Tensor:
            out: Tensor = self.blocks[number](x, packing, call)
            return out

        return read

    def adaptable_layers(self) -> dict[str, nn.Linear | nn.LayerNorm]:
        """Linear layers of the blocks; norms of the residual stream before, in and after the blocks."""
        return {
            name: layer
            for name, layer in self.named_modules()
            if (isinstance(layer, nn.Linear) and name.startswith("blocks."))
            or (isinstance(layer, nn.LayerNorm) and ADAPTABLE_NORMS.fullmatch(name))
        }

    def scale_residuals(self, scale: float) -> Self:
        """Copy whose residual branches are multiplied by ``scale``; below 1 the blocks change tokens less.

        It interpolates between this backbone and one without blocks, as weights are interpolated after fine-tuning
        (Wortsman et al. 2022, arXiv 2109.01903).
        """
        weights = {
            name: weight * scale if RESIDUALS.fullmatch(name) else weight for name, weight in self.named_weights()
        }
        return self.rebuilt(self.config, weights)
