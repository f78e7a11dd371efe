"""Server of one process: it listens until a signal comes, and then answers what it has accepted."""

import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import uvicorn

from metatx.pool.memory import freeze_gc
from metatx.serving.application import create_application
from metatx.serving.protocol import BoundedProtocol, Connections, room_for_connections
from metatx.serving.service import Service

__all__ = ["Member", "Server"]

GRACE = 0.5  # seconds between a signal and the end, in which new requests are told that the server stops
BACKLOG = 128  # connections that wait to be accepted
TICKS = 10  # ticks a second


class Server(uvicorn.Server):
    """Server of an application over HTTP.

    At the first signal new requests are refused, and it ends when all others are answered; at the second at once.

    Args:
        service: State that the endpoints share.
        host: Address to listen on.
        port: Port to listen on.
        proxy: Addresses of trusted reverse proxies, separated by commas; None: none.
    """

    def __init__(self, service: Service, host: str, port: int, proxy: str | None) -> None:
        most = room_for_connections()
        room = Connections(most, share=most) if proxy else Connections(most)  # a proxy holds those of all its clients
        config = uvicorn.Config(
            create_application(service),
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
        super().__init__(config)
        self.service = service
        self._stopping: float | None = None
        self._settled = False

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Drain at the first signal, stop at once at the second."""
        if self.service.draining:
            super().handle_exit(sig, frame)
        self.service.draining = True
        self._stopping = time.monotonic()

    async def on_tick(self, counter: int) -> bool:
        """Return True when the server is to end; called ``TICKS`` times a second."""
        if self.service.loaded and not self._settled:
            self._settled = True
            freeze_gc()
        if counter % TICKS == 0:
            self.service.engine.metrics.refresh()
        done = self._stopping is not None and time.monotonic() - self._stopping > GRACE and not self.service.active
        return await super().on_tick(counter) or done


class Member(Server):
    """Server of one of several processes on a port.

    SIGTERM only makes it drain, however often it comes: from the parent, and from whoever signals all processes, such
    as systemd. SIGINT is a second signal.

    Args:
        service: State that the endpoints share; its tasks are loaded.
        host: Address, of which the sockets come to ``run``.
        port: Port.
        proxy: Addresses of trusted reverse proxies, see ``Server``.
        listening: Function that is called when it listens.
    """

    def __init__(
        self, service: Service, host: str, port: int, proxy: str | None, listening: Callable[[], object]
    ) -> None:
        super().__init__(service, host, port, proxy)
        self._listening = listening

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Drain at SIGTERM; stop at once at a SIGINT behind it."""
        if sig == signal.SIGINT or not self.service.draining:
            super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and tell it."""
        await super().startup(sockets)
        self._listening()
