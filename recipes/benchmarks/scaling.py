"""How far does it go? Rows of a table, classes, tokens of a sequence and tasks served, over three decades each.

    python recipes/benchmarks/scaling.py --out scaling          # nano, half an hour on one core, most of it for rows
    python recipes/benchmarks/scaling.py --out scaling --directions '["classes","tokens"]'

Each point is a process of its own; its memory is the most that it held (Linux), in all and above what it held before
the work. What is measured is kept in ``scaling.json`` in the folder, so that a run goes on where another ended;
``scaling.png`` draws all of it.

rows: a csv of the form of Adult (6 numbers, 8 categories and a label) is read, a task fitted to it, all of it encoded;
then ``metatx.run`` plans an epoch by a budget of seconds, and 2,000 rows are predicted. classes: metrics of 2,048
random answers, and records. tokens: a pass of one sequence, what the server counts it as, and whether it takes it.
tasks: copies of one, loaded; a look at their folder (--watch); a scrape of the metrics, and how long it stops the event
loop.

On a third of a busy core: a million rows took 6 s to read, 45 s to fit, 247 s to encode and 844 MB (1.75 GB in all);
100,000 classes 368 MB and 2 ms a record; 16,000 tokens 57 s, which the server counted as 55 and refuses; with 2,000
tasks the event loop stopped for 0.04 s in a scrape of 1.8 s.
"""

import asyncio
import json
import logging
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from measuring import megabytes, save_task

import metatx
from metatx.cli.scripts import command

Point = dict[str, float]
POINTS = {
    "rows": (1_000, 10_000, 100_000, 1_000_000),
    "classes": (100, 1_000, 10_000, 100_000),
    "tokens": (16, 160, 1_600, 16_000),
    "tasks": (2, 20, 200, 2_000),
}
CATEGORIES = {"work": 9, "school": 16, "married": 7, "job": 15, "role": 6, "origin": 5, "sex": 2, "country": 42}
PIECE = 100_000  # rows that are written at once
SAMPLES = 2048


@contextmanager
def timed(point: Point, name: str) -> Iterator[None]:
    """Add the seconds of a block to a point."""
    started = time.perf_counter()
    yield
    point[f"{name} s"] = time.perf_counter() - started


def write_table(path: Path, rows: int, seed: int) -> None:
    """Write a csv of people: what they earn depends on their years, school and hours."""
    rng = np.random.default_rng(seed)
    for start in range(0, rows, PIECE):
        n = min(PIECE, rows - start)
        frame = pd.DataFrame({"age": rng.integers(17, 91, n), "weight": rng.lognormal(12, 0.5, n).round()})
        for name, kinds in CATEGORIES.items():
            frame[name] = np.array([f"{name} {kind}" for kind in range(kinds)])[rng.zipf(1.5, n) % kinds]
        frame["years"] = rng.integers(1, 17, n)
        frame["gain"] = np.where(rng.random(n) < 0.08, rng.lognormal(8, 1, n), 0).round()
        frame["loss"] = np.where(rng.random(n) < 0.05, rng.integers(100, 4000, n), 0)
        frame["hours"] = rng.normal(40, 12, n).clip(1, 99).round(1)
        score = 0.3 * (frame.years - 10) + 0.04 * (frame.age - 40) + 0.05 * (frame.hours - 40) + rng.logistic(size=n)
        frame["income"] = np.where(score > 1, ">50K", "<=50K")
        frame.to_csv(path, mode="a", header=not start, index=False)


