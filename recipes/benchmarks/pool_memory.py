"""Memory and speed of a pool of a thousand tasks, and of those that went nothing is left.

    python recipes/benchmarks/pool_memory.py                          # nano, about two minutes on one core
    python recipes/benchmarks/pool_memory.py --size base --rounds 3   # ViT-B/16's shape
    python recipes/benchmarks/pool_memory.py --cycles 1000            # load and unload tasks so often, nothing else

Linux. Times as in ``pool.py`` beside it.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from measuring import SIZES, megabytes
from pool import RNG, cpu_seconds, filled, samples, saved, show

import metatx
from metatx.cli.scripts import command
from metatx.pool.memory import trim_heap

ALONE = """import sys, metatx
task = metatx.Task.from_pretrained(sys.argv[2], metatx.load_backbone(sys.argv[1], pretrained=False))
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


def resident() -> float:
    """10^6 bytes that this process holds (Linux)."""
    trim_heap()
    return megabytes()


def memory(backbone: metatx.Backbone, folders: dict[str, Path], spec: str, count: int) -> None:
    for kind, aim in {"series": "0.2", "image": "3", "lora": "8"}.items():
        first = filled(backbone, folders[kind], 1)
        before = resident()
        pool = filled(backbone, folders[kind], count)
        grown = (resident() - before) / count
        show(f"memory of one more {kind} task, weights {first.tasks()[0].bytes / 1e6:.2f} MB", grown, "MB", aim)
        del pool
    alone = [sys.executable, "-c", ALONE, spec, str(folders["series"])]
    own = subprocess.run(alone, capture_output=True, text=True, check=True)
    show("  against a process of its own, at its peak", int(own.stdout) * 1024 / 1e6, "MB")


@torch.inference_mode()
def many_tasks(backbone: metatx.Backbone, folder: Path, rounds: int, count: int) -> None:
    pool = filled(backbone, folder, count)
    lengths = [17] * 64
    asked = {n: [(str(RNG.integers(n)), sample) for sample in samples(lengths)] for n in (5, count)}
    found = cpu_seconds({str(n): lambda own=own: pool.predict(own) for n, own in asked.items()}, rounds)
    show(f"requests a second with {count} tasks against 5, 17 tokens each", found["5"] / found[str(count)], aim="0.95")
    ready = {n: [pool.prepare(*one) for one in own] for n, own in asked.items()}
    found = cpu_seconds({str(n): lambda own=own: pool.answer(own) for n, own in ready.items()}, rounds)
    show("  of requests that are prepared, in the thread that has the model", found["5"] / found[str(count)])

    def new() -> None:
        pool.add("new", folder)
        pool.predict([("new", samples([17])[0])])
        pool.remove("new")

    show("a task is added and answers for the first time", 1000 * cpu_seconds({"new": new}, 5)["new"], "ms", "100")


def load_and_unload(backbone: metatx.Backbone, folders: dict[str, Path], cycles: int) -> None:
    """A pool with room for one task, asked for another one each time."""
    pool = metatx.TaskPool(backbone, memory_mb=1e-3)
    for name, folder in folders.items():
        pool.add(name, folder)
    picture, (series,) = np.zeros((32, 32, 3), np.uint8), samples([9])
    asked = {name: [(name, picture if "image" in name else series)] for name in folders}
    for cycle in range(cycles + 1):
        for name in folders:
            pool.reload(name) if cycle % 2 else pool.predict(asked[name])
        if cycle in (cycles // 10, cycles):
            show(f"memory after {cycle * len(folders)} loads and unloads", resident(), "MB")


def main(
    *, size: Literal["base", "nano"] = "nano", rounds: int = 7, tasks: int = 1000, more: int = 10, cycles: int = 0
) -> None:
    """Measure.

    Args:
        size: nano, or a network of ViT-B/16's shape.
        rounds: Measured turns of each way.
        tasks: Number of tasks in the large pool.
        more: Tasks over which memory is averaged.
        cycles: Load and unload tasks so often, and measure nothing else.
    """
    backbone = metatx.load_backbone(SIZES[size], pretrained=False)
    with tempfile.TemporaryDirectory() as temporary:
        folders = saved(backbone, Path(temporary))
        if cycles:
            load_and_unload(backbone, folders, cycles)
            return
        memory(backbone, folders, SIZES[size], more)
        many_tasks(backbone, folders["series"], rounds, tasks)


if __name__ == "__main__":
    command(main)
