"""Adapters of several tasks in one pass: every sequence gets its own task's.

After Punica (Chen et al. 2023, https://arxiv.org/abs/2310.18547) and S-LoRA (Sheng et al. 2023,
https://arxiv.org/abs/2311.03285): the backbone's own product is computed once for all tokens, the low-rank ones on the
rows where each task's tokens lie, in one batched product where neighbours are alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metatx.adapters.lora import Adapter, LoraLayer
from metatx.backbone.attention import Call, Packing

__all__ = ["FixedAdapter", "MixedAdapter"]


@dataclass(frozen=True, eq=False)
class LowRank:
    """The update of one linear layer by one task.

    Attributes:
        down: (r, D).
        up: (D', r).
        scaling: Of the update.
        scale: DoRA's, of each output (D',); None without DoRA.
        bias: The layer's own.
    """

    down: Tensor
    up: Tensor
    scaling: float
    scale: Tensor | None
    bias: Tensor | None

    def change(self, x: Tensor, output: Tensor) -> None:
        """Add the update for tokens (T, D) to what the layer made of them (T, D'), in place."""
        low = F.linear(x, self.down)
        if self.scale is None:
            output.addmm_(low, self.up.T, alpha=self.scaling)
            return
        unbiased = output if self.bias is None else output - self.bias
        output += (self.scale - 1) * unbiased
        output += self.scale * F.linear(low * self.scaling, self.up)


@dataclass(frozen=True, eq=False)
class OwnNorm:
    """A LayerNorm in place of the backbone's."""

    norm: nn.Module

    def change(self, x: Tensor, output: Tensor) -> None:
        """Put the norm of tokens (T, D) in the place of the backbone's norm of them."""
        output.copy_(self.norm(x))


LayerUpdate = LowRank | OwnNorm
Piece = tuple[slice, LayerUpdate]  # the rows of a task's tokens, and what it changes there


class FixedAdapter:
    """An adapter that no longer changes, made ready for mixed batches; DoRA's scales are computed once, here.

    Args:
        adapter: Of a trained task.
        backbone: That it adapts.

    Attributes:
        parts: By layer of the backbone.
    """

    @torch.no_grad()
    def __init__(self, adapter: Adapter, backbone: nn.Module) -> None:
        self.updates: dict[nn.Module, LayerUpdate] = {}
        for name in adapter.names:
            layer: Any = backbone.get_submodule(name)
            part: Any = adapter.get_submodule(name)
            if isinstance(part, LoraLayer):
                weights = part.lora_A.weight.detach(), part.lora_B.weight.detach()
                self.updates[layer] = LowRank(*weights, part.scaling, part.scale(layer), layer.bias)
            else:
                self.updates[layer] = OwnNorm(part.ln_tuning_layers)


class MixedAdapter:
    """The adapters of one batch, as the backbone's ``forward`` takes them; for use without gradients.

    Args:
        adapters: Of each sequence; None where it has none.
    """

    def __init__(self, adapters: Sequence[FixedAdapter | None]) -> None:
        self.adapters = adapters

    def on(self, backbone: nn.Module, packing: Packing) -> Call:
        """How the layers of ``backbone`` are applied to tokens that lie as ``packing`` says."""
        pieces: dict[nn.Module, list[Piece]] = {}
        for adapter, rows in packing.rows(self.adapters):
            for layer, part in adapter.updates.items() if adapter else ():
                pieces.setdefault(layer, []).append((rows, part))
        runs = {layer: _runs(found) for layer, found in pieces.items()}

        def call(layer: nn.Module, x: Tensor) -> Tensor:
            output: Tensor = layer(x)
            for run in runs.get(layer, ()):
                _change(run, x, output)
            return output

        return call


def _runs(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Pieces, neighbours together where one batched product can change them."""
    runs: list[list[Piece]] = []
    for piece in pieces:
        if runs and _alike(runs[-1][-1], piece):
            runs[-1].append(piece)
        else:
            runs.append([piece])
    return runs


def _alike(first: Piece, second: Piece) -> bool:
    (rows, one), (others, two) = first, second
    if not (isinstance(one, LowRank) and isinstance(two, LowRank)) or one.scale is not None or two.scale is not None:
        return False
    adjacent = rows.stop == others.start and others.stop - others.start == rows.stop - rows.start
    return adjacent and one.down.shape == two.down.shape and one.scaling == two.scaling


def _change(run: Sequence[Piece], x: Tensor, output: Tensor) -> None:
    (rows, part), *others = run
    if not others:
        part.change(x[rows], output[rows])
        return
    count, rows = len(run), slice(rows.start, run[-1][0].stop)
    parts = [part for _, part in run if isinstance(part, LowRank)]
    down, up = torch.stack([part.down for part in parts]), torch.stack([part.up for part in parts])
    low = torch.bmm(x[rows].view(count, -1, x.shape[1]), down.mT)
    output[rows].view(count, -1, output.shape[1]).baddbmm_(low, up.mT, alpha=parts[0].scaling)
