"""Adapters of several tasks in one pass: each sequence is changed by the adapter of its own task.

Follows Punica (Chen et al. 2023, https://arxiv.org/abs/2310.18547) and S-LoRA (Sheng et al. 2023,
https://arxiv.org/abs/2311.03285). The backbone's product is computed once for all tokens. The low-rank products are
computed on the rows of each task's tokens; tasks whose rows are adjacent and of equal shape share a batched product.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metatx.adapters.lora import Adapter, LoraLayer
from metatx.adapters.scale import ScaleLayer
from metatx.backbone.attention import Call, Packing

__all__ = ["FixedAdapter", "MixedAdapter"]


@dataclass(frozen=True, eq=False)
class LowRank:
    """The update of one linear layer by one task.

    Attributes:
        down: Weight of LoRA's A, (r, D).
        up: Weight of LoRA's B, (D', r).
        scaling: Factor of the update.
        scale: DoRA's factor of each output, (D',); None without DoRA.
        bias: Bias of the backbone's layer, (D',); None where it has none.
    """

    down: Tensor
    up: Tensor
    scaling: float
    scale: Tensor | None
    bias: Tensor | None

    def change(self, x: Tensor, output: Tensor) -> None:
        """Add the update for tokens ``x`` (T, D) to the layer's ``output`` (T, D'), in place."""
        low = F.linear(x, self.down)
        if self.scale is None:
            output.addmm_(low, self.up.T.to(output.dtype), alpha=self.scaling)
            return
        unbiased = output if self.bias is None else output - self.bias
        output += (self.scale - 1) * unbiased
        output += self.scale * F.linear(low * self.scaling, self.up)


@dataclass(frozen=True, eq=False)
class OwnNorm:
    """LayerNorm that replaces the backbone's."""

    norm: nn.Module

    def change(self, x: Tensor, output: Tensor) -> None:
        """Overwrite ``output``, the backbone's norm of tokens ``x`` (T, D), by this norm of them."""
        output.copy_(self.norm(x))


@dataclass(frozen=True, eq=False)
class Gain:
    """Gain on a linear layer's output.

    Attributes:
        gain: Factor of all outputs, (1,), or of each, (D',).
    """

    gain: Tensor

    def change(self, x: Tensor, output: Tensor) -> None:
        """Multiply the layer's ``output`` (T, D') by the gain, in place."""
        output.mul_(self.gain)


LayerUpdate = LowRank | OwnNorm | Gain
Piece = tuple[slice, LayerUpdate]  # rows of a task's tokens, and the update of its layer for them


class FixedAdapter:
    """Trained adapter, prepared for mixed batches; DoRA's scales are computed once, here.

    Args:
        adapter: Adapter of a trained task.
        backbone: Backbone that the adapter belongs to.

    Attributes:
        updates: Update of each adapted layer, by the layer.
    """

    @torch.no_grad()
    def __init__(self, adapter: Adapter, backbone: nn.Module) -> None:
        self.updates: dict[nn.Module, LayerUpdate] = {}
        for name in adapter.names:
            layer: Any = backbone.get_submodule(name)
            part: Any = adapter.get_submodule(name)
            if isinstance(part, LoraLayer):
                down = part.lora_A.weight.detach()
                up = part.lora_B.weight.detach()
                self.updates[layer] = LowRank(down, up, part.scaling, part.scale(layer), layer.bias)
            elif isinstance(part, ScaleLayer):
                self.updates[layer] = Gain(part.ia3_l.detach())
            else:
                self.updates[layer] = OwnNorm(part.ln_tuning_layers)


class MixedAdapter:
    """Adapters of one batch, as the backbone's ``forward`` takes them; for use without gradients.

    Args:
        adapters: Adapter of each sequence; None where it has none.
    """

    def __init__(self, adapters: Sequence[FixedAdapter | None]) -> None:
        self.adapters = adapters

    def on(self, backbone: nn.Module, packing: Packing) -> Call:
        """Return the function that applies a layer of ``backbone`` to tokens in the order of ``packing``."""
        pieces: dict[nn.Module, list[Piece]] = {}
        for adapter, rows in packing.rows(self.adapters):
            for layer, update in adapter.updates.items() if adapter else ():
                pieces.setdefault(layer, []).append((rows, update))
        runs = {layer: _runs(of_layer) for layer, of_layer in pieces.items()}

        def call(layer: nn.Module, x: Tensor) -> Tensor:
            output: Tensor = layer(x)
            for run in runs.get(layer, ()):
                _change(run, x, output)
            return output

        return call


def _runs(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Pieces in runs; one batched product can update a run."""
    runs: list[list[Piece]] = []
    for piece in pieces:
        if runs and _alike(runs[-1][-1], piece):
            runs[-1].append(piece)
        else:
            runs.append([piece])
    return runs


def _alike(first: Piece, second: Piece) -> bool:
    """True if one batched product can update both: plain LoRA of equal rank on adjacent rows of equal number."""
    rows, update = first
    next_rows, next_update = second
    if not isinstance(update, LowRank) or not isinstance(next_update, LowRank):
        return False
    if update.scale is not None or next_update.scale is not None:
        return False
    adjacent = rows.stop == next_rows.start and next_rows.stop - next_rows.start == rows.stop - rows.start
    return adjacent and update.down.shape == next_update.down.shape and update.scaling == next_update.scaling


def _change(run: Sequence[Piece], x: Tensor, output: Tensor) -> None:
    first_rows, first_update = run[0]
    if len(run) == 1:
        first_update.change(x[first_rows], output[first_rows])
        return
    count = len(run)
    rows = slice(first_rows.start, run[-1][0].stop)
    updates = [update for _, update in run if isinstance(update, LowRank)]
    down = torch.stack([update.down for update in updates])
    up = torch.stack([update.up for update in updates])
    low = torch.bmm(x[rows].view(count, -1, x.shape[1]), down.mT)
    output[rows].view(count, -1, output.shape[1]).baddbmm_(low, up.mT.to(output.dtype), alpha=updates[0].scaling)
