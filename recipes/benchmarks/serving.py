"""What does the server cost? Requests a second at many clients at once, beside the pool called directly.

    python recipes/benchmarks/serving.py                          # nano, three tasks, a minute on two cores
    python recipes/benchmarks/serving.py --backbone FOLDER --tasks image

The server is a process of its own; clients, each with one request under way, are threads of this one, and share the
machine with it. Directly: the same inputs, one of each client in a batch, prepared and answered in this process. Rounds
are interleaved, so that a noisy machine slows both; the medians are shown. ``/healthz`` is asked ten times a second.
"""

import http.client
import json
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jsonargparse import auto_cli

import metatx

PORT = 8765


def main(
    *,
    backbone: str = "nano",
    tasks: str = "table,series,image",
    clients: int = 64,
    seconds: float = 8.0,
    rounds: int = 3,
) -> None:
    """Print requests a second of both, their ratio, and latencies.

    Args:
        backbone: Any spec.
        tasks: Some of table, series, image.
        clients: At once.
        seconds: Of a round.
        rounds: Of each.
    """
    made = metatx.load_backbone(backbone)
    with tempfile.TemporaryDirectory() as folder:
        inputs = {name: _save(made, name, Path(folder)) for name in tasks.split(",")}
        _measure(made, backbone, Path(folder), inputs, clients, seconds, rounds)


def _save(backbone: Any, name: str, folder: Path) -> Any:
    """A task that was not trained, which is as fast as one that was; an input of it."""
    rng = np.random.default_rng(0)
    if name == "table":
        frame = pd.DataFrame(rng.normal(size=(200, 14)), columns=[f"c{i}" for i in range(14)])
        frame["label"] = np.where(frame.c0 > 0, "yes", "no")
        metatx.Task.from_data(backbone, "tabular", frame, target="label").save_pretrained(folder / name)
        return frame.drop(columns="label").iloc[0].to_dict()
    if name == "series":
        frame = pd.DataFrame({"time": pd.date_range("2024", periods=500, freq="h"), "load": rng.normal(size=500)})
        task = metatx.Task.from_data(backbone, "time_series", frame, tokenizer_options={"lookback": 96})
        task.save_pretrained(folder / name)
        return [rng.normal(size=96).tolist()]
    pictures = list(rng.integers(0, 256, (8, 64, 64, 3), dtype=np.uint8))
    metatx.Task.from_data(backbone, "image", (pictures, list("abababab"))).save_pretrained(folder / name)
    return pictures[0].tolist()


def _measure(
    backbone: Any, spec: str, folder: Path, inputs: dict[str, Any], clients: int, seconds: float, rounds: int
) -> None:
    pool = metatx.TaskPool(backbone)
    for name in inputs:
        pool.add(name, folder / name)
    options = [str(folder), "--port", str(PORT), "--backbone", spec]
    process = subprocess.Popen(["metatx", "serve", *options], stderr=subprocess.DEVNULL)
    try:
        while _status("/readyz") != 200:
            time.sleep(0.2)
        direct, served, latencies, healths = [], [], [], []
        for _ in range(rounds):
            direct.append(_direct(pool, inputs, clients, seconds))
            times, health = _served(inputs, clients, seconds)
            served.append(len(times) / seconds)
            latencies += times
            healths += health
    finally:
        process.terminate()
        process.wait()
    ours, theirs = statistics.median(served), statistics.median(direct)
    print(f"{', '.join(inputs)} on {spec}, {clients} clients, {rounds} rounds of {seconds:g} s each")
    print(f"{theirs:.0f} requests a second directly, {ours:.0f} served: {ours / theirs:.2f} of it")
    for name, times in (("latency", latencies), ("/healthz", healths)):
        middle, late = 1000 * np.quantile(times, [0.5, 0.99])
        print(f"{name:<9} p50 {middle:.0f} ms, p99 {late:.0f} ms")


def _direct(pool: Any, inputs: dict[str, Any], count: int, seconds: float) -> float:
    """Requests a second."""
    asked = [(name, pool.task(name).tokenizer) for name in list(inputs) * -(-count // len(inputs))][:count]
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        pool.answer([pool.prepare(name, own.receive(inputs[name]), "records") for name, own in asked])
        done += count
    return done / (time.perf_counter() - started)


def _served(inputs: dict[str, Any], count: int, seconds: float) -> tuple[list[float], list[float]]:
    """Seconds of each request, and of each look at the server's health."""
    bodies = [(name, json.dumps({"inputs": [value]})) for name, value in inputs.items()]
    times: list[float] = []
    health: list[float] = []
    ends = time.perf_counter() + seconds

    def ask(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", PORT)
        name, body = bodies[number % len(bodies)]
        while (sent := time.perf_counter()) < ends:
            connection.request("POST", f"/v1/tasks/{name}/predict", body, {"content-type": "application/json"})
            if connection.getresponse().read() and time.perf_counter() < ends:
                times.append(time.perf_counter() - sent)

    def look() -> None:
        while (sent := time.perf_counter()) < ends:
            _status("/healthz")
            health.append(time.perf_counter() - sent)
            time.sleep(0.1)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(count)]
    threads.append(threading.Thread(target=look))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times, health


def _status(path: str) -> int:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", PORT)
        connection.request("GET", path, headers={"connection": "close"})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0


if __name__ == "__main__":
    auto_cli(main)
