"""HTTP connections within bounds: size and time of a request's head, number of connections, unread answers."""

import asyncio
import sys
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import httptools
import orjson
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from metatx.serving.clients import client_of

__all__ = ["BoundedProtocol", "Connections", "room_for_connections"]

HEAD_BYTES = 65_536  # of the line and headers of a request; also of anything between or behind the pieces of its body
HEADERS = 100  # number of headers
HEAD_SECONDS = 10.0  # in which the head of a request must arrive
PIECE = 4096  # bytes of a head that are read before its size is checked again
LINGER = 2.0  # seconds in which a client may read why its request was refused
UNREAD = 30.0  # seconds, in each of which a client must take TAKEN bytes of its answer, or all of it
TAKEN = 250_000
MOST = 4096  # connections in all
SHARE = 2048  # connections of one client
RESERVE = 64  # file descriptors that the server itself needs
DESCRIPTORS = 16_384  # file descriptors that the server asks for at most


def room_for_connections() -> int:
    """Raise the limit on open files as far as allowed; return the number of connections that it has room for.

    Half of the descriptors are left for files that requests bring.
    """
    if sys.platform == "win32":
        return MOST
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return MOST if soft == resource.RLIM_INFINITY else max(8, min(MOST, (soft - RESERVE) // 2))


class Connections:
    """Open connections, by client.

    Where there is no room for a new connection, an idle one of the client with most connections is closed. So idle
    connections of one client shut out neither other clients nor its own next connection.

    Args:
        most: Largest number of connections.
        share: Largest number of connections of one client.
    """

    def __init__(self, most: int = MOST, share: int = SHARE) -> None:
        self.most = most
        self.share = min(share, most)
        self._of: dict[str, dict[BoundedProtocol, None]] = {}
        self.count = 0
        self._watch: asyncio.TimerHandle | None = None

    def enter(self, connection: "BoundedProtocol") -> bool:
        """Count a connection; return False if there is no room for it."""
        same_client = self._of.get(connection.client_name, {})
        holders = [same_client] if len(same_client) >= self.share else []
        if not holders and self.count >= self.most:
            holders = sorted(self._of.values(), key=len, reverse=True)
        if holders:
            victim = next(filter(None, map(_least_missed, holders)), None)
            if victim is None:
                return False
            self.leave(victim)
            victim.transport.abort()
        self._of.setdefault(connection.client_name, {})[connection] = None
        self.count += 1
        if self._watch is None:
            self._watch = connection.loop.call_later(1.0, self._look, connection.loop)
        return True

    def leave(self, connection: "BoundedProtocol") -> None:
        """Stop counting a connection."""
        same_client = self._of.get(connection.client_name, {})
        if connection in same_client:
            del same_client[connection]
            self.count -= 1
            if not same_client:
                del self._of[connection.client_name]

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        for connection in [connection for connections in self._of.values() for connection in connections]:
            connection.look(loop.time())
        self._watch = loop.call_later(1.0, self._look, loop) if self.count else None


def _least_missed(connections: "dict[BoundedProtocol, None]") -> "BoundedProtocol | None":
    """Return the idle connection whose last request is the oldest; None if the server owes an answer on each."""
    idle = (connection for connection in connections if connection.idle)
    return min(idle, key=lambda connection: connection.asked_at, default=None)


class BoundedProtocol(HttpToolsProtocol):
    """Uvicorn's protocol within the bounds of this module."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        room: Connections,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._room = room
        self._application = self.app
        self.app = self._answer
        self.client_name = ""
        self.asked_at = 0.0  # time when the head of the last request was complete, or the connection was made
        self._head_since: float | None = None  # time since when the server waits for a head; None: it does not
        self._in_body = False
        self._quiet = self._fields = 0  # bytes without progress, number of headers
        self._deaf = False  # True: data of the client are dropped
        self._leaving: float | None = None  # time since when the client may read its last answer
        self._unsent = 0, 0.0  # bytes of answers that wait, and the time when they were counted
        self._fault: tuple[int, str] | None = None  # status and message of an error that the parser hides

    # Called by uvicorn and the event loop

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.client_name = client_of(self.client[0] if self.client else None)
        self._head_since = self.asked_at = self.loop.time()
        if not self._room.enter(self):
            self._deaf = True
            self._write(503, "The server has as many connections as it can hold; try again.")
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._room.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        at = 0
        while at < len(data) and not self._deaf and not self.transport.is_closing():
            piece = data[at : at + (HEAD_BYTES if self._in_body else PIECE)]
            at += len(piece)
            self._feed(piece)

    def _feed(self, piece: bytes) -> None:
        self._quiet += len(piece)
        if not self._in_body and self._head_since is None:
            self._head_since = self.loop.time()
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            self._deaf = True  # no other protocol is spoken: the request is answered, and the connection ends
            self.cycle.keep_alive = False
        except httptools.HttpParserError:
            self._refuse(*(self._fault or (400, "This is no HTTP request.")))
        else:
            if self._quiet > HEAD_BYTES:
                self._refuse(431, f"The head of the request has more than {HEAD_BYTES:,} bytes.")

    def on_message_begin(self) -> None:
        self._fields = 0
        self._quiet += 1
        if self._head_since is None:
            self._head_since = self.loop.time()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        if self._fields > HEADERS:
            self._fault = 431, f"The request has more than {HEADERS} headers."
            raise ValueError(self._fault[1])  # stops the parser
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_body = True
        self._head_since = None
        self._quiet = 0
        self.asked_at = self.loop.time()
        super().on_headers_complete()
        self.cycle.transport = _Lingering(self)  # type: ignore[assignment]  # it has all methods that uvicorn calls

    def on_body(self, body: bytes) -> None:
        self._quiet = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body = False
        self._quiet = 0
        super().on_message_complete()
        if self._leaving is not None:
            self._deaf = True
            self.transport.close()

    # Added here

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        """Run the application; say in the answer that the connection closes, where the body was not read to its end."""

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start" and self._unread:
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        await self._application(scope, receive, sending)

    @property
    def _unread(self) -> bool:
        """True while the body of the current request has not arrived as a whole."""
        return not self.pipeline and self.cycle is not None and self.cycle.more_body

    @property
    def idle(self) -> bool:
        """True while the connection waits for its client: for a request, or for the rest of one."""
        return self._leaving is not None or self.cycle is None or self.cycle.response_complete or self._unread

    def look(self, now: float) -> None:
        """Close the connection if its client takes too long; called each second."""
        late = self._head_since is not None and now - self._head_since > HEAD_SECONDS
        if self._stuck(now) or (self._leaving is not None and now - self._leaving > LINGER):
            self.transport.abort()
        elif late and self.idle and not self._deaf:
            if self._quiet:
                self._refuse(408, f"The head of the request took more than {HEAD_SECONDS:g} s.")
            else:
                self.transport.close()

    def _stuck(self, now: float) -> bool:
        """Return True if the client takes too little of an answer."""
        unsent = self.transport.get_write_buffer_size()
        before, since = self._unsent
        if unsent and before and now - since <= UNREAD:
            return False
        self._unsent = unsent, now
        return bool(unsent and before - unsent < TAKEN and before)

    def leave(self) -> None:
        """Close the connection, after the client had time to read its answer: unread data would make it lose that."""
        if not self._unread:
            self.transport.close()
        elif self._leaving is None:
            self._leaving = self.loop.time()
            self.flow.resume_reading()
            self._end_answers()

    def _refuse(self, status: int, detail: str) -> None:
        """Answer a request that cannot be read to its end, after the answers that are owed; then close."""
        self._deaf = True
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body:
                cycle.keep_alive = False  # its answer is the last one that is owed
                return
            cycle.disconnected = True  # its body is broken, so the application does not answer it
            cycle.message_event.set()
            if cycle.response_started:
                return self.transport.abort()
        self._write(status, detail)
        self._leaving = self.loop.time()
        self._end_answers()

    def _end_answers(self) -> None:
        with suppress(OSError):  # the client has just disconnected
            self.transport.write_eof()

    def _write(self, status: int, detail: str) -> None:
        text = orjson.dumps({"detail": detail})
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", "connection: close", "content-type: application/json"
        self.transport.write("\r\n".join([*head, f"content-length: {len(text)}", "", ""]).encode() + text)


class _Lingering:
    """Transport of an answer, whose ``close`` is that of the protocol."""

    def __init__(self, protocol: BoundedProtocol) -> None:
        self._protocol = protocol

    def close(self) -> None:
        self._protocol.leave()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._protocol.transport, name)
