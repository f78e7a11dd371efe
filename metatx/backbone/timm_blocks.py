"""Backbone of timm's own blocks, for models that ``metatx.backbone.block`` does not compute."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import timm
import torch
from timm.layers.pos_embed_sincos import RotaryEmbeddingMixed
from timm.models.beit import Beit
from timm.models.vision_transformer_relpos import VisionTransformerRelPos
from torch import Tensor, nn

from metatx.backbone.attention import Call, Packing
from metatx.backbone.attention_pool import AttentionPool, AttentionPoolConfig
from metatx.backbone.base import Backbone, LayerChanges
from metatx.backbone.routing import Route, route_layers
from metatx.backbone.stem import Stem, StemConfig
from metatx.backbone.timm_positions import bias, bias_module, grids, rotations
from metatx.sequence import TokenSequence

__all__ = ["TimmBlocks", "TimmConfig", "create", "take_bias"]

# Argument of a block that takes the attention bias of relative positions.
BIAS_ARGUMENTS: dict[type, str] = {Beit: "shared_rel_pos_bias", VisionTransformerRelPos: "shared_rel_pos"}
PROBE = 2  # tokens of the pass that finds the adaptable layers


@dataclass(frozen=True, kw_only=True)
class TimmConfig:
    """Name of the timm model that the blocks are from, and the shape that follows from it.

    Attributes:
        model: timm's name of the model, with or without tag.
        dim: Width of the tokens, D.
        depth: Number of blocks that are used, from the first.
        prefix: Number of prefix tokens, P.
        class_token: True if the first prefix token is a class token.
        stem: Config of the layer from images to tokens.
        attention_pool: Config of the layer from a sequence to one vector; None where the model has none.
    """

    model: str
    dim: int
    depth: int
    prefix: int
    class_token: bool
    stem: StemConfig
    attention_pool: AttentionPoolConfig | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build from the dict that ``to_dict`` returned, or from its JSON.

        Raises:
            KeyError, TypeError: If a field is missing or unknown.
        """
        pool = values.get("attention_pool")
        parts = {
            "stem": StemConfig.from_dict(values["stem"]),
            "attention_pool": None if pool is None else AttentionPoolConfig(**pool),
        }
        return cls(**{**values, **parts})

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; ``attention_pool``, which older folders lack, only where there is one."""
        values = asdict(self)
        if self.attention_pool is None:
            del values["attention_pool"]
        return values


class TimmBlocks(Backbone):
    """Blocks of a timm model, with its rotary or relative positions.

    Positions come from the grid of a sequence, or from the order of its tokens where it has none. An absolute position
    embedding belongs to the stem. A block runs once for each group of sequences of equal length. Arguments and errors
    are those of ``Backbone``.
    """

    config_type = TimmConfig
    kind = "timm_blocks"
    _route: Any
    rope: nn.Module | None
    position_bias: nn.Module | None

    def _build(self, config: TimmConfig) -> None:
        # On the CPU, not on the meta device: buffers of timm's modules are constants that nothing else would set.
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            model = create(config.model)
        self.cls_token = nn.Parameter(torch.empty(config.prefix, config.dim))
        self.norm_pre = getattr(model, "norm_pre", nn.Identity())
        self.blocks = nn.ModuleList(list(model.blocks)[: config.depth])
        self.norm = model.norm
        self.stem = Stem(config.dim, config.stem)
        self.rope = getattr(model, "rope", None)
        self.position_bias = take_bias(model)
        self.attention_pool = AttentionPool(config.dim, config.attention_pool) if config.attention_pool else None
        self._bias_argument = BIAS_ARGUMENTS.get(type(model), "")
        self._route = Route()
        modules: list[Any] = list(self.blocks.modules())
        route_layers(modules, self._route)
        for module in modules:
            if hasattr(module, "num_prefix_tokens"):
                module.num_prefix_tokens = 0  # ``rotations`` covers the prefix tokens of each sequence
            if hasattr(module, "qkv_bias_separate"):
                module.qkv_bias_separate = True  # else timm uses the layer's weight without calling the layer

    def reader(
        self, sequence: TokenSequence, packing: Packing, call: Call, adapter: LayerChanges | None
    ) -> Callable[[int, Tensor], Tensor]:
        """Return a function that applies a block to each group of units of equal length in turn."""
        groups = packing.split()
        calls = [None if adapter is None else adapter.on(self, group) for group in groups]
        positions = [self._positions(sequence, group) for group in groups]

        def read(number: int, x: Tensor) -> Tensor:
            parts = []
            split = torch.split(x, packing.sizes)
            for rows, group, through, given in zip(split, groups, calls, positions, strict=True):
                units = rows.view(*group.groups[0], -1)
                parts.append(self._applied(self.blocks[number], units, through, given(number)).flatten(0, 1))
            return torch.cat(parts) if len(parts) > 1 else parts[0]

        return read

    def adaptable_layers(self) -> dict[str, nn.Linear | nn.LayerNorm]:
        """Linear layers that the blocks apply to tokens; norms of tokens before, in and after the blocks."""
        applied: set[nn.Module] = {self.norm_pre, self.norm}

        def note(layer: nn.Module, x: Tensor) -> Tensor:
            if len(x) == rows and (isinstance(layer, nn.Linear) or layer.normalized_shape == (self.dim,)):
                applied.add(layer)
            out: Tensor = layer(x)
            return out

        sequence = TokenSequence(self.cls_token.new_zeros(PROBE, self.dim), (PROBE,))
        packing = Packing((PROBE,), self.num_prefix_tokens, self.device)
        rows = sum(packing.sizes)
        given = self._positions(sequence, packing)
        with torch.no_grad():
            for number, block in enumerate(self.blocks):
                self._applied(block, self.cls_token.new_zeros(1, rows, self.dim), note, given(number))
        return {
            name: layer
            for name, layer in self.named_modules()
            if layer in applied and isinstance(layer, nn.Linear | nn.LayerNorm)
        }

    def _applied(self, block: nn.Module, x: Tensor, call: Call | None, given: dict[str, Tensor]) -> Tensor:
        """Apply a block to units of equal length (count, L, D); its layers are applied through ``call``."""
        self._route.call = call
        try:
            out: Tensor = block(x, **given)
            return out
        finally:
            self._route.call = None

    def _positions(self, sequence: TokenSequence, packing: Packing) -> Callable[[int], dict[str, Tensor]]:
        """Return a function from a block's number to its arguments for the positions of one group."""
        units = grids(sequence, packing) if self.rope is not None or self._bias_argument else []
        prefix = self.num_prefix_tokens
        if self.rope is not None:
            turns = rotations(self.rope, units, prefix)
            by_block = isinstance(self.rope, RotaryEmbeddingMixed)
            return lambda number: {"rope": turns[number] if by_block else turns}
        if not self._bias_argument:
            return lambda number: {}
        if self.position_bias is not None:
            shared = bias(self.position_bias, units, prefix)
            return lambda number: {self._bias_argument: shared}
        blocks: Any = self.blocks
        return lambda number: {self._bias_argument: bias(blocks[number].position_bias, units, prefix)}


def create(name: str) -> Any:
    """Build a timm model by name, with random weights; a rotary one computes positions for any grid."""
    with torch.device("meta"):
        rotary = getattr(timm.create_model(name, pretrained=False), "rope", None) is not None
    options: dict[str, Any] = {"dynamic_img_size": True} if rotary else {}
    return timm.create_model(name, pretrained=False, **options)


def take_bias(model: Any) -> nn.Module | None:
    """Take relative positions out of a timm model: those of a block become its ``position_bias``.

    Returns:
        Relative positions that all blocks share; None where each block has its own, or there are none.

    Raises:
        ValueError: If they are of an unknown kind; names it.
    """
    for block in model.blocks:
        attention: Any = getattr(block, "attn", None)
        relative = getattr(attention, "rel_pos", None)
        if relative is not None:
            block.position_bias = bias_module(relative)
            attention.rel_pos = None
        elif getattr(attention, "relative_position_bias_table", None) is not None:
            block.position_bias = bias_module(attention)
            attention.relative_position_bias_table = None
    shared = getattr(model, "rel_pos_bias", None) or getattr(model, "shared_rel_pos", None)
    return None if shared is None else bias_module(shared)
