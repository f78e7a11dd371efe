"""Batches of sample positions, divided among processes, and their loader."""

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
    """Positions of one process's share of each batch of an epoch; equal arguments give equal positions.

    Args:
        count: Number of samples.
        batch_size: Number of samples in a batch, over all processes.
        seed: Seed of the run.
        epoch: Number of the epoch.
        classes: Class number of each sample (count,), to draw each class equally often; None draws each sample once.
        rank: Number of the process.
        world: Number of processes. A process without a share of the last batch gets one sample of weight zero, because
            DistributedDataParallel waits for all processes.
    """
    rng = np.random.default_rng((seed, epoch))
    drawn = rng.permutation(count) if classes is None else balanced_order(classes, rng)
    order = drawn.tolist()
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    return [batch[rank::world] or batch[:1] for batch in batches]


def shares(count: int, batch_size: int, rank: int, world: int) -> list[list[int]]:
    """Positions of one process's share of ``count`` samples, in order and in batches.

    Shares are consecutive, so that gathered results are in the order of the samples; the first shares are the larger.
    """
    least, more = divmod(count, world)
    start = rank * least + min(rank, more)
    mine = list(range(start, start + least + (rank < more)))
    return [mine[i : i + batch_size] for i in range(0, len(mine), batch_size)]


def loader(data: Any, batches: list[list[int]], workers: int, device: torch.device | None = None) -> DataLoader[Any]:
    """Loader of ``data.batch(positions)`` for each batch.

    Args:
        data: Data with a method ``batch``.
        batches: Positions of the samples of each batch.
        workers: Number of worker processes, 0 for none.
        device: Device that the batches are copied to afterwards; for a GPU they lie in pinned memory. None: a CPU.
    """
    return DataLoader(
        data,
        batch_sampler=batches,
        collate_fn=_unchanged,
        num_workers=workers,
        pin_memory=device is not None and device.type == "cuda",
        generator=torch.Generator(),  # without it, each loader would draw from the global generator
    )


def _unchanged(batch: Any) -> Any:
    return batch
