"""What does the server cost? Requests a second at many clients at once, beside the pool called directly.

    python recipes/benchmarks/serving.py                          # nano, three tasks, a minute on two cores
    python recipes/benchmarks/serving.py --backbone base --seconds 40    # ViT-B/16's shape, five

The server is a process of its own; so are the clients, which share the machine with it: each has one request under way
and asks the tasks in turn, so that all are asked equally often. Directly: the same inputs, one of each client in a
batch, given to ``TaskPool.predict`` in this process. Rounds are interleaved, so that a noisy machine slows both; the
medians are shown. ``/healthz`` is asked ten times a second meanwhile.
"""

import asyncio
import http.client
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jsonargparse import auto_cli

import metatx
from metatx.backbone.loading import save_backbone

PORT = 8765
END = b"\r\n\r\n"


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
        backbone: Any spec; or "base", random weights in ViT-B/16's shape.
        tasks: Some of table, series, image.
        clients: At once.
        seconds: Of a round.
        rounds: Of each.
    """
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as weights:
        shown = backbone
        if backbone == "base":
            random = metatx.load_backbone("timm:vit_base_patch16_224", pretrained=False)
            backbone = str(save_backbone(random, Path(weights) / "base", about="Random weights."))
        made = metatx.load_backbone(backbone)
        inputs = {name: saved(made, name, Path(folder)) for name in tasks.split(",")}
        pool = metatx.TaskPool(made)
        for name in inputs:
            pool.add(name, Path(folder) / name)
        patient = ["--queue-seconds", "60", "--timeout", "120"]  # all clients together may want more than ten seconds
        options = [folder, "--port", str(PORT), "--backbone", backbone, *patient]
        process = subprocess.Popen([sys.executable, "-m", "metatx", "serve", *options], stderr=subprocess.DEVNULL)
        try:
            while status("/readyz") != 200:
                time.sleep(0.2)
            direct, served, latencies, healths = [], [], [], []
            with multiprocessing.get_context("spawn").Pool(1) as asking:
                for _ in range(rounds):
                    direct.append(directly(pool, inputs, clients, seconds))
                    times, health = asking.apply(ask_all, (inputs, clients, seconds))
                    served.append(len(times) / seconds)
                    latencies += times
                    healths += health
        finally:
            process.terminate()
            process.wait()
    ours, theirs = statistics.median(served), statistics.median(direct)
    print(f"{', '.join(inputs)} on {shown}, {clients} clients, {rounds} rounds of {seconds:g} s each")
    print(f"{theirs:.0f} requests a second directly, {ours:.0f} served: {ours / theirs:.2f} of it")
    for name, found in (("latency", latencies), ("/healthz", healths)):
        middle, late = 1000 * np.quantile(found, [0.5, 0.99])
        print(f"{name:<9} p50 {middle:.0f} ms, p99 {late:.0f} ms")


def saved(backbone: Any, name: str, folder: Path) -> Any:
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


def directly(pool: metatx.TaskPool, inputs: dict[str, Any], count: int, seconds: float) -> float:
    """Requests a second."""
    names = (list(inputs) * -(-count // len(inputs)))[:count]
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        pool.predict([(name, pool.task(name).tokenizer.from_json(inputs[name])) for name in names])
        done += count
    return done / (time.perf_counter() - started)


def ask_all(inputs: dict[str, Any], count: int, seconds: float) -> tuple[list[float], list[float]]:
    """Seconds of each request, and of each look at the server's health."""
    requests = []
    for name, value in inputs.items():
        body = json.dumps({"inputs": [value]}).encode()
        requests.append(message("POST", f"/v1/tasks/{name}/predict", body))
    health = message("GET", "/healthz", b"")

    async def one(sent: list[bytes], pause: float, times: list[float]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
        turn, begun = 0, time.perf_counter()
        while begun < ends:
            writer.write(sent[turn % len(sent)])
            head = await reader.readuntil(END)
            await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"The server refused a request: {head!r}")
            if (now := time.perf_counter()) < ends:
                times.append(now - begun)
            await asyncio.sleep(pause)
            turn, begun = turn + 1, time.perf_counter()
        writer.close()

    async def all_of_them() -> None:
        turns = [requests[number % len(requests) :] + requests[: number % len(requests)] for number in range(count)]
        await asyncio.gather(*(one(own, 0, times) for own in turns), one([health], 0.1, healths))

    times: list[float] = []
    healths: list[float] = []
    ends = time.perf_counter() + seconds
    asyncio.run(all_of_them())
    return times, healths


def message(method: str, path: str, body: bytes) -> bytes:
    """A request of HTTP/1.1."""
    lines = [f"{method} {path} HTTP/1.1", "host: localhost", f"content-length: {len(body)}"]
    return "\r\n".join([*lines, "content-type: application/json"]).encode() + END + body


def status(path: str) -> int:
    """What the server answers; 0 if nothing."""
    try:
        connection = http.client.HTTPConnection("127.0.0.1", PORT)
        connection.request("GET", path, headers={"connection": "close"})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0


if __name__ == "__main__":
    auto_cli(main)
