"""Threads that wait: seconds of training and of a classical baseline where they spin, and where they sleep.

    python recipes/benchmarks/threads.py                 # two minutes on two quiet cores
    python recipes/benchmarks/threads.py --busy 1        # one other process computes meanwhile

Each way is a process of its own with two OpenMP threads, as OpenMP reads its environment once. In it, nano trains a
tokenizer and a head on 89 rows of wine, and gradient boosting is fitted on the same rows. Processes take turns, and
figures are medians over the rounds. CPU seconds are those of all threads; the fastest epoch says what a way costs
where nothing disturbs it.
"""

import json
import multiprocessing
import os
import subprocess
import sys

import numpy as np

from metatx.cli.scripts import command

WAYS: dict[str, dict[str, str]] = {
    "as OpenMP has it": {},
    "10,000 turns": {"GOMP_SPINCOUNT": "10000"},
    "1,000 turns": {"GOMP_SPINCOUNT": "1000"},
    "passive": {"OMP_WAIT_POLICY": "passive"},
}
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
CHILD = """
import json, time
import metatx
from sklearn.datasets import load_wine
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

table = load_wine(as_frame=True).frame[::2]
backbone = metatx.load_backbone("nano")

def train(epochs):
    task = metatx.Task.from_data(backbone, "tabular", table, target="target")
    return task.fit(table, epochs=epochs, batch_size=8, cache=False)

def boost():
    HistGradientBoostingClassifier(random_state=0).fit(table.drop(columns="target"), table.target)

def seconds(way):
    started = time.process_time(), time.perf_counter()
    answer = way()
    return [time.process_time() - started[0], time.perf_counter() - started[1]], answer

train(1)
steps, task = seconds(lambda: train(5))
boosting, _ = seconds(boost)
with threadpool_limits(1):
    alone, _ = seconds(boost)
print(json.dumps([*steps, min(row["seconds"] for row in task.history), *boosting, *alone]))
"""


def occupy() -> None:
    """Compute for ever."""
    while True:
        pass


def measure(variables: dict[str, str], threads: int) -> list[float]:
    """Figures of a process with these variables in its environment."""
    environment = {key: value for key, value in os.environ.items() if key not in WAITING}
    environment |= {"OMP_NUM_THREADS": str(threads), **variables}
    done = subprocess.run([sys.executable, "-c", CHILD], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return list(json.loads(done.stdout.splitlines()[-1]))


def main(*, rounds: int = 3, threads: int = 2, busy: int = 0) -> None:
    """Compare ways to wait.

    Args:
        rounds: Processes of each way.
        threads: OpenMP threads of a process.
        busy: Number of other processes that compute meanwhile.
    """
    others = [multiprocessing.get_context("spawn").Process(target=occupy, daemon=True) for _ in range(busy)]
    for other in others:
        other.start()
    figures: dict[str, list[list[float]]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, variables in WAYS.items():
            figures[name].append(measure(variables, threads))
            print(f"{name}: {' '.join(f'{value:.2f}' for value in figures[name][-1])}", file=sys.stderr)
    for other in others:
        other.terminate()
    print(f"{threads} threads, {busy} busy processes beside them, load {os.getloadavg()[0]:.1f}, {rounds} rounds")
    print(f"{'':18}{'60 steps':>17}{'fastest 12':>12}{'boosting':>17}{'on one thread':>17}")
    print(f"{'':18}{'CPU s':>9}{'wall s':>8}{'wall ms':>12}{'CPU s':>9}{'wall s':>8}{'CPU s':>9}{'wall s':>8}")
    for name, rows in figures.items():
        steps, wall, fastest, *boosting = np.median(rows, axis=0)
        print(f"{name:18}{steps:9.2f}{wall:8.2f}{1000 * fastest:12.0f}", end="")
        print("".join(f"{value:{width}.2f}" for value, width in zip(boosting, (9, 8, 9, 8), strict=True)))


if __name__ == "__main__":
    command(main)
