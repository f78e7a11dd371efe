"""Random numbers that depend on named keys alone, not on what was drawn before."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["seeded"]


@contextmanager
def seeded(*keys: int) -> Iterator[None]:
    """Seed torch's global generator inside the context; behind it the CPU's generator is where it was before.

    Args:
        keys: One seed, taken as it is; or several numbers, such as seed, epoch and sample, which are hashed together.
    """
    with torch.random.fork_rng(devices=[]):
        # The hash of a tuple of ints is the same in every process.
        torch.manual_seed(keys[0] if len(keys) == 1 else hash(keys) & 0x7FFFFFFF)
        yield
