"""One backbone in memory with many tasks on it."""

from metatx.pool.pool import PooledTask, Request, TaskPool

__all__ = ["PooledTask", "Request", "TaskPool"]
