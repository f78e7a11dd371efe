"""Tools of the benchmarks beside it: interleaved rounds, memory, timm's twin of a backbone, tasks, a server."""

import http.client
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import metatx

SIZES = {"base": "timm:vit_base_patch16_224", "nano": "nano"}
PORT = 8765
ADDRESS = f"http://127.0.0.1:{PORT}"


def medians(
    ways: Mapping[str, Callable[[], Any]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Median seconds of each way, called in turns so that a noisy machine slows all; the first turn warms up."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            started = clock()
            way()
            times[name].append(clock() - started)
    return {name: statistics.median(seconds[1:]) for name, seconds in times.items()}


def megabytes(field: str = "VmRSS", process: int | str = "self") -> float:
    """Memory of a process in 10^6 bytes (Linux): what it holds, or held at most (VmHWM)."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024 / 1e6


class Padded(nn.Module):
    """timm's transformer with the weights of a backbone, on a padded batch (B, N, D)."""

    def __init__(self, backbone: metatx.Backbone) -> None:
        super().__init__()
        config: Any = backbone.config
        timm = VisionTransformer(embed_dim=config.dim, depth=config.depth, num_heads=config.num_heads)
        self.blocks = timm.blocks
        self.norm = timm.norm
        names = ("blocks", "norm.")
        self.load_state_dict({name: weight for name, weight in backbone.named_weights() if name.startswith(names)})
        self.requires_grad_(False)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Tokens through all blocks; ``keep`` (B, 1, 1, N) is False at padding."""
        for block in self.blocks:
            x = block(x, attn_mask=keep)
        return self.norm(x)


def save_task(backbone: metatx.Backbone, name: str, folder: Path) -> Any:
    """Save a task of a table, series or image, untrained: as fast as a trained one. Return an input, as JSON."""
    rng = np.random.default_rng(0)
    if name == "table":
        frame = pd.DataFrame(rng.normal(size=(200, 14)), columns=[f"c{i}" for i in range(14)])
        frame["label"] = np.where(frame.c0 > 0, "yes", "no")
        task = metatx.Task.from_data(backbone, "tabular", frame, target="label")
        sample: Any = frame.drop(columns="label").iloc[0].to_dict()
    elif name == "series":
        frame = pd.DataFrame({"time": pd.date_range("2024", periods=500, freq="h"), "load": rng.normal(size=500)})
        task = metatx.Task.from_data(backbone, "time_series", frame, tokenizer_options={"lookback": 96})
        sample = [rng.normal(size=96).tolist()]
    else:
        pictures = list(rng.integers(0, 256, (8, 64, 64, 3), dtype=np.uint8))
        task = metatx.Task.from_data(backbone, "image", (pictures, list("abababab")))
        sample = pictures[0].tolist()
    task.save_pretrained(folder / name)
    return sample


@contextmanager
def server(folder: Path, *options: str) -> Iterator[Callable[[], float]]:
    """Run ``metatx serve``, and give a function that returns its memory in MB once it is ready."""
    with server_process(folder, *options) as process:
        yield lambda: megabytes(process=process.pid)


@contextmanager
def server_process(folder: Path, *options: str, port: int = PORT) -> Iterator[psutil.Process]:
    """Run ``metatx serve``, and give its process once it is ready."""
    command = [sys.executable, "-m", "metatx", "serve", str(folder), "--port", str(port), *options]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def is_ready() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        try:
            connection.request("GET", "/readyz", headers={"connection": "close"})
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False

    try:
        while not is_ready():
            time.sleep(0.2)
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()
