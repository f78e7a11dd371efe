"""A process that computes: threads that sleep while they wait, memory that is kept; the user's own settings win."""

import ctypes
import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from metatx.process import HEAP, WAITING, keep_memory, let_threads_sleep

ROOT = Path(__file__).parents[1]
TASK = ROOT / "tests/saved_tasks/version_3/tabular-lora/task"
GLIBC = platform.libc_ver()[0] == "glibc"

# Ends where torch would be imported, and says how its threads would wait.
AT_TORCH = """
import os, sys

class Watch:
    def find_spec(self, name, *given):
        if name == "torch":
            print("waits:", os.environ.get("OMP_WAIT_POLICY"))
            raise SystemExit

sys.meta_path.insert(0, Watch())
from metatx.cli import main
main(sys.argv[1:])
"""

# Page faults of each round, in which four blocks of 8 MB are filled and freed; then memory before and after it is given
# back, in MB.
ROUNDS = """
import resource, sys
from pathlib import Path
from metatx.pool.memory import trim_heap
from metatx.process import keep_memory

def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) // 1000

if sys.argv[1] == "kept":
    keep_memory()
faults = []
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [bytearray(8_000_000) for _ in range(4)]
    del blocks
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
held = resident()
trim_heap()
print(*faults, held - resident())
"""


def clean(*names: str, **added: str) -> dict[str, str]:
    """Environment without what a user may have set."""
    return {name: value for name, value in os.environ.items() if name not in names} | added


@pytest.mark.parametrize(
    ("words", "waits"),
    [
        ("train a.csv --modality tabular", "passive"),
        ("compare a.csv --modality tabular", "passive"),
        (f"predict {TASK} a.csv", "passive"),
        (f"evaluate {TASK} a.csv", "passive"),
        ("serve folder", "None"),
    ],
)
def test_threads_sleep_where_they_wait_but_in_the_server(words: str, waits: str) -> None:
    command = [sys.executable, "-c", AT_TORCH, *words.split()]
    done = subprocess.run(command, cwd=ROOT, env=clean(*WAITING), capture_output=True, text=True)
    assert done.stdout.strip() == f"waits: {waits}", done.stderr


@pytest.mark.parametrize("name", WAITING)
def test_how_threads_wait_is_left_to_a_user_who_said_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in WAITING:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "active")
    let_threads_sleep()
    assert {other: os.environ.get(other) for other in WAITING} == {**dict.fromkeys(WAITING), name: "active"}


@pytest.mark.skipif(not GLIBC, reason="other C libraries have a heap of their own")
def test_memory_is_kept_and_can_be_given_back() -> None:
    def faults(way: str) -> list[int]:
        command = [sys.executable, "-c", ROUNDS, way]
        environment = clean(*HEAP, PYTHONPATH=str(ROOT))
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        return [int(word) for word in done.stdout.split()]

    *rounds, given_back = faults("kept")
    assert max(rounds[1:]) < 100
    assert given_back >= 30
    assert min(faults("not")[1:4]) > 4000, "the C library keeps memory by itself: keep_memory is not needed any more"


@pytest.mark.parametrize(
    ("library", "variables", "calls"),
    [("glibc", {}, 2), ("musl", {}, 0), ("", {}, 0), *(("glibc", {name: "1"}, 0) for name in HEAP)],
)
def test_only_glibc_is_told_and_only_where_the_user_said_nothing(library, variables, calls, monkeypatch) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(platform, "libc_ver", lambda: (library, "2.36"))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=lambda *given: told.append(given)))
    for name in HEAP:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    keep_memory()
    assert len(told) == calls
