"""Server on Ray Serve: replicas of engine and application, on one machine or on many."""

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
ONGOING = 256  # requests in a replica at once; with Ray's default of 5 no pass would hold more than 5
QUEUED = 256  # requests that wait at a proxy while all replicas are full; beyond it the answer is 429
RETRY = 1  # seconds after which a client may try again
QUIET = {"log_level": "WARNING", "enable_access_log": False}  # logging of Ray's own parts
MIDDLEWARES = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"  # names the function that gives Ray's proxy its middleware
LOST = "The replica that had the request stopped before it answered; send it again."


class Replica:
    """A whole server in a process of Ray: backbone, pool, scheduler, application.

    Ray's own batching and multiplexing are not used: they batch only requests of one model, where our scheduler mixes
    tasks in a pass.

    Args:
        build: Function that builds the server; called in the process of the replica.
    """

    def __init__(self, build: "Callable[[], Service]") -> None:
        self.service = build()
        self.service.catalog.refresh()  # at once, for Ray sends requests as soon as the replica is there
        self.service.loaded = True
        freeze_gc()

    def __serve_build_asgi_app__(self) -> "FastAPI":
        """Build the application; ``serve.ingress`` calls this."""
        from metatx.serving.application import create_application

        return create_application(self.service)

    def check_health(self) -> None:
        """Raise RuntimeError if the replica cannot answer any more; Ray then replaces it."""
        if not self.service.ready:
            raise RuntimeError("The thread that owns the model has ended.")


class Answered:
    """Middleware of Ray's proxy: answers 503 with a reason where a replica died, in place of Ray's empty 500.

    It concerns requests that the replica had and did not answer; Ray gives all others to another replica.
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
    """Return the middleware of Ray's proxies."""
    return [Middleware(Answered)]


def deployment(replicas: int, cpus: int, timeout: float) -> Any:
    """Make the deployment of Ray Serve, to be bound to the function that builds the server.

    Args:
        replicas: Number of processes, each with a server.
        cpus: Cores of each process.
        timeout: Seconds that a replica has to answer the requests it accepted, when it is to stop.
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
    """Serve until a signal comes; then answer the accepted requests, and return.

    Args:
        build: Function that builds a server; called in each replica.
        replicas: Number of replicas.
        cpus: Cores of each replica.
        host: Address to listen on.
        port: Port to listen on.

    Raises:
        ValueError: If the options of ``build`` are wrong, or the replicas do not start.
    """
    trial = build()  # built here first, so that a wrong option is reported in one line before anything starts
    trial.engine.close()
    timeout = trial.engine.limits.wait
    del trial
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray sends no usage data unless the user asks for it
    environment = {"env_vars": {MIDDLEWARES: f"{__name__}.{middlewares.__name__}"}}  # for the proxies
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
    except Exception as error:  # Ray raises a bare Exception when a node is late
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise ValueError(f"Ray could not start the server: {reason}") from error
    finally:
        ray.shutdown()
