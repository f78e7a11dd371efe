"""The server on Ray Serve: replicas of engine and application, on one machine or on many."""

import logging
import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ray
from ray import serve
from ray.serve.config import BackpressureConfig
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from metatx.pool.memory import freeze_gc

if TYPE_CHECKING:
    from fastapi import FastAPI

    from metatx.serving.application import Service

__all__ = ["Replica", "deployment", "middlewares", "run"]

NAME = "metatx"
ONGOING = 256  # requests in a replica at once; by default 5, and no pass would hold more
QUEUED = 256  # requests that wait at a proxy while every replica has that many; beyond it 429
RETRY = 1  # seconds
QUIET = {"log_level": "WARNING", "enable_access_log": False}  # of Ray's own parts
MIDDLEWARES = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"  # Ray's proxy calls what it names
LOST = "The replica that had the request stopped before it answered; send it again."


class Replica:
    """A whole server in a process of Ray: backbone, pool, batch former, application.

    Ray's own batching and multiplexing are left alone: they batch the requests of one model only, where our batch
    former mixes tasks in a pass.

    Args:
        build: Gives the server; called in the replica's process.
    """

    def __init__(self, build: "Callable[[], Service]") -> None:
        self.service = build()
        self.service.catalog.refresh()  # now, for Ray sends requests as soon as the replica is there
        self.service.loaded = True
        freeze_gc()

    def __serve_build_asgi_app__(self) -> "FastAPI":
        """The application, as ``serve.ingress`` asks for it."""
        from metatx.serving.application import create_application

        return create_application(self.service)

    def check_health(self) -> None:
        """Asked by Ray, which replaces a replica that raises RuntimeError."""
        if not self.service.ready:
            raise RuntimeError("The thread that owns the model has ended.")


class Answered:
    """In Ray's proxy: what a replica left unanswered when it died gets a 503 that says so, not an empty 500.

    Requests that had not reached the replica yet are not concerned: Ray gives them to another one.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        await self.app(scope, receive, sending)
        if scope["type"] == "http" and not begun:
            await JSONResponse({"detail": LOST}, 503, headers={"Retry-After": str(RETRY)})(scope, receive, send)


def middlewares() -> list[Middleware]:
    """What Ray's proxies put before every request."""
    return [Middleware(Answered)]


def deployment(replicas: int, cpus: int, timeout: float) -> Any:
    """The server as a deployment of Ray Serve, to be bound to the function that builds it.

    Args:
        replicas: Processes with a server each.
        cpus: Cores of each.
        timeout: Seconds that a replica has to answer what it accepted when it is to stop.
    """
    return serve.deployment(
        serve.ingress()(Replica),
        name=NAME,
        num_replicas=replicas,
        ray_actor_options={"num_cpus": cpus},
        max_ongoing_requests=ONGOING,
        max_queued_requests=QUEUED,
        backpressure_config=BackpressureConfig(status_code=429, retry_after_s=RETRY),
        graceful_shutdown_timeout_s=timeout,
        logging_config=QUIET,
    )


def run(build: "Callable[[], Service]", replicas: int, cpus: int, host: str, port: int) -> None:
    """Serve until told to stop; then answer what was accepted, and leave.

    Raises:
        ValueError: If the options of ``build`` are wrong, or the replicas do not start.
    """
    trial = build()  # here first, so that a wrong option is one line before anything starts
    trial.engine.close()
    timeout = trial.engine.limits.wait
    del trial
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere unless somebody asks for it
    environment = {"env_vars": {MIDDLEWARES: f"{__name__}.{middlewares.__name__}"}}  # of the proxies too
    try:
        ray.init(include_dashboard=False, logging_level=logging.WARNING)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        serve.start(
            http_options={"host": host, "port": port},
            logging_config=QUIET,
            controller_options={"runtime_env": environment},
        )
        try:
            serve.run(deployment(replicas, cpus, timeout).bind(build), name=NAME, blocking=True)
        finally:
            serve.delete(NAME)  # waits until the replicas have answered
    except KeyboardInterrupt:
        pass
    except Exception as error:  # a bare one is what Ray raises when a node is late
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise ValueError(f"Ray could not start the server: {reason}") from error
    finally:
        ray.shutdown()
