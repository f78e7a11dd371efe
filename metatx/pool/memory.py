"""Memory of tasks: how much they hold, and giving back to the system what they held."""

import ctypes
import gc
import platform
from collections.abc import Iterable

from torch import Tensor

__all__ = ["trim_heap", "freeze_gc", "size_of"]

RARE = 100_000  # objects more than there were, until garbage is looked for; Python's own 700 are one small picture


def size_of(tensors: Iterable[Tensor]) -> int:
    """Bytes that the tensors hold, those that share their storage counted once."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def trim_heap() -> None:
    """Return freed memory to the system where the C library is glibc, which else keeps it for later.

    Other C libraries return it by themselves.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def freeze_gc() -> None:
    """Exempt all that is in memory now from garbage collection; for a server that has loaded what it serves.

    A collection looks at every object there is: some hundred thousand of the libraries' own, time and again while
    requests make lists of numbers. Those are no garbage that needs it, so collections become rarer too.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(RARE)
