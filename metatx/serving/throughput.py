"""Cost of tokens, and the best number of tokens in a pass, measured when the server starts."""

import time

import torch

from metatx.backbone.base import Backbone
from metatx.sequence import TokenSequence

__all__ = ["cost", "find_batch_tokens", "pass_seconds"]

LENGTH = 64  # tokens of a sequence
LEAST = 256  # tokens of the shortest pass that is tried
MOST = 65_536  # tokens of the longest
LOSS = 0.9  # share of the best rate that a longer pass must keep
LONGEST = 0.1  # seconds of a pass; requests that arrive meanwhile wait for its end
REPEATS = 3


def cost(tokens: int, dim: int) -> int:
    """Return the cost of a sequence; a token of a short sequence costs 1.

    A block multiplies 12 D^2 numbers a token (its four projections and the two of its MLP), and 2 N D in attention: so
    a sequence of 6 D tokens costs twice as much as its tokens in short sequences.
    """
    return tokens + tokens * tokens // (6 * dim)


@torch.no_grad()
def find_batch_tokens(backbone: Backbone) -> tuple[int, float]:
    """Measure the best number of tokens in a pass, and the cost that the backbone handles a second.

    On a CPU the backbone needs as much time a token with a few hundred tokens as with many; but tokenizers and heads
    take time by the pass, so the largest number whose pass stays below ``LONGEST`` seconds is the best.
    """
    rates = {}
    tokens = LEAST
    seconds = 0.0
    while tokens <= MOST and seconds <= LONGEST:
        seconds = pass_seconds(backbone, tokens)
        rates[tokens] = tokens / seconds
        tokens *= 2
    if len(rates) > 1 and seconds > LONGEST:
        del rates[tokens // 2]
    best = max(rates.values())
    budget = max(tokens for tokens, rate in rates.items() if rate >= LOSS * best)
    return budget, best * cost(LENGTH, backbone.dim) / LENGTH


def pass_seconds(backbone: Backbone, tokens: int) -> float:
    """Time a pass: the fastest of ``REPEATS``, for other work of the machine only slows it."""
    embeddings = torch.zeros(tokens, backbone.dim, device=backbone.device)
    batch = TokenSequence(embeddings, (LENGTH,) * (tokens // LENGTH))
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        backbone(batch).embeddings.sum().item()  # waits for the device
        times.append(time.perf_counter() - started)
    return min(times)
