"""Seconds from a fresh interpreter to a backbone in memory: metatx's nano beside a timm model of its shape.

    python recipes/benchmarks/loading.py        # about a minute on two cores

Each way runs in interpreters of its own, in turns, so that a noisy machine slows all of them; times are medians, and
what counts are the seconds behind ``import torch``. metatx also checks the hash of its file; timm draws its weights.
"""

import statistics
import subprocess
import sys
import time
from dataclasses import asdict

import metatx
from metatx.cli.scripts import command

TIMM = """import timm
timm.create_model(
    "vit_tiny_patch16_224", img_size={image_size}, patch_size={patch_size}, embed_dim={dim}, depth={depth},
    num_heads={num_heads}, pre_norm=True, num_classes=0,
)
"""


def measure(code: str) -> tuple[float, float]:
    """Seconds of a fresh interpreter in all, and of ``code`` behind ``import torch``."""
    timed = f"import time, torch; started = time.perf_counter(); {code}\nprint(time.perf_counter() - started)"
    started = time.perf_counter()
    answer = subprocess.run([sys.executable, "-c", timed], check=True, capture_output=True, text=True)
    return time.perf_counter() - started, float(answer.stdout)


def main(*, rounds: int = 7) -> None:
    """Compare the ways.

    Args:
        rounds: Measured interpreters of each.
    """
    config = metatx.load_backbone("nano").config
    assert config.stem is not None
    ways = {
        "torch alone": "pass",
        'metatx.load_backbone("nano")': 'import metatx; metatx.load_backbone("nano")',
        "timm.create_model": TIMM.format(**asdict(config), **asdict(config.stem)),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    list(map(measure, ways.values()))  # warms the disk's cache
    for _ in range(rounds):
        for name, code in ways.items():
            times[name].append(measure(code))
    print(f"{'':32}{'s in all':>10}{'beyond torch':>14}")
    for name, found in times.items():
        whole, beyond = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"{name:32}{whole:10.2f}{beyond:14.3f}")


if __name__ == "__main__":
    command(main)
