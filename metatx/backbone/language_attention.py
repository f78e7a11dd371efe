"""Attention of packed sequences within layers of transformers."""

from typing import Any

import torch
from torch import Tensor, nn

from metatx.backbone.attention import Packing, attend
from metatx.backbone.varlen import attend_within, takes_lengths

__all__ = ["packed_attention"]


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packing: Packing | None = None,
    **given: Any,
) -> tuple[Tensor, None]:
    """Attention of transformers' interface, within each unit of packed sequences where they are packed.

    Args:
        module: Attention layer, which knows if it is causal.
        query, key, value: Queries, keys and values of all tokens in block order, (1, heads, T, width of a head). There
            may be fewer heads of keys and values, each for as many of the queries'.
        attention_mask: None where ``packing`` is given.
        packing: Order of the tokens; None where transformers writes text, see ``generate``.
        given: Further arguments of transformers' interface.

    Returns:
        Attended tokens (1, T, heads, width of a head), and None.
    """
    if packing is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        attended_padded: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **given
        )
        return attended_padded
    shared = query.shape[1] // key.shape[1]
    if len(packing.groups) > 1 and takes_lengths(value):
        q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))  # (T, heads, width)
        if shared > 1:
            k, v = (x.repeat_interleave(shared, dim=1) for x in (k, v))
        longest = packing.groups[-1][1]
        return attend_within(q, k, v, packing.offsets, longest, causal=bool(module.is_causal))[None], None
    parts = [torch.split(x[0].to(value.dtype), packing.sizes, dim=1) for x in (query, key, value)]
    attended = []
    for (count, length), *of_group in zip(packing.groups, *parts, strict=True):
        q, k, v = (x.unflatten(1, (count, length)).transpose(0, 1) for x in of_group)  # (count, heads, L, width)
        if shared > 1:
            k, v = (x.repeat_interleave(shared, dim=1) for x in (k, v))
        out = attend(q, k, v, causal=bool(module.is_causal))
        attended.append(out.transpose(1, 2).flatten(0, 1))
    return torch.cat(attended)[None], None
