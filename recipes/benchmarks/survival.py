"""Does the server survive? Minutes of four times the load it can take, then thousands of bad requests.

    python recipes/benchmarks/survival.py --minutes 5 --bad 10000    # nano, a quarter of an hour on two cores; Linux

Overload: requests come at four times the rate that the server reached with as many clients as it liked, whether it
answers or not. Each answer is compared with that of the task in this process, to 1e-4; what is refused must be a 429.
Bad requests: schemathesis makes them from the server's own OpenAPI document, hypothesis the bytes of files. None may
get a 5xx or no answer in ten seconds. Memory is that of the server's process.
"""

import asyncio
import io
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import hypothesis
import numpy as np
import pandas as pd
import schemathesis
from hypothesis import strategies as st
from measuring import ADDRESS, PORT, save_task, server
from PIL import Image
from serving import exchange, message

import metatx
from metatx.cli.scripts import command

ROWS = 20  # of a request
TIMES = 4  # as many requests as the server can answer
WAITING = 2000  # requests under way at most; more would need more open files than a process may have
IDLE = 4  # seconds; the server closes connections that are idle for five
FILES = ("a.png", "a.jpg", "a.webp", "a.tiff", "a", "../a.png", "a.exe", "a.png\0.txt")


def main(*, minutes: float = 5.0, bad: int = 10_000, warm: float = 10.0) -> None:
    """Print what came back, and the server's memory on the way.

    Args:
        minutes: Length of the overload, in minutes.
        bad: Requests that cannot be answered.
        warm: Seconds in which the rate that the server can take is measured.
    """
    backbone = metatx.load_backbone("nano")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        save_task(backbone, "image", folder)
        row = save_task(backbone, "table", folder)
        task = metatx.Task.from_pretrained(folder / "table", backbone).set_inference(precision="fp32")
        rng = np.random.default_rng(0)
        rows = [dict(zip(row, rng.normal(size=len(row)).tolist(), strict=True)) for _ in range(500)]
        expected = [record["p(yes)"] for record in task.records(pd.DataFrame(rows))]
        with server(folder) as memory:
            asyncio.run(Load(rows, expected, memory).run(warm, 60 * minutes))
            before = memory()
            print(f"{bad:,} generated requests: {answers_to(bad)}; memory {before:.0f} MB before, {memory():.0f} after")


class Load:
    """Requests of ``ROWS`` rows each, compared with the answers expected."""

    def __init__(self, rows: list[dict[str, float]], expected: list[float], memory: Callable[[], float]) -> None:
        self.rows, self.expected, self.memory = rows, expected, memory
        self.found: Counter[str] = Counter()
        self.idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter, float]] = []  # and since when

    async def run(self, warm: float, seconds: float) -> None:
        """Measure what the server can take, then send more."""
        ends = time.perf_counter() + warm
        await asyncio.gather(*(self._closed(ends) for _ in range(32)))
        rate = self.found["right"] / warm
        print(f"with 32 clients: {rate:.1f} requests of {ROWS} rows a second; {dict(self.found)}", flush=True)
        self.found.clear()
        waiting: set[asyncio.Task[None]] = set()
        levels = [self.memory()]
        sent = 0
        started = time.perf_counter()
        while (passed := time.perf_counter() - started) < seconds:
            while sent < TIMES * rate * passed:
                sent += 1
                if len(waiting) < WAITING:
                    one = asyncio.create_task(self._one())
                    waiting.add(one)
                    one.add_done_callback(waiting.discard)
                else:
                    self.found["not sent, too many under way"] += 1
            if passed > 60 * len(levels):
                levels.append(self.memory())
            await asyncio.sleep(0.005)
        await asyncio.gather(*waiting)
        shown = ", ".join(f"{level:.0f}" for level in [*levels, self.memory()])
        print(f"{seconds:g} s at {TIMES} times that: {dict(self.found)}; memory by the minute {shown} MB", flush=True)

    async def _closed(self, ends: float) -> None:
        while time.perf_counter() < ends:
            await self._one()

    async def _one(self) -> None:
        """Send one request, on a connection that nobody uses: the latest, or a new one if it may be closed soon."""
        start = random.randrange(len(self.rows) - ROWS)
        body = json.dumps({"inputs": self.rows[start : start + ROWS]}).encode()
        try:
            async with asyncio.timeout(60):
                connection = await self._connection()
                status, content = await exchange(connection, message("POST", "/v1/tasks/table/predict", body))
        except (OSError, EOFError, TimeoutError) as error:
            self.found[type(error).__name__] += 1
            return
        self.idle.append((*connection, time.perf_counter()))
        code = str(status)
        if status == 200:
            answers = [one["p(yes)"] for one in json.loads(content)["answers"]]
            right = np.allclose(answers, self.expected[start : start + ROWS], rtol=0, atol=1e-4)
            code = "right" if right else "wrong"
        self.found[code] += 1

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.idle and time.perf_counter() - self.idle[-1][2] < IDLE:
            return self.idle.pop()[:2]
        while self.idle:
            self.idle.pop()[1].close()
        return await asyncio.open_connection("127.0.0.1", PORT)


def answers_to(count: int) -> dict[int, int]:
    """Statuses of so many generated requests over all endpoints, at least a tenth of them files."""
    document = httpx2.get(f"{ADDRESS}/openapi.json").json()
    operations = [found.ok() for found in schemathesis.openapi.from_dict(document).get_all_operations()]
    statuses: Counter[int] = Counter()
    share = count * 9 // 10 // len(operations)
    modes = [schemathesis.GenerationMode.NEGATIVE, schemathesis.GenerationMode.POSITIVE]
    for operation in operations:
        cases = st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in modes))
        asked(cases, lambda case: case.call(base_url=ADDRESS, timeout=10).status_code, share, statuses)
    picture = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(picture, "PNG")
    whole = picture.getvalue()
    content = st.binary(max_size=4096) | st.integers(0, len(whole)).map(lambda end: whole[:end])
    url = f"{ADDRESS}/v1/tasks/image/predict"

    def send(file: tuple[str, bytes]) -> int:
        return httpx2.post(url, files={"file": file}, timeout=10).status_code

    asked(st.tuples(st.sampled_from(FILES), content), send, count - statuses.total(), statuses)
    return dict(sorted(statuses.items()))


def asked(cases: Any, send: Callable[[Any], int], count: int, statuses: Counter[int]) -> None:
    """Send so many generated requests. Raises AssertionError, with the request, for a 5xx."""

    @hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.seed(0)
    @hypothesis.given(cases)
    def every(case: Any) -> None:
        code = send(case)
        statuses[code] += 1
        assert code < 500, f"{code} to {case!r}"

    every()


if __name__ == "__main__":
    command(main)
