"""Attention over packed sequences: linear maps over all tokens at once, attention among sequences of equal length."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Attention", "Call", "Packing", "block_order", "plain"]

Call = Callable[[nn.Module, Tensor], Tensor]  # how a layer is applied to tokens: by itself, or with an adapter


class Packing:
    """Where the tokens of one batch lie inside the blocks: prefix in front, equal lengths side by side.

    Args:
        lengths: Tokens of each sequence, without the prefix.
        prefix: Tokens that the backbone puts in front of each.
        device: Of the embeddings.

    Attributes:
        groups: (sequences, tokens of each with the prefix), in the order in which they lie.
    """

    def __init__(self, lengths: tuple[int, ...], prefix: int, device: torch.device) -> None:
        self.groups = [(len(list(same)), length + prefix) for length, same in groupby(sorted(lengths))]
        self.sizes = [count * length for count, length in self.groups]
        self.entry: Tensor | None = None
        self.exit: Tensor | None = None
        if len(self.groups) > 1:
            inner = torch.tensor(lengths)
            outer = inner + prefix
            order = torch.tensor(block_order(lengths))
            place = _ranges(torch.zeros_like(outer), outer[order])
            # Entry reads from the prefix with all embeddings behind it. Counting its prefix, token p of a
            # sequence that starts at s among the embeddings lies at s + p there.
            source = _ranges((inner.cumsum(0) - inner)[order], outer[order])
            self.entry = torch.where(place < prefix, place, source).to(device)
            starts = torch.empty_like(outer)
            starts[order] = outer[order].cumsum(0) - outer[order]
            self.exit = _ranges(starts, outer).to(device)

    def enter(self, embeddings: Tensor, prefix: Tensor) -> Tensor:
        """Embeddings (T, D) and prefix (P, D) to tokens in block order (T + S P, D)."""
        if self.entry is None:
            if not len(prefix):
                return embeddings
            ((count, length),) = self.groups
            fronts = prefix.expand(count, -1, -1)
            return torch.cat([fronts, embeddings.reshape(count, -1, embeddings.shape[1])], dim=1).flatten(0, 1)
        return torch.cat([prefix, embeddings]).index_select(0, self.entry)

    def leave(self, tokens: Tensor) -> Tensor:
        """Tokens in block order back to the order of the batch, both (T + S P, D)."""
        return tokens if self.exit is None else tokens.index_select(0, self.exit)


def block_order(lengths: Sequence[int]) -> list[int]:
    """The order in which sequences of these lengths lie inside the blocks: by length, equal ones as they come."""
    return sorted(range(len(lengths)), key=lengths.__getitem__)


def _ranges(starts: Tensor, lengths: Tensor) -> Tensor:
    """``starts[i], starts[i] + 1, ...``, ``lengths[i]`` of them, for each i in turn."""
    shift = starts - (lengths.cumsum(0) - lengths)
    return torch.arange(int(lengths.sum())) + shift.repeat_interleave(lengths)


def plain(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer by itself."""
    output: Tensor = layer(x)
    return output


class Attention(nn.Module):
    """Self-attention within each of the sequences that lie packed.

    Args:
        dim: Width of the tokens, D.
        num_heads: They divide ``dim``.
        qkv_bias: Whether the query, key and value maps have one.
        qk_norm: Makes the norms of queries and keys from the width of a head. None: they have none.
    """

    def __init__(
        self, dim: int, num_heads: int, qkv_bias: bool, qk_norm: Callable[[int], nn.Module] | None = None
    ) -> None:
        super().__init__()
        self.num_heads, self.head_dim = num_heads, dim // num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.q_norm, self.k_norm = (qk_norm(self.head_dim) if qk_norm else nn.Identity() for _ in range(2))
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, packing: Packing, call: Call = plain) -> Tensor:
        """Tokens in block order, (T, D) to (T, D); linear layers are applied through ``call``."""
        qkv: Any = call(self.qkv, x)
        # split and unbind, not slices: their backward writes each gradient once, into place, where every slice
        # would first fill a tensor of full size with zeros. Few operations a group: in a server each one of them may
        # have to wait for the interpreter.
        parts = qkv.split(packing.sizes) if len(packing.sizes) > 1 else [qkv]
        attended = []
        for (count, length), part in zip(packing.groups, parts, strict=True):
            apart = part.view(count, length, 3, self.num_heads, self.head_dim)
            q, k, v = apart.permute(2, 0, 3, 1, 4).unbind()  # each (count, heads, length, width)
            out = _attend(self.q_norm(q), self.k_norm(k), v)
            attended.append(out.transpose(1, 2).reshape(count * length, -1))
        return call(self.proj, torch.cat(attended) if len(attended) > 1 else attended[0])


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention of (count, heads, length, width)."""
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:
        # torch's bf16 kernel for CPUs takes 7 times as long as this on 256 sequences of 16 tokens, and gains
        # nothing up to 200 tokens.
        with torch.autocast("cpu", enabled=False):
            return F.scaled_dot_product_attention(q.float(), k.float(), v.float()).to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v)