def measure_rows(rows: int, folder: Path, budget: float, seed: int) -> Point:
    """Read, fit, encode, train an epoch by budget, predict."""
    from metatx.data.tables import read_splits

    path = folder / "train.csv"
    write_table(path, rows, seed)
    write_table(folder / "test.csv", 2000, seed + 1)
    point = {"csv MB": path.stat().st_size / 1e6}
    backbone = metatx.load_backbone("nano")
    with above(point):
        with timed(point, "read"):
            table = read_splits(path, ())["all"]
        with timed(point, "fit"):
            task = metatx.Task.from_data(backbone, "tabular", table, target="income")
        with timed(point, "encode"):
            data = task.encode(table, "train")
        point["encoded MB"] = sum(block.bytes for block in data.kept.blocks) / 1e6
        del table, task, data
        settings = metatx.TrainingSettings(epochs=1, batch_size=256, lr=2e-3, cache=False)
        with timed(point, "run"):
            report = metatx.run(
                path,
                "tabular",
                backbone=backbone,
                target="income",
                test=folder / "test.csv",
                settings=settings,
                budget=budget,
                baseline=False,
            )
        point["trained rows"] = report.plan.samples if report.plan else rows
        point["accuracy"] = report.test["accuracy"]
        with timed(point, "predict"):
            report.task.predict(folder / "test.csv")
    return point


def measure_classes(classes: int, folder: Path, budget: float, seed: int) -> Point:
    """Metrics of answers, and records."""
    from metatx.registry import create

    head = create("heads", "classification", 8)
    head.restore({"classes": [f"class {number:06}" for number in range(classes)]})
    generator = torch.Generator().manual_seed(seed)
    point: Point = {}
    with above(point):
        metrics = head.metrics()
        with timed(point, "metrics"):
            for _ in range(0, SAMPLES, 256):
                batch = torch.randn(256, classes, generator=generator)
                scored = head.metric_inputs(batch, torch.randint(0, classes, (256,), generator=generator))
                for metric in metrics.values():
                    metric.update(*scored)
            values = {name: float(metric.compute()) for name, metric in metrics.items()}
        point["auroc"] = values["auroc"]
        with timed(point, "record"):
            records = head.records(batch[:8])
        point["record s"] /= 8
        point["record kB"] = len(json.dumps(records[0])) / 1e3
    return point


def measure_tokens(tokens: int, folder: Path, budget: float, seed: int) -> Point:
    """A pass of one sequence, beside what the server makes of it."""
    from metatx.sequence import TokenSequence
    from metatx.serving.limits import SHORT, Limits
    from metatx.serving.throughput import cost, find_batch_tokens

    backbone = metatx.load_backbone("nano")
    _, rate = find_batch_tokens(backbone)
    sequence = TokenSequence(torch.randn(tokens, backbone.dim), (tokens,))
    point: Point = {}
    with above(point), torch.no_grad(), timed(point, "pass"):
        backbone(sequence)
    point["counted s"] = cost(tokens, backbone.dim) / rate
    point["taken"] = float(tokens <= SHORT or point["counted s"] <= Limits.pass_seconds)
    return point


def measure_tasks(tasks: int, folder: Path, budget: float, seed: int) -> Point:
    """Tasks loaded, looked at, and counted in a scrape."""
    from metatx.pool.pool import TaskPool
    from metatx.serving.catalog import Catalog

    backbone = metatx.load_backbone("nano")
    save_task(backbone, "table", folder)
    for number in range(1, tasks):
        shutil.copytree(folder / "table", folder / f"table{number}", copy_function=os.link)
    point: Point = {}
    with above(point):
        catalog = Catalog(folder, TaskPool(backbone))
        with timed(point, "load"):
            catalog.refresh()
        with timed(point, "look"):
            catalog.refresh()
        asyncio.run(scrape(catalog, point))
    return point


async def scrape(catalog: Any, point: Point) -> None:
    """Ask the application for its metrics after each task was asked twice, and time the event loop meanwhile."""
    import httpx2

    from metatx.serving.application import Service, create_application
    from metatx.serving.engine import Engine
    from metatx.serving.limits import Limits
    from metatx.serving.metrics import Metrics

    metrics = Metrics()
    for name in catalog.served:
        for status in (200, 429):
            metrics.answered([name], "records", status, 0.01)
        metrics.passed([SimpleNamespace(task=name, request=SimpleNamespace(tokens=15))], 0.01)
    service = Service(Engine(catalog.pool, Limits(), metrics, batch_tokens=1024, rate=1e4), catalog)
    service.loaded = True
    stopped = 0.0
    running = True

    async def tick() -> None:
        nonlocal stopped
        while running:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            stopped = max(stopped, time.perf_counter() - before - 0.001)

    application = httpx2.ASGITransport(app=create_application(service))
    async with httpx2.AsyncClient(transport=application, base_url="http://server") as client:
        await client.get("/metrics")
        ticking = asyncio.create_task(tick())
        await asyncio.sleep(0.05)
        stopped = 0.0
        with timed(point, "scrape"):
            response = await client.get("/metrics")
        running = False
        await ticking
    point["loop stopped s"] = stopped
    point["scrape MB"] = len(response.content) / 1e6
    service.engine.close()


