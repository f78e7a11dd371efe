"""Adapters of several tasks in one pass: every sequence gets its own task's.

After Punica (Chen et al. 2023, https://arxiv.org/abs/2310.18547) and S-LoRA (Sheng et al. 2023,
https://arxiv.org/abs/2311.03285): the backbone's own product is computed once for all tokens, the low-rank ones task by
task, on the rows where the task's tokens lie.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metatx.adapter import Adapter, LoraLayer, NormLayer
from metatx.attention import Call, block_order

__all__ = ["FixedAdapter", "MixedAdapter"]

Change = Callable[[Tensor, Tensor], None]  # tokens (T, D) and what the layer made of them (T, D'), changed in place


class FixedAdapter:
    """An adapter that no longer changes, made ready for mixed batches; DoRA's scales are computed once, here.

    Args:
        adapter: Of a trained task.
        backbone: That it adapts.

    Attributes:
        changes: By layer of the backbone.
    """

    @torch.no_grad()
    def __init__(self, adapter: Adapter, backbone: nn.Module) -> None:
        self.changes: dict[nn.Module, Change] = {}
        for name in adapter.names:
            layer: Any = backbone.get_submodule(name)
            part: Any = adapter.get_submodule(name)
            if isinstance(part, LoraLayer):
                self.changes[layer] = partial(_add_low_rank, part, part.scale(layer), layer.bias)
            else:
                self.changes[layer] = partial(_renorm, part)


class MixedAdapter:
    """The adapters of one batch, as the backbone's ``forward`` takes them; for use without gradients.

    Args:
        adapters: Of each sequence; None where it has none.
        lengths: Tokens of each sequence, without the prefix.
        prefix: Tokens that the backbone puts in front of each.
    """

    def __init__(self, adapters: Sequence[FixedAdapter | None], lengths: Sequence[int], prefix: int) -> None:
        self.rows: list[tuple[FixedAdapter, slice]] = []
        stop = 0
        for adapter, sequences in groupby(block_order(lengths), key=adapters.__getitem__):
            start, stop = stop, stop + sum(lengths[i] + prefix for i in sequences)
            if adapter is not None:
                self.rows.append((adapter, slice(start, stop)))

    def on(self, backbone: nn.Module) -> Call:
        """How the layers of ``backbone`` are applied."""
        changes: dict[nn.Module, list[tuple[slice, Change]]] = {}
        for adapter, rows in self.rows:
            for layer, change in adapter.changes.items():
                changes.setdefault(layer, []).append((rows, change))

        def call(layer: nn.Module, x: Tensor) -> Tensor:
            output: Tensor = layer(x)
            for rows, change in changes.get(layer, ()):
                change(x[rows], output[rows])
            return output

        return call


def _add_low_rank(part: LoraLayer, scale: Tensor | None, bias: Tensor | None, x: Tensor, output: Tensor) -> None:
    # The operations of LoraLayer.forward in their order, so that the last bits are the same.
    update = F.linear(F.linear(x, part.lora_A.weight) * part.scaling, part.lora_B.weight)
    if scale is None:
        output += update
        return
    unbiased = output if bias is None else output - bias
    output += (scale - 1) * unbiased
    output += scale * update


def _renorm(part: NormLayer, x: Tensor, output: Tensor) -> None:
    output.copy_(part.ln_tuning_layers(x))
