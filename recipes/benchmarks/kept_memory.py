"""Memory that a process keeps: CPU time and page faults of passes and training steps, with it and without it.

    python recipes/benchmarks/kept_memory.py             # nano, about two minutes on one core (Linux, glibc)

``keep_memory`` is called, or not, in processes of their own that take turns. Times are medians of CPU seconds, first
over the passes of a process, then over the processes. The last column is what ``trim_heap`` returns to the system after
all passes.
"""

import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from measuring import SIZES, megabytes
from pool import RNG, ask, filled, saved

import metatx
from metatx.cli.scripts import command
from metatx.pool.memory import trim_heap
from metatx.process import keep_memory
from metatx.sequence import TokenSequence

WAYS = {"as glibc has it": False, "kept": True}
Figures = dict[str, tuple[float, float]]


def loads(size: str, folder: Path) -> dict[str, Callable[[], Any]]:
    """Passes of a pool, and a training step, by their names."""
    backbone: Any = metatx.load_backbone(SIZES[size], pretrained=False)
    folders = saved(backbone, folder)
    series = filled(backbone, folders["series"], 32)
    images = filled(backbone, folders["image"], 8)
    mixed = ask(series, [17, 64, 197, 256] * 3, 12)
    equal = ask(series, [64] * 32, 32)
    pictures = RNG.integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
    asked = [(str(number % 8), picture) for number, picture in enumerate(pictures)]
    tokens = torch.randn(8 * 136, backbone.dim, requires_grad=True)

    def step() -> None:
        backbone(TokenSequence(tokens, (136,) * 8)).mean().sum().backward()

    return {
        "mixed lengths": lambda: series.answer(mixed),
        "32 tasks of 64": lambda: series.answer(equal),
        "64 pictures": lambda: images.predict(asked),
        "training step": step,
    }


def measure(size: str, kept: bool, passes: int, answer: Any) -> None:
    """Median CPU seconds and page faults of a pass, by load; the memory held, and given back."""
    if kept:
        keep_memory()
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, run in loads(size, Path(folder)).items():
            times = []
            faults = []
            for _ in range(passes + 2):
                before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
                started = time.process_time()
                run()
                times.append(time.process_time() - started)
                faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
            figures[name] = (statistics.median(times[2:]), statistics.median(faults[2:]))
    held = megabytes()
    trim_heap()
    answer.put((figures, held, held - megabytes()))


def main(*, size: Literal["base", "nano"] = "nano", rounds: int = 3, passes: int = 9) -> None:
    """Compare.

    Args:
        size: nano, or a network of ViT-B/16's shape.
        rounds: Processes of each way.
        passes: Measured passes of each load in a process.
    """
    results: dict[str, list[tuple[Figures, float, float]]] = {name: [] for name in WAYS}
    context = multiprocessing.get_context("spawn")
    for _ in range(rounds):
        for name, kept in WAYS.items():
            answer = context.Queue()
            worker = context.Process(target=measure, args=(size, kept, passes, answer))
            worker.start()
            results[name].append(answer.get())
            worker.join()
    first: dict[str, float] = {}
    print(f"{size}, {torch.get_num_threads()} threads, {rounds} processes of each way, {passes} passes")
    print(f"{'':18}{'':18}{'CPU ms':>8}{'faster':>8}{'page faults':>13}")
    for name, rows in results.items():
        for load in rows[0][0]:
            seconds, faults = np.median([figures[load] for figures, _, _ in rows], axis=0)
            ratio = first.setdefault(load, seconds) / seconds
            print(f"{load:18}{name:18}{1000 * seconds:8.1f}{ratio:8.2f}{faults:13,.0f}")
        held, returned = np.median([row[1:] for row in rows], axis=0)
        print(f"{'memory':18}{name:18}{held:8.0f} MB held, {returned:.0f} MB given back", flush=True)


if __name__ == "__main__":
    command(main)
