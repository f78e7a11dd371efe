"""How many tokens a pass should have: measured when the server starts."""

import time

import torch

from metatx.backbone import Backbone
from metatx.sequence import TokenSequence

__all__ = ["calibrate"]

LENGTH = 64  # tokens of a sequence
LEAST, MOST = 256, 65_536  # tokens of a pass
LOSS = 0.9  # share of the best rate that a longer pass must keep
LONGEST = 0.1  # seconds of a pass; what comes meanwhile waits for its end
REPEATS = 3


@torch.no_grad()
def calibrate(backbone: Backbone) -> tuple[int, float]:
    """Tokens of a pass, as many as a pass may take time for, and tokens a second.

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
    return max(tokens for tokens, rate in rates.items() if rate >= LOSS * best), best


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
