"""``metatx serve``: the command that runs the server."""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metatx.backbone.names import Precision
from metatx.process import keep_memory
from metatx.progress import tell

if TYPE_CHECKING:
    from metatx.serving.application import Service

__all__ = ["serve"]

GRACE = 0.5  # seconds between a signal and the end, in which new requests are told that the server stops
BACKLOG = 128  # connections that wait to be accepted
TOKEN = "METATX_TOKEN"  # environment variable
MISSING = (
    "metatx serve needs fastapi, uvicorn, httptools, orjson, prometheus-client and python-multipart: "
    "pip install 'metatx[serve]'"
)
NO_RAY = "metatx serve --ray needs Ray Serve: pip install 'metatx[ray]'"


def serve(
    tasks: str,
    *,
    index: list[str] | None = None,
    backbone: str | None = None,
    checkpoint: str | None = None,
    others: str | None = None,
    precision: Precision = "fp32",
    device: str = "auto",
    host: str = "127.0.0.1",
    port: int = 8000,
    memory_mb: float | None = None,
    token: str | None = None,
    admin: bool = False,
    watch: bool = False,
    workers: int = 2,
    batch_tokens: int | None = None,
    queue_seconds: float = 10.0,
    body_mb: float = 64.0,
    timeout: float = 30.0,
    pass_seconds: float = 2.0,
    proxy: str | None = None,
    ray: bool = False,
    replicas: int = 1,
    replica_cpus: int = 1,
    plugin: str | None = None,
) -> None:
    """Serve every task of a folder over HTTP, on one backbone; a page at / shows them.

    Args:
        tasks: Folder with one subfolder a task. NAME@VERSION is a version; a symbolic link NAME to it is its alias.
        index: Index to search, as NAME=FOLDER; once for each.
        backbone: Name of the backbone, see "metatx list backbones"; by default the one that all the tasks name, nano
            where they differ.
        checkpoint: File with the backbone's weights.
        others: Files with the weights of the backbones that read inputs first: NAME=FILE, several with commas.
        precision: Number format of the backbone: fp32; bf16, about twice as fast where the CPU or GPU multiplies in it,
            with answers that differ a little, see "metatx evaluate --precision"; int8, faster for large backbones and
            less exact; auto, which is bf16 where the hardware has it, else fp32.
        device: Device that computes: auto, which is a GPU where torch finds one, else the CPU; cpu, cuda, cuda:N, mps.
        host: Address to listen on; 0.0.0.0 for all.
        port: Port to listen on.
        memory_mb: Megabytes for the weights of tasks, beyond which the least recently used tasks are dropped.
        token: Token that requests must bear; better given in the environment variable METATX_TOKEN.
        admin: Let tasks be loaded and removed over HTTP; only with a token.
        watch: Load tasks that appear in the folder, reload those that change, drop those that are removed.
        workers: Number of threads that read files, and of as many that read JSON.
        batch_tokens: Tokens of a pass through the backbone; by default measured at the start.
        queue_seconds: Seconds of work that may wait; beyond it, requests are told to come back later.
        body_mb: Largest request, in megabytes.
        timeout: Seconds after which a request that is not answered fails.
        pass_seconds: Seconds that one sample may occupy the model, for others wait meanwhile; longer ones are refused.
        proxy: Addresses of trusted reverse proxies, separated by commas: their X-Forwarded-For header tells the
            client's address. Without it, all requests through a proxy count as those of one client.
        ray: Serve on Ray: on the cluster that RAY_ADDRESS names, or on one that is started on this machine.
        replicas: Number of servers among which Ray divides the requests, each with a backbone of its own.
        replica_cpus: Cores of a replica, on Ray.
        plugin: Python file with tokenizers and heads of your own.
    """
    from metatx.inputs.through import checkpoints

    token = _token(token, host)
    build = partial(
        build_service,
        Path(tasks).absolute(),
        index=index or (),
        backbone=backbone,
        checkpoint=None if checkpoint is None else str(Path(checkpoint).absolute()),
        others=checkpoints(others),
        precision=precision,
        device=device,
        memory_mb=memory_mb,
        token=token,
        admin=admin,
        watch=watch,
        workers=workers,
        batch_tokens=batch_tokens,
        queue_seconds=queue_seconds,
        body_mb=body_mb,
        timeout=timeout,
        pass_seconds=pass_seconds,
        plugin=None if plugin is None else str(Path(plugin).absolute()),
    )
    if ray:
        if admin:
            raise ValueError(
                "--admin would change one replica only; use --watch on Ray, and change the folder of tasks."
            )
        try:
            from metatx.serving.on_ray import run
        except ImportError as error:
            raise ImportError(f"{NO_RAY} ({error})") from error
        run(build, replicas, replica_cpus, host, port)
    elif replicas != 1:
        raise ValueError(f"--replicas {replicas} needs Ray; add --ray.")
    else:
        try:
            import httptools  # noqa: F401  (Ray has a server of its own)
        except ImportError as error:
            raise ImportError(f"{MISSING} ({error})") from error
        service = build()
        from metatx.serving.application import create_application

        _run(service, create_application(service), host, port, proxy)


