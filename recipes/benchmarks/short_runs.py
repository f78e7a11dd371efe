"""CPU seconds of short commands, beside those of Python and torch alone.

    python recipes/benchmarks/short_runs.py                               # two minutes on one core
    python recipes/benchmarks/short_runs.py --before ../metatx-of-before  # beside another checkout

Commands are processes of their own, which take turns with those of the other checkout; figures are medians of user and
system time. Wine comes from scikit-learn.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from sklearn.datasets import load_wine

from metatx.cli.scripts import command

ROOT = Path(__file__).parents[2]
METATX = ["-m", "metatx"]


def cpu_seconds(words: list[str], root: Path) -> float:
    """CPU seconds of a process that runs a checkout, children included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, *words], cwd=root, env=environment, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(*, rounds: int = 3, before: Path | None = None) -> None:
    """Measure.

    Args:
        rounds: Processes of each command.
        before: Folder of another checkout, to compare with.
    """
    roots = {"now": ROOT} | ({} if before is None else {"before": before.absolute()})
    with tempfile.TemporaryDirectory() as folder:
        table = f"{folder}/wine.csv"
        load_wine(as_frame=True).frame.to_csv(table, index=False)
        training = [table, "--modality", "tabular", "--target", "target", "--epochs", "4", "--out", f"{folder}/out"]
        commands = {
            "python": ["-c", "pass"],
            "import torch": ["-c", "import torch"],
            "metatx --help": [*METATX, "--help"],
            "metatx list": [*METATX, "list"],
            "metatx info TASK": [*METATX, "info", "tests/saved_tasks/version_3/tabular-lora/task"],
            "metatx train (no data)": [*METATX, "train"],
            "metatx train wine.csv": [*METATX, "train", *training],
        }
        print(f"{'CPU seconds':26}{''.join(f'{name:>9}' for name in roots)}")
        for name, words in commands.items():
            times: dict[str, list[float]] = {root: [] for root in roots}
            for _ in range(rounds):
                for root, path in roots.items():
                    times[root].append(cpu_seconds(words, path))
            medians = (statistics.median(seconds) for seconds in times.values())
            print(f"{name:26}{''.join(f'{value:9.2f}' for value in medians)}", flush=True)


if __name__ == "__main__":
    command(main)
