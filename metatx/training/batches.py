"""Batches of positions: those of an epoch, those of a process, and their loader."""

from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from metatx.encoding.sampling import balanced_order

__all__ = ["epoch_batches", "loader", "shares"]


def epoch_batches(
    count: int,
    batch_size: int,
    seed: int,
    epoch: int,
    *,
    classes: np.ndarray | None = None,
    rank: int = 0,
    world: int = 1,
) -> list[list[int]]:
    """Positions of one process's share of each batch of an epoch; they depend on the arguments alone.

    Args:
        count: Number of samples.
        batch_size: Samples of a batch, over all processes.
        seed: Seed of the run.
        epoch: Number of the epoch.
        classes: Class number of each sample (count,), to draw each class equally often; None draws each sample once.
        rank: Number of the process.
        world: Number of processes. Where the last batch is smaller, the others get a sample of weight zero, for
            DistributedDataParallel waits for all.
    """
    rng = np.random.default_rng((seed, epoch))
    drawn = rng.permutation(count) if classes is None else balanced_order(classes, rng)
    order = drawn.tolist()
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    return [batch[rank::world] or batch[:1] for batch in batches]


def shares(count: int, batch_size: int, rank: int, world: int) -> list[list[int]]:
    """Positions of one process's share of ``count`` samples, in order and in batches.

    Shares follow on each other, so that what processes gather is in the order of one; the first are the larger ones.
    """
    least, more = divmod(count, world)
    start = rank * least + min(rank, more)
    mine = list(range(start, start + least + (rank < more)))
    return [mine[i : i + batch_size] for i in range(0, len(mine), batch_size)]


def loader(data: Any, batches: list[list[int]], workers: int) -> DataLoader[Any]:
    """Loader of ``data.batch(positions)`` for each of the batches, with so many worker processes; 0: this one."""
    return DataLoader(
        data,
        batch_sampler=batches,
        collate_fn=_as_it_is,
        num_workers=workers,
        generator=torch.Generator(),  # else each loader would draw from the global one
    )


def _as_it_is(batch: Any) -> Any:
    return batch