def _token(given: str | None, host: str) -> str | None:
    """Return the token that requests must bear, from the option or the environment. Raises ValueError for a bad one."""
    token = os.environ.get(TOKEN) if given is None else given
    if token is None:
        with suppress(ValueError):
            if host == "localhost" or ip_address(host).is_loopback:
                return None
        tell(f"Whoever reaches {host} can use every task: set {TOKEN} to a secret that requests must bear.")
    elif not token or any(sign.isspace() or not sign.isprintable() for sign in token):
        fault = "has white space or control characters in it" if token.strip() else "is empty"
        raise ValueError(
            f"The token {fault}; choose one of printable characters, or, for none, unset {TOKEN} and leave out --token."
        )
    return token


def build_service(
    tasks: Path,
    *,
    index: Sequence[str] = (),
    backbone: str | None,
    checkpoint: str | None,
    others: Mapping[str, str],
    precision: Precision,
    device: str = "auto",
    memory_mb: float | None,
    token: str | None,
    admin: bool,
    watch: bool,
    workers: int,
    batch_tokens: int | None,
    queue_seconds: float,
    body_mb: float,
    timeout: float,
    pass_seconds: float,
    plugin: str | None,
) -> "Service":
    """Build a server, with a backbone of its own, from the options of ``serve``; its tasks are not loaded yet."""
    try:
        import python_multipart  # noqa: F401  (fastapi asks for it when the first form comes)

        from metatx.serving.application import Service
        from metatx.serving.metrics import Metrics
    except ImportError as error:
        raise ImportError(f"{MISSING} ({error})") from error
    from metatx.backbone.devices import device_of, tell_device
    from metatx.backbone.loading import load_backbone
    from metatx.inputs.through import with_checkpoints
    from metatx.pool.pool import TaskPool
    from metatx.registry import load_plugin
    from metatx.serving.catalog import Catalog, common_backbone, common_others
    from metatx.serving.engine import Engine
    from metatx.serving.indexes import Indexes, named_folders
    from metatx.serving.limits import Limits
    from metatx.serving.readers import Readers
    from metatx.serving.throughput import find_batch_tokens

    place = tell_device(device_of(device))
    keep_memory()
    if plugin is not None:
        load_plugin(plugin)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    spec, pretrained = (backbone, True) if backbone else common_backbone(tasks)
    loaded = load_backbone(spec, checkpoint=checkpoint, pretrained=pretrained, device=place)
    given = common_others(tasks, with_checkpoints(others))
    pool = TaskPool(loaded, others=given, memory_mb=memory_mb, precision=precision)
    catalog = Catalog(tasks, pool)
    measured, rate = find_batch_tokens(pool.backbone)
    budget = batch_tokens or measured
    limits = Limits(body_mb=body_mb, wait=timeout, pass_seconds=pass_seconds)
    metrics = Metrics()
    engine = Engine(
        pool,
        limits,
        metrics,
        batch_tokens=budget,
        rate=rate,
        queue_seconds=queue_seconds,
        workers=workers,
        readers=Readers(limits, metrics, plugin),
    )
    indexes = Indexes(pool, named_folders(index))
    service = Service(engine, catalog, indexes=indexes, token=token, admin=admin, watch=2.0 if watch else None)
    logging.getLogger("metatx.serving").info("%.0f tokens a second, %d in a pass", rate, budget)
    return service


def _run(service: "Service", application: Any, host: str, port: int, proxy: str | None) -> None:
    """Serve until a signal comes; then refuse new requests, and return when all others are answered."""
    import uvicorn

    from metatx.pool.memory import freeze_gc
    from metatx.serving.protocol import BoundedProtocol, Connections, room_for_connections

    class Server(uvicorn.Server):
        stopping: float | None = None
        settled = False

        def handle_exit(self, sig: int, frame: Any) -> None:
            """Drain at the first signal, stop at once at the second."""
            if service.draining:
                super().handle_exit(sig, frame)
            service.draining = True
            self.stopping = time.monotonic()

        async def on_tick(self, counter: int) -> bool:
            if service.loaded and not self.settled:
                self.settled = True
                freeze_gc()
            done = self.stopping is not None and time.monotonic() - self.stopping > GRACE and not service.active
            return await super().on_tick(counter) or done

    most = room_for_connections()
    room = Connections(most, share=most) if proxy else Connections(most)  # a proxy holds those of all its clients
    config = uvicorn.Config(
        application,
        host=host,
        port=port,
        http=partial(BoundedProtocol, room=room),  # type: ignore[arg-type]  # uvicorn only calls it
        ws="none",
        backlog=min(BACKLOG, most),
        proxy_headers=proxy is not None,  # otherwise a client on this machine could claim any address
        forwarded_allow_ips=proxy,
        server_header=False,
        timeout_graceful_shutdown=round(service.engine.limits.wait) + 1,
        log_config=None,
        access_log=False,
    )
    Server(config).run()
