"""Cost of the server: requests a second from many clients at once, beside the pool called directly.

    python recipes/benchmarks/serving.py --rounds 5               # nano, three tasks, three minutes on two cores
    python recipes/benchmarks/serving.py --backbone base --seconds 40    # ViT-B/16's shape, nine

Servers of one process and of ``--processes`` are measured; so are the clients, a process of their own, which shares the
machine with them: each has one request under way and asks the tasks in turn, so that all are asked equally often.
Directly: the same inputs, one of each client in a batch, given to ``TaskPool.predict`` in a thread of this process.
Rounds are interleaved, so that a noisy machine slows all; medians are shown. CPU is that of the server's processes,
without the clients. ``/healthz`` is asked ten times a second meanwhile.
"""

import asyncio
import itertools
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from measuring import PORT, SIZES, save_task, server_process

import metatx
from metatx.backbone.loading import save_backbone
from metatx.cli.scripts import command

END = b"\r\n\r\n"


@dataclass(frozen=True)
class Round:
    """Requests that were answered, and how many a second; seconds of each, and of each look at the server's health."""

    count: int
    rate: float
    latencies: list[float] = field(default_factory=list)
    healths: list[float] = field(default_factory=list)


@dataclass
class Way:
    """A way to be answered, and what its rounds came to."""

    ask: Callable[[], "Round"]
    cpu_seconds: Callable[[], float]
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)  # milliseconds a request
    latencies: list[float] = field(default_factory=list)
    healths: list[float] = field(default_factory=list)

    def round(self) -> None:
        """Ask, and note what it came to."""
        before = self.cpu_seconds()
        done = self.ask()
        self.cpu.append(1000 * (self.cpu_seconds() - before) / done.count)
        self.rates.append(done.rate)
        self.latencies += done.latencies
        self.healths += done.healths


def main(
    *,
    backbone: str = "nano",
    tasks: str = "table,series,image",
    clients: int = 64,
    seconds: float = 8.0,
    rounds: int = 3,
    processes: int = 2,
) -> None:
    """Print requests a second and CPU of each way, its share of the pool called directly, and latencies.

    Args:
        backbone: Any spec; or "base", random weights in ViT-B/16's shape.
        tasks: Some of table, series, image.
        clients: At once.
        seconds: Length of a round, in seconds.
        rounds: Number of rounds of each way.
        processes: Processes of the second server; 1: there is none.
    """
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as weights, ExitStack() as running:
        shown = backbone
        if backbone == "base":
            random = metatx.load_backbone(SIZES["base"], pretrained=False)
            backbone = str(save_backbone(random, Path(weights) / "base", about="Random weights."))
        made = metatx.load_backbone(backbone)
        inputs = {name: save_task(made, name, Path(folder)) for name in tasks.split(",")}
        pool = metatx.TaskPool(made)
        for name in inputs:
            pool.add(name, Path(folder) / name)
        asking = running.enter_context(multiprocessing.get_context("spawn").Pool(1))
        calling = running.enter_context(ThreadPoolExecutor(1))  # a thread beside the main one, as in the server
        direct = partial(calling.submit, directly, pool, inputs, clients, seconds)
        ways = {"directly": Way(lambda: direct().result(), time.process_time)}
        patient = ["--queue-seconds", "60", "--timeout", "120"]  # all clients together may want more than ten seconds
        for at, count in enumerate(dict.fromkeys((1, processes))):
            options = ["--backbone", backbone, "--processes", str(count), *patient]
            process = running.enter_context(server_process(Path(folder), *options, port=PORT + at))
            asked = partial(asking.apply, ask_all, (inputs, clients, seconds, PORT + at))
            ways[f"{count} process{'es' * (count > 1)}"] = Way(asked, partial(cpu_seconds, process))
        for _ in range(rounds):
            for way in ways.values():
                way.round()
    print(f"{', '.join(inputs)} on {shown}, {clients} clients, {rounds} rounds of {seconds:g} s each")
    print(f"{'':12}  requests/s  of direct  CPU ms  p50 ms  p99 ms  /healthz p99 ms")
    base = statistics.median(ways["directly"].rates)
    for name, way in ways.items():
        rate = statistics.median(way.rates)
        late = [*np.quantile(way.latencies, [0.5, 0.99]), np.quantile(way.healths, 0.99)] if way.latencies else []
        print(f"{name:12}{rate:12.0f}{rate / base:11.2f}{statistics.median(way.cpu):8.2f}", end="")
        print("".join(f"{1000 * value:{width}.0f}" for value, width in zip(late, (8, 8, 17), strict=False)))


def cpu_seconds(process: psutil.Process) -> float:
    """CPU seconds of a process and of those that it has started."""
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def directly(pool: metatx.TaskPool, inputs: dict[str, Any], count: int, seconds: float) -> Round:
    """Ask the pool."""
    names = (list(inputs) * -(-count // len(inputs)))[:count]
    done = 0
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        pool.predict([(name, pool.task(name).tokenizer.from_json(inputs[name])) for name in names])
        done += count
    return Round(done, done / (time.perf_counter() - started))


def ask_all(inputs: dict[str, Any], count: int, seconds: float, port: int) -> Round:
    """Ask a server."""
    requests = []
    for name, value in inputs.items():
        body = json.dumps({"inputs": [value]}).encode()
        requests.append(message("POST", f"/v1/tasks/{name}/predict", body))
    health = message("GET", "/healthz", b"")

    async def one(sent: list[bytes], pause: float, times: list[float]) -> None:
        connection = await asyncio.open_connection("127.0.0.1", port)
        for request in itertools.cycle(sent):
            begun = time.perf_counter()
            if begun >= ends:
                break
            status, content = await exchange(connection, request)
            if status != 200:
                raise RuntimeError(f"The server refused a request with {status}: {content!r}")
            times.append(time.perf_counter() - begun)
            await asyncio.sleep(pause)
        connection[1].close()

    async def all_of_them() -> None:
        turns = [requests[number % len(requests) :] + requests[: number % len(requests)] for number in range(count)]
        await asyncio.gather(*(one(own, 0, times) for own in turns), one([health], 0.1, healths))

    times: list[float] = []
    healths: list[float] = []
    ends = time.perf_counter() + seconds
    asyncio.run(all_of_them())
    return Round(len(times), len(times) / (time.perf_counter() - ends + seconds), times, healths)


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
