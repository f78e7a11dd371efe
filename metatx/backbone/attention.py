"""Attention over packed sequences: linear layers take all tokens at once, attention takes groups of equal length."""

import copy
from collections.abc import Callable, Sequence
from itertools import accumulate, groupby, islice, pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metatx.backbone.packed import Linear
from metatx.backbone.varlen import attend_within, takes_lengths
from metatx.sequence import TokenSequence, ranges, sent

__all__ = ["Attention", "Call", "Packing", "attend", "plain", "stretches"]

Owner = TypeVar("Owner")
MULTIPLIED = range(32, 1025)  # tokens of a unit whose attention in bf16 is faster as two products
Call = Callable[[nn.Module, Tensor], Tensor]  # applies a layer to tokens: the layer alone, or with an adapter


class Packing:
    """Order of a batch's tokens inside some of the blocks ("block order"), units of equal length side by side.

    A unit attends to itself only: it is one sequence, or several neighbours that are fused. Each sequence has its
    prefix tokens in front.

    Args:
        lengths: Number of tokens of each sequence, without the prefix.
        prefix: Number of prefix tokens of each sequence, P.
        device: Device of the embeddings.
        units: Number of sequences of each unit; they sum to the number of sequences. None: one each.

    Attributes:
        groups: Number of units and tokens of each unit, (count, L), group by group in block order.
        sizes: Number of tokens of each group.
        mask: True for the tokens that are there, bool (count, 1, 1, L), where all units are of one length; None: all.
    """

    mask: Tensor | None = None

    def __init__(
        self, lengths: Sequence[int], prefix: int, device: torch.device, units: Sequence[int] | None = None
    ) -> None:
        self._lengths = lengths
        self._prefix = prefix
        self._device = device
        outer = [length + prefix for length in lengths]
        self._units = units or (1,) * len(lengths)
        remaining = iter(outer)
        sizes = outer if units is None else [sum(islice(remaining, count)) for count in units]
        self._order = sorted(range(len(sizes)), key=sizes.__getitem__)
        self.groups = [(len(list(same)), length) for length, same in groupby(sorted(sizes))]
        self.sizes = [count * length for count, length in self.groups]
        self._offsets: Tensor | None = None
        self._rows: Tensor | None = None  # place in the batch of each row in block order; None: the orders are equal
        self._places: Tensor | None = None  # row in block order of each place in the batch
        if len(self.groups) > 1:
            tokens = torch.tensor(sizes)
            order = torch.tensor(self._order)
            rows = ranges((tokens.cumsum(0) - tokens)[order], tokens[order])
            places = torch.empty_like(rows)
            places[rows] = torch.arange(len(rows))
            self._rows = sent(rows, device)
            self._places = sent(places, device)

    def enter(self, embeddings: Tensor, prefix: Tensor) -> Tensor:
        """Put the prefix (P, D) before each of S sequences: embeddings (T, D) to block order (T + S P, D)."""
        if not len(prefix):
            return self.arrange(embeddings)
        if self._rows is None and len(set(self._lengths)) == 1:
            count = len(self._lengths)
            fronts = prefix.expand(count, -1, -1)
            return torch.cat([fronts, embeddings.reshape(count, -1, embeddings.shape[1])], dim=1).flatten(0, 1)
        # All rows are read from one tensor: the prefix, then all embeddings. Token p of a sequence (its prefix counts)
        # that starts at row s of the embeddings is row s + p of that tensor.
        inner = torch.tensor(self._lengths)
        outer = inner + self._prefix
        place = ranges(torch.zeros_like(outer), outer)
        source = ranges(inner.cumsum(0) - inner, outer)
        index = sent(torch.where(place < self._prefix, place, source), embeddings.device)
        index = index if self._rows is None else index[self._rows]
        return torch.cat([prefix, embeddings]).index_select(0, index)

    def arrange(self, tokens: Tensor) -> Tensor:
        """Bring tokens, prefixes included, from the order of the batch to block order; both (T + S P, D)."""
        return tokens if self._rows is None else tokens.index_select(0, self._rows)

    def leave(self, tokens: Tensor) -> Tensor:
        """Bring tokens from block order back to the order of the batch; both (T + S P, D)."""
        return tokens if self._places is None else tokens.index_select(0, self._places)

    def places(self) -> Tensor:
        """Place of each token within its sequence, prefix tokens included, in block order: (T + S P,)."""
        outer = torch.tensor(self._lengths) + self._prefix
        return self.arrange(sent(ranges(torch.zeros_like(outer), outer), self._device))

    def unit_places(self) -> Tensor:
        """Place of each token within its unit, prefix tokens included, in block order: (T + S P,)."""
        places = torch.cat([torch.arange(length).repeat(count) for count, length in self.groups])
        return sent(places, self._device)

    @property
    def offsets(self) -> Tensor:
        """Number of the first row of each unit in block order, and of all rows, int32 (U + 1,)."""
        if self._offsets is None:
            lengths = [length for count, length in self.groups for _ in range(count)]
            self._offsets = sent(torch.tensor([0, *accumulate(lengths)], dtype=torch.int32), self._device)
        return self._offsets

    def split(self) -> list["Packing"]:
        """Split into one packing for each group, of the same batch."""
        parts = []
        start = 0
        for group, size in zip(self.groups, self.sizes, strict=True):
            part = copy.copy(self)
            part.groups = [group]
            part.sizes = [size]
            part._offsets = None
            part._order = self._order[start : start + group[0]]
            parts.append(part)
            start += group[0]
        return parts

    def units(self) -> list[range]:
        """Numbers of the sequences of each unit, in block order."""
        starts = [0, *accumulate(self._units)]
        return [range(starts[unit], starts[unit + 1]) for unit in self._order]

    def rows(self, owners: Sequence[Owner]) -> list[tuple[Owner, slice]]:
        """Runs of rows in block order that belong to one owner each, in turn.

        Args:
            owners: Owner of each sequence; all sequences of a unit have the same owner.
        """
        owned: list[tuple[Owner, slice]] = []
        stop = 0
        for owner, units in groupby(self.units(), key=lambda unit: owners[unit.start]):
            start = stop
            stop += sum(self._lengths[i] + self._prefix for unit in units for i in unit)
            owned.append((owner, slice(start, stop)))
        return owned


