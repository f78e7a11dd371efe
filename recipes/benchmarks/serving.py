"""Cost of the server: requests a second from many clients at once, beside the pool called directly.

    python recipes/benchmarks/serving.py                          # nano, three tasks, a minute on two cores
    python recipes/benchmarks/serving.py --backbone base --seconds 40    # ViT-B/16's shape, five

The server is a process of its own; so are the clients, which share the machine with it: each has one request under way
and asks the tasks in turn, so that all are asked equally often. Directly: the same inputs, one of each client in a
batch, given to ``TaskPool.predict`` in this process. Rounds are interleaved, so that a noisy machine slows both; the
medians are shown. ``/healthz`` is asked ten times a second meanwhile.
"""

import asyncio
import itertools
import json
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measuring import PORT, SIZES, save_task, server

import metatx
from metatx.backbone.loading import save_backbone
from metatx.cli.scripts import command

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
        seconds: Length of a round, in seconds.
        rounds: Number of rounds of each way.
    """
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as weights:
        shown = backbone
        if backbone == "base":
            random = metatx.load_backbone(SIZES["base"], pretrained=False)
            backbone = str(save_backbone(random, Path(weights) / "base", about="Random weights."))
        made = metatx.load_backbone(backbone)
        inputs = {name: save_task(made, name, Path(folder)) for name in tasks.split(",")}
        pool = metatx.TaskPool(made)
        for name in inputs:
            pool.add(name, Path(folder) / name)
        patient = ["--queue-seconds", "60", "--timeout", "120"]  # all clients together may want more than ten seconds
        direct: list[float] = []
        served: list[float] = []
        latencies: list[float] = []
        healths: list[float] = []
        spawned = multiprocessing.get_context("spawn")
        with server(Path(folder), "--backbone", backbone, *patient), spawned.Pool(1) as asking:
            for _ in range(rounds):
                direct.append(directly(pool, inputs, clients, seconds))
                times, health = asking.apply(ask_all, (inputs, clients, seconds))
                served.append(len(times) / seconds)
                latencies += times
                healths += health
    ours, theirs = statistics.median(served), statistics.median(direct)
    print(f"{', '.join(inputs)} on {shown}, {clients} clients, {rounds} rounds of {seconds:g} s each")
    print(f"{theirs:.0f} requests a second directly, {ours:.0f} served: {ours / theirs:.2f} of it")
    for name, found in (("latency", latencies), ("/healthz", healths)):
        middle, late = 1000 * np.quantile(found, [0.5, 0.99])
        print(f"{name:<9} p50 {middle:.0f} ms, p99 {late:.0f} ms")


def directly(pool: metatx.TaskPool, inputs: dict[str, Any], count: int, seconds: float) -> float:
    """Requests a second."""
    names = (list(inputs) * -(-count // len(inputs)))[:count]
    done = 0
    started = time.perf_counter()
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
        connection = await asyncio.open_connection("127.0.0.1", PORT)
        for request in itertools.cycle(sent):
            begun = time.perf_counter()
            if begun >= ends:
                break
            status, content = await exchange(connection, request)
            if status != 200:
                raise RuntimeError(f"The server refused a request with {status}: {content!r}")
            if (now := time.perf_counter()) < ends:
                times.append(now - begun)
            await asyncio.sleep(pause)
        connection[1].close()

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


async def exchange(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], request: bytes) -> tuple[int, bytes]:
    """Send a request; return status and content of the answer."""
    reader, writer = connection
    writer.write(request)
    head = await reader.readuntil(END)
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    return int(head.split()[1]), await reader.readexactly(length)


if __name__ == "__main__":
    command(main)
