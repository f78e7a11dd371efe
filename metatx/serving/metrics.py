"""What Prometheus reads: requests, latencies, passes, the queue, tasks."""

from collections.abc import Callable, Sequence
from typing import Any

from metatx.serving.scheduler import Job

__all__ = ["Metrics"]

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
TOKENS = (16, 64, 256, 1024, 4096, 16_384, 65_536)


class Metrics:
    """Counters of one server; labels name tasks that are served, so that strangers cannot add any."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Histogram

        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("metatx_requests", "Requests by answer.", ["task", "answer", "status"], **own)
        self.latency = Histogram("metatx_seconds", "Until the answer.", ["task"], buckets=SECONDS, **own)
        self.inputs = Counter("metatx_inputs", "Inputs that went through the backbone.", ["task"], **own)
        self.tokens = Counter("metatx_tokens", "Tokens that went through the backbone.", ["task"], **own)
        self.repeated = Counter("metatx_passes_repeated", "Passes that failed, and were repeated one by one.", **own)
        self.pass_seconds = Histogram("metatx_pass_seconds", "Of a pass.", buckets=SECONDS, **own)
        self.pass_inputs = Histogram("metatx_pass_inputs", "In a pass.", buckets=COUNTS, **own)
        self.pass_tasks = Histogram("metatx_pass_tasks", "Tasks in a pass.", buckets=COUNTS, **own)
        self.pass_tokens = Histogram("metatx_pass_tokens", "In a pass.", buckets=TOKENS, **own)
        self.killed = Counter("metatx_readers_killed", "Processes that read a file and were ended.", ["reason"], **own)

    def watch(self, name: str, about: str, value: Callable[[], float]) -> None:
        """A gauge that is read when Prometheus asks."""
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
        """All of it, as Prometheus reads it."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)
