"""Attention within units of any lengths in one kernel, which GPUs have in half precision."""

from typing import Any

import torch
from torch import Tensor

__all__ = ["attend_within", "takes_lengths"]

HALF = (torch.float16, torch.bfloat16)
WIDEST = 256  # width of a head
AMPERE = (8, 0)  # least compute capability


def takes_lengths(values: Tensor) -> bool:
    """True if ``attend_within`` can be had for values (T, heads, width of a head), by their device and type."""
    width = values.shape[-1]
    fits = values.is_cuda and values.dtype in HALF and width <= WIDEST and width % 8 == 0
    return fits and torch.cuda.get_device_capability(values.device) >= AMPERE


def attend_within(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, longest: int, *, causal: bool = False) -> Tensor:
    """Scaled dot-product attention within each unit, (T, heads, width of a head) to the same.

    It is FlashAttention-2 (Dao 2023, arXiv 2307.08691).

    Args:
        q, k, v: Queries, keys and values of all units, one unit after the other; computed in the type of ``v``.
        offsets: Number of the first row of each unit, and of all rows, int32 (U + 1,), on the same device.
        longest: Number of tokens of the longest unit.
        causal: True if a query reads the keys of its own place and before alone.
    """
    from torch.nn.attention.varlen import varlen_attn

    window = (-1, 0 if causal else -1)
    q, k = (x.to(v.dtype) for x in (q, k))
    attended: Any = varlen_attn(q, k, v, offsets, offsets, longest, longest, window_size=window)
    within: Tensor = attended
    return within
