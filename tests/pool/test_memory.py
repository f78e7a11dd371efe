"""Memory that is freed goes back to the system."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from metatx.pool.memory import size_of, trim_heap


def resident() -> int:
    """MB that this process holds."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) // 1000


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries give memory back by themselves")
def test_freed_memory_goes_back():
    many = [torch.ones(2000) for _ in range(20_000)]  # 160 MB in pieces that the C library keeps for later
    last = many.pop()
    held = resident()
    many.clear()
    kept = resident()
    trim_heap()
    assert kept > held - 50, "the C library gives memory back by itself: trim_heap is not needed any more"
    assert resident() < held - 100
    assert last.sum() == 2000


def test_what_shares_its_storage_is_counted_once():
    rows = torch.zeros(10, 4)
    assert size_of([rows, rows[2:], rows.T, torch.zeros(3, dtype=torch.uint8)]) == 163


def test_what_is_there_is_settled():
    script = """
import gc
from metatx.pool.memory import freeze_gc
gc.disable()  # the loop is there when it is collected for the last time
loop = []; loop.append(loop); name = id(loop); del loop
kept = [[] for _ in range(1000)]
freeze_gc()
assert all(id(one) != name for one in gc.get_objects()), "garbage is not kept"
assert gc.get_freeze_count() > 1000 and gc.get_threshold()[0] == 100_000
"""
    subprocess.run([sys.executable, "-c", script], check=True)
