"""Metrics for Prometheus: requests, latencies, passes, the queue, tasks."""

from collections.abc import Callable, Sequence
from typing import Any

from metatx.serving.scheduler import Job

__all__ = ["Metrics"]

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
TOKENS = (16, 64, 256, 1024, 4096, 16_384, 65_536)


class Metrics:
    """Counters of one server. Labels name only tasks that are served, so that clients cannot add any."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Histogram

        self.registry = CollectorRegistry()
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

    def watch(self, name: str, about: str, value: Callable[[], float]) -> None:
        """Add a gauge whose value is read when Prometheus asks."""
        from prometheus_client import Gauge

        Gauge(name, about, registry=self.registry).set_function(value)

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
        from prometheus_client import generate_latest

        return generate_latest(self.registry)