def stretches(sequence: TokenSequence, prefix: int, depth: int) -> list[tuple[range, Packing]]:
    """Stretches of blocks that share a packing, in turn; at least one stretch, even without blocks.

    Args:
        sequence: Tokens without prefix tokens.
        prefix: Number of prefix tokens of each sequence, P.
        depth: Number of blocks.
    """
    device = sequence.embeddings.device
    counts = sequence.sequences_per_sample
    if counts is None or sequence.fuse_at is None:
        return [(range(depth), Packing(sequence.lengths, prefix, device))]
    samples = list(zip(counts, sequence.fuse_at, strict=True))
    starts = sorted({0, *(at for count, at in samples if count > 1 and at < depth)})
    packed = []
    for start, stop in pairwise([*starts, depth]):
        units: list[int] = []
        for count, at in samples:
            units += [count] if at <= start and count else [1] * count
        packed.append((range(start, stop), Packing(sequence.lengths, prefix, device, units)))
    return packed


def plain(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a layer without an adapter."""
    output: Tensor = layer(x)
    return output


class Attention(nn.Module):
    """Self-attention within each unit of packed sequences.

    Args:
        dim: Width of the tokens, D.
        num_heads: Number of attention heads, a divisor of ``dim``.
        qkv_bias: True if the query, key and value maps have a bias.
        qk_norm: Function from a head's width to a norm, for queries and keys. None: no norms.
    """

    def __init__(
        self, dim: int, num_heads: int, qkv_bias: bool, qk_norm: Callable[[int], nn.Module] | None = None
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.qkv = Linear(dim, 3 * dim, bias=qkv_bias)
        self.q_norm = qk_norm(self.head_dim) if qk_norm else nn.Identity()
        self.k_norm = qk_norm(self.head_dim) if qk_norm else nn.Identity()
        self.proj = Linear(dim, dim)

    def forward(self, x: Tensor, packing: Packing, call: Call = plain) -> Tensor:
        """Attend among tokens in block order, (T, D) to (T, D); linear layers are applied through ``call``."""
        qkv: Any = call(self.qkv, x)
        if len(packing.groups) > 1 and takes_lengths(apart := qkv.view(len(x), 3, self.num_heads, self.head_dim)):
            q, k, v = apart.unbind(1)
            longest = packing.groups[-1][1]
            within = attend_within(self.q_norm(q), self.k_norm(k), v, packing.offsets, longest)
            return call(self.proj, within.flatten(1))
        # split and unbind, not slices: their backward writes each gradient once, in place, where every slice would
        # first fill a tensor of full size with zeros. There are few operations a group, because in a server each
        # operation may have to wait for the interpreter's lock.
        parts = qkv.split(packing.sizes) if len(packing.sizes) > 1 else [qkv]
        attended = []
        for (count, length), part in zip(packing.groups, parts, strict=True):
            apart = part.view(count, length, 3, self.num_heads, self.head_dim)
            q, k, v = apart.permute(2, 0, 3, 1, 4).unbind()  # each (count, heads, length, width)
            out = attend(self.q_norm(q), self.k_norm(k), v, packing.mask)
            attended.append(out.transpose(1, 2).reshape(count * length, -1))
        return call(self.proj, torch.cat(attended) if len(attended) > 1 else attended[0])


def multiplied(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention as two batched products in bf16, (count, heads, L, width) to the same; it holds all weights (L, L)."""
    heads = q.shape[1]
    q, k, v = (x.flatten(0, 1) for x in (q, k, v))
    scores = torch.baddbmm(q.new_empty(1, 1, 1), q, k.mT, beta=0, alpha=q.shape[2] ** -0.5)
    return torch.bmm(scores.softmax(-1), v).view(-1, heads, *v.shape[1:])


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, causal: bool = False) -> Tensor:
    """Scaled dot-product attention of (count, heads, L, width of a head) to (count, heads, M, width of a head).

    Args:
        q, k, v: Queries; keys and values, of which there may be another number.
        mask: True for the keys that are read, (count, 1, 1, M), at least one of each ``count``; by default all.
        causal: True if a query reads the keys of its own place and before alone; there is no ``mask`` then.
    """
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:
        # torch's bf16 kernel for CPUs takes 7 times as long as this on 256 sequences of 16 tokens, and is no faster
        # up to 200 tokens.
        with torch.autocast("cpu", enabled=False):
            if q.shape[2] in MULTIPLIED and mask is None and not causal and not torch.is_grad_enabled():
                return multiplied(q, k, v)
            return F.scaled_dot_product_attention(q.float(), k.float(), v.float(), mask, is_causal=causal).to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal)