MEASURES: dict[str, Callable[[int, Path, float, int], Point]] = {
    "rows": measure_rows,
    "classes": measure_classes,
    "tokens": measure_tokens,
    "tasks": measure_tasks,
}


@contextmanager
def above(point: Point) -> Iterator[None]:
    """Add the most memory that a block held above what was held before it."""
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
    before = megabytes()
    yield
    point["MB"] = max(0.0, megabytes("VmHWM") - before)  # pages may have been given back meanwhile
    point["MB in all"] = megabytes("VmHWM")


def work(direction: str, size: int, budget: float, seed: int) -> Point:
    """Measure a point."""
    torch.set_num_threads(1)
    logging.disable()
    with tempfile.TemporaryDirectory() as folder:
        return MEASURES[direction](size, Path(folder), budget, seed)


def draw(measured: dict[str, dict[str, Point]], path: Path) -> None:
    """Draw seconds, and memory on a second axis, of each direction."""
    figure = Figure(figsize=(12, 8), layout="constrained")
    for axes, (direction, points) in zip(figure.subplots(2, 2).flat, measured.items(), strict=False):
        sizes = [int(size) for size in points]
        for name in next(iter(points.values())):
            if name.endswith(" s"):
                axes.plot(sizes, [point[name] for point in points.values()], marker="o", label=name[:-2])
        axes.set(xscale="log", yscale="log", xlabel=direction, ylabel="seconds", title=direction)
        axes.grid(alpha=0.3)
        memory = axes.twinx()
        memory.plot(sizes, [point["MB"] for point in points.values()], "k--", marker="s", label="memory")
        memory.set(yscale="log", ylabel="MB", ylim=(0.1, 10_000))  # the same in all panels
        lines = [*axes.get_lines(), *memory.get_lines()]
        axes.legend(
            lines,
            [line.get_label() for line in lines],
            loc="upper center",
            bbox_to_anchor=(0.5, -0.14),
            ncols=6,
            fontsize=8,
        )
    figure.savefig(path, dpi=120)


def main(
    *,
    out: Path = Path("scaling"),
    directions: Sequence[str] = tuple(POINTS),
    smaller: int = 1,
    budget: float = 20.0,
    seed: int = 0,
) -> dict[str, dict[str, Point]]:
    """Measure what is not in the folder yet, print all as tables, and draw it.

    Args:
        out: Folder of the figures and the picture.
        directions: Directions that are measured.
        smaller: Factor by which all sizes are smaller.
        budget: Seconds of training, from which the epoch of rows is planned.
        seed: Seed of the data.
    """
    out.mkdir(parents=True, exist_ok=True)
    file = out / "scaling.json"
    measured: dict[str, dict[str, Point]] = json.loads(file.read_text()) if file.exists() else {}
    context = multiprocessing.get_context("spawn")
    for direction in directions:
        points = measured.setdefault(direction, {})
        for size in (max(2, size // smaller) for size in POINTS[direction]):
            if str(size) in points:
                continue
            with ProcessPoolExecutor(1, context) as process:
                points[str(size)] = process.submit(work, direction, size, budget, seed).result()
            file.write_text(json.dumps(measured, indent=2))
    for direction, points in measured.items():
        names = list(next(iter(points.values())))
        print(f"{direction:>10}" + "".join(f"{name:>15}" for name in names))
        for size, point in points.items():
            print(f"{int(size):>10,}" + "".join(f"{point[name]:>15.4g}" for name in names))
    draw(measured, out / "scaling.png")
    return measured


if __name__ == "__main__":
    command(main)
