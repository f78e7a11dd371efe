"""How many tokens a pass should have: measured when the server starts."""

import time

import torch

from metatx.backbone import Backbone
from metatx.sequence import TokenSequence

__all__ = ["calibrate"]

LENGTH = 64  # tokens of a sequence
LEAST, MOST = 256, 65_536  # tokens of a pass
GAIN = 1.05  # a pass twice as long must be so much faster a token to be worth the wait
LONGEST = 0.25  # seconds of a pass
REPEATS = 3


@torch.no_grad()
def calibrate(backbone: Backbone) -> tuple[int, float]:
    """Tokens of a pass beyond which passes get longer but not more efficient, or too long; and tokens a second."""
    budget, best = LEAST, 0.0
    while True:
        seconds = _seconds(backbone, budget)
        rate = budget / seconds
        if rate < GAIN * best or (seconds > LONGEST and best):
            return budget // 2, best
        best = rate
        if 2 * budget > MOST:
            return budget, best
        budget *= 2


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
