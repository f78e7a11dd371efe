"""Settings of a process that trains, answers or serves: threads that sleep while they wait, memory that is kept."""

import ctypes
import os
import platform

__all__ = ["available_memory", "keep_memory", "let_threads_sleep"]

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # variables by which people say how threads wait
HEAP = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")
# Parameters of glibc's mallopt, from malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
LARGEST_BLOCK = 32 << 20  # bytes; glibc accepts no larger threshold
KEPT = 1 << 30  # bytes free at the end of the heap that are kept


def let_threads_sleep() -> None:
    """Let OpenMP's threads sleep while they wait for work, unless the environment says how they wait.

    By default they spin, and take cores that other processes could use, or the thread that they wait for. It must be
    called before torch is imported, whose OpenMP reads the environment once.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "passive"


def keep_memory() -> None:
    """Keep freed memory in the process if the C library is glibc, unless the environment configures its heap.

    By default glibc returns the memory of a large tensor when it is freed, and the system clears it page by page when
    the next tensor takes it. What is kept is returned by ``malloc_trim``.
    """
    if platform.libc_ver()[0] == "glibc" and not any(name in os.environ for name in HEAP):
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, LARGEST_BLOCK)
        library.mallopt(M_TRIM_THRESHOLD, KEPT)


def available_memory() -> int:
    """Bytes of memory that processes can be given without swapping."""
    import psutil

    return int(psutil.virtual_memory().available)
