"""Random numbers that depend on given keys only, not on what was drawn before."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["seeded"]


@contextmanager
def seeded(*keys: int) -> Iterator[None]:
    """Seed torch's global generator inside the context; afterwards the CPU's generator has its former state.

    Args:
        keys: A seed; or several numbers, such as seed, epoch and sample, which are hashed to a seed.
    """
    with torch.random.fork_rng(devices=[]):
        # The hash of a tuple of ints is the same in every process.
        torch.manual_seed(keys[0] if len(keys) == 1 else hash(keys) & 0x7FFFFFFF)
        yield
