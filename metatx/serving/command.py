"""``metatx serve``: the command that runs the server."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from metatx.backbone.names import Precision
from metatx.process import keep_memory
from metatx.progress import tell

if TYPE_CHECKING:
    from metatx.serving.application import Service
    from metatx.serving.catalog import Catalog

__all__ = ["build_service", "load_tasks", "serve"]

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
    processes: int = 1,
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
        processes: Number of processes that answer on the port, on Linux and CPUs: they share the backbone and the tasks
            in memory, and divide the cores unless OMP_NUM_THREADS is set. Limits and bounds hold in each.
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
    if processes < 1:
        raise ValueError(f"--processes is {processes}; it must be at least 1.")
    load = partial(
        load_tasks,
        Path(tasks).absolute(),
        backbone=backbone,
        checkpoint=None if checkpoint is None else str(Path(checkpoint).absolute()),
        others=checkpoints(others),
        precision=precision,
        device=device,
        memory_mb=memory_mb,
        plugin=None if plugin is None else str(Path(plugin).absolute()),
    )
    build = partial(
        build_service,
        index=index or (),
        token=token,
        admin=admin,
        watch=watch,
        workers=workers,
        batch_tokens=batch_tokens,
        queue_seconds=queue_seconds,
        body_mb=body_mb,
        timeout=timeout,
        pass_seconds=pass_seconds,
        plugin=load.keywords["plugin"],
    )
    if admin and (ray or processes > 1):
        kind = "replica" if ray else "process"
        raise ValueError(f"--admin would change one {kind} only; use --watch instead, and change the folder of tasks.")
    if ray:
        if processes > 1:
            raise ValueError("--processes is for a server without Ray; on Ray give --replicas.")
        try:
            from metatx.serving.on_ray import run
        except ImportError as error:
            raise ImportError(f"{NO_RAY} ({error})") from error
        run(partial(_loaded, load, build), replicas, replica_cpus, host, port)
        return
    if replicas != 1:
        raise ValueError(f"--replicas {replicas} needs Ray; add --ray.")
    try:
        from metatx.serving.listening import Server
        from metatx.serving.processes import serve_in_processes
    except ImportError as error:
        raise ImportError(f"{MISSING} ({error})") from error
    if processes > 1:
        serve_in_processes(load, build, processes, host, port, proxy)
    else:
        Server(_loaded(load, build), host, port, proxy).run()


def _loaded(load: "Callable[[], Catalog]", build: "Callable[[Catalog], Service]") -> "Service":
    return build(load())


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


def load_tasks(
    tasks: Path,
    *,
    backbone: str | None,
    checkpoint: str | None,
    others: Mapping[str, str],
    precision: Precision,
    device: str = "auto",
    memory_mb: float | None,
    plugin: str | None,
) -> "Catalog":
    """Load a backbone into a pool, from the options of ``serve``; no task is loaded yet, and no thread is started."""
    try:
        from metatx.serving.catalog import Catalog, common_backbone, common_others
    except ImportError as error:
        raise ImportError(f"{MISSING} ({error})") from error
    from metatx.backbone.devices import device_of, tell_device
    from metatx.backbone.loading import load_backbone
    from metatx.inputs.through import with_checkpoints
    from metatx.pool.pool import TaskPool
    from metatx.registry import load_plugin

    place = tell_device(device_of(device))
    keep_memory()
    if plugin is not None:
        load_plugin(plugin)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    spec, pretrained = (backbone, True) if backbone else common_backbone(tasks)
    loaded = load_backbone(spec, checkpoint=checkpoint, pretrained=pretrained, device=place)
    given = common_others(tasks, with_checkpoints(others))
    return Catalog(tasks, TaskPool(loaded, others=given, memory_mb=memory_mb, precision=precision))


def build_service(
    catalog: "Catalog",
    *,
    index: Sequence[str] = (),
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
    """Build the server of a catalog's tasks, from the options of ``serve``."""
    try:
        import python_multipart  # noqa: F401  (fastapi asks for it when the first form comes)

        from metatx.serving.application import Service
        from metatx.serving.metrics import Metrics
    except ImportError as error:
        raise ImportError(f"{MISSING} ({error})") from error
    from metatx.serving.engine import Engine
    from metatx.serving.indexes import Indexes, named_folders
    from metatx.serving.limits import Limits
    from metatx.serving.readers import Readers
    from metatx.serving.throughput import find_batch_tokens

    pool = catalog.pool
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
