"""Metrics for Prometheus: requests, latencies, passes, the queue, tasks."""

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

from metatx.serving.scheduler import Job

__all__ = ["TOGETHER", "Metrics"]

TOGETHER = "PROMETHEUS_MULTIPROC_DIR"  # environment variable: the folder in which processes count together

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
TOKENS = (16, 64, 256, 1024, 4096, 16_384, 65_536)


class Metrics:
    """Counters of one server. Labels name only tasks that are served, so that clients cannot add any.

    Where the environment variable ``TOGETHER`` names a folder, all processes count in its files, and each tells the
    counts of all: prometheus_client's multiprocess mode, which it chooses when it is imported.
    """

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Histogram

        self.registry = CollectorRegistry()
        self._gauges: list[tuple[Any, Callable[[], float]]] = []  # that ``refresh`` sets
        into: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("metatx_requests", "Requests, by status.", ["task", "answer", "status"], **into)
        self.latency = Histogram("metatx_seconds", "Seconds of a request.", ["task"], buckets=SECONDS, **into)
        self.inputs = Counter("metatx_inputs", "Inputs that went through the backbone.", ["task"], **into)
        self.tokens = Counter("metatx_tokens", "Tokens that went through the backbone.", ["task"], **into)
        self.repeated = Counter("metatx_passes_repeated", "Failed passes, repeated one input at a time.", **into)
        self.pass_seconds = Histogram("metatx_pass_seconds", "Seconds of a pass.", buckets=SECONDS, **into)
        self.pass_inputs = Histogram("metatx_pass_inputs", "Inputs of a pass.", buckets=COUNTS, **into)
        self.pass_tasks = Histogram("metatx_pass_tasks", "Tasks of a pass.", buckets=COUNTS, **into)
        self.pass_tokens = Histogram("metatx_pass_tokens", "Tokens of a pass.", buckets=TOKENS, **into)
        self.killed = Counter("metatx_readers_killed", "Processes that ended while they read.", ["reason"], **into)

    def watch(
        self, name: str, about: str, value: Callable[[], float], over: Literal["livesum", "livemax"] = "livesum"
    ) -> None:
        """Add a gauge, whose value is read when Prometheus asks, or once a second where processes count together.

        Args:
            name: Name of the gauge.
            about: Description.
            value: Function that gives the value.
            over: Value of several processes: their sum, or the largest.
        """
        from prometheus_client import Gauge

        gauge = Gauge(name, about, registry=self.registry, multiprocess_mode=over)
        if TOGETHER in os.environ:
            self._gauges.append((gauge, value))
        else:
            gauge.set_function(value)

    def refresh(self) -> None:
        """Write the values of gauges where the other processes read them."""
        for gauge, value in self._gauges:
            gauge.set(value())

    def passed(self, jobs: Sequence[Job[Any]], seconds: float) -> None:
        """Count a pass."""
        for job in jobs:
            self.inputs.labels(job.task).inc()
            self.tokens.labels(job.task).inc(job.request.tokens)
        self.pass_seconds.observe(seconds)
        self.pass_inputs.observe(len(jobs))
        self.pass_tasks.observe(len({job.task for job in jobs}))
        self.pass_tokens.observe(sum(job.request.tokens for job in jobs))

    def answered(self, tasks: Sequence[str], answer: str, status: int, seconds: float) -> None:
        """Count a request, once for each task in it."""
        for task in dict.fromkeys(tasks):
            self.requests.labels(task, answer, status).inc()
            if status == 200:
                self.latency.labels(task).observe(seconds)

    def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        if TOGETHER not in os.environ:
            return generate_latest(self.registry)
        self.refresh()
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
