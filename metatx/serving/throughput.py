"""What tokens cost, and how many a pass should have: measured when the server starts."""

import time

import torch

from metatx.backbone.base import Backbone
from metatx.sequence import TokenSequence

__all__ = ["find_batch_tokens", "cost"]

LENGTH = 64  # tokens of a sequence
LEAST, MOST = 256, 65_536  # tokens of a pass
LOSS = 0.9  # share of the best rate that a longer pass must keep
LONGEST = 0.1  # seconds of a pass; what comes meanwhile waits for its end
REPEATS = 3


def cost(tokens: int, dim: int) -> int:
    """Work of a sequence, in that of a token in a short one.

    A block multiplies 12 D^2 numbers a token (its four projections and the two of its MLP), and 2 N D in attention: so
    a sequence of 6 D tokens costs twice as much as its tokens in short ones.
    """
    return tokens + tokens * tokens // (6 * dim)


@torch.no_grad()
def find_batch_tokens(backbone: Backbone) -> tuple[int, float]:
    """Tokens of a pass, as many as a pass may take time for, and cost a second.

    On a CPU the backbone alone is as fast a token with a few hundred tokens as with many; but tokenizers and heads cost
    time by the pass, so the longest that is still short is the best.
    """
    rates = {}
    tokens, seconds = LEAST, 0.0
    while tokens <= MOST and seconds <= LONGEST:
        seconds = _seconds(backbone, tokens)
        rates[tokens] = tokens / seconds
        tokens *= 2
    if len(rates) > 1 and seconds > LONGEST:
        del rates[tokens // 2]
    best = max(rates.values())
    budget = max(tokens for tokens, rate in rates.items() if rate >= LOSS * best)
    return budget, best * cost(LENGTH, backbone.dim) / LENGTH


def _seconds(backbone: Backbone, tokens: int) -> float:
    """Of a pass: the fastest of some, for what else the machine does only slows it."""
    embeddings = torch.zeros(tokens, backbone.dim, device=backbone.device)
    batch = TokenSequence(embeddings, (LENGTH,) * (tokens // LENGTH))
    found = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        backbone(batch).embeddings.sum().item()  # waits for the device
        found.append(time.perf_counter() - started)
    return min(found)
