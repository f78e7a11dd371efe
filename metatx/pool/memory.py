"""Memory of tasks: size of their weights, return of freed memory, garbage collection."""

import ctypes
import gc
import platform
from collections.abc import Iterable

from torch import Tensor

__all__ = ["trim_heap", "freeze_gc", "size_of"]

RARE = 100_000  # new objects before a garbage collection; Python's default of 700 is reached by one small image


def size_of(tensors: Iterable[Tensor]) -> int:
    """Bytes that the tensors hold; storage that several tensors share is counted once."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def trim_heap() -> None:
    """Return freed memory to the system if the C library is glibc; others return it by themselves."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def freeze_gc() -> None:
    """Exempt all objects in memory from garbage collection, for a server that has loaded its tasks.

    A collection visits every object, some hundred thousand of the libraries, and requests that make lists of numbers
    cause collections again and again. Such lists are freed without them, so collections become rarer too.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(RARE)
