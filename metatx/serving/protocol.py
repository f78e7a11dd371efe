"""Connections: how long the head of a request may be and take, how many there may be, and which goes when one comes."""

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

HEAD_BYTES = 65_536  # of a request: its line and headers; also of what stands between pieces of its body, or behind it
HEADERS = 100
HEAD_SECONDS = 10.0
PIECE = 4096  # bytes of a head that are read before it is measured again
LINGER = 2.0  # seconds in which a client may read why its request is not read on
UNREAD = 30.0  # seconds, in each of which a client must take so many bytes of its answer, or all
TAKEN = 250_000
MOST, SHARE = 4096, 2048  # connections in all, and of one client
RESERVE = 64  # descriptors of files and pipes of the server itself
DESCRIPTORS = 16_384  # more are not asked for


def room_for_connections() -> int:
    """Connections that the limit on open files has room for, which is raised as far as it may be.

    As many are left for files that requests bring.
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
    """All that are open, by client.

    Where there is no room, one goes that nobody waits for, of the client with most: so one client's idle connections
    shut out neither others nor its own next.

    Args:
        most: In all.
        share: Of one client.
    """

    def __init__(self, most: int = MOST, share: int = SHARE) -> None:
        self.most, self.share = most, min(share, most)
        self._of: dict[str, dict[BoundedProtocol, None]] = {}
        self.count = 0
        self._watch: asyncio.TimerHandle | None = None

    def enter(self, connection: "BoundedProtocol") -> bool:
        """Count a connection; False if there is no room for it."""
        own = self._of.get(connection.client_name, {})
        holders = [own] if len(own) >= self.share else []
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
        """Count it no more."""
        own = self._of.get(connection.client_name, {})
        if connection in own:
            del own[connection]
            self.count -= 1
            if not own:
                del self._of[connection.client_name]

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        for connection in [one for own in self._of.values() for one in own]:
            connection.look(loop.time())
        self._watch = loop.call_later(1.0, self._look, loop) if self.count else None


def _least_missed(connections: "dict[BoundedProtocol, None]") -> "BoundedProtocol | None":
    """Of those that wait for their client the one that brought no request for longest; None if all wait for us."""
    return min((one for one in connections if one.idle), key=lambda one: one.asked_at, default=None)


class BoundedProtocol(HttpToolsProtocol):
    """Uvicorn's protocol within the bounds above."""

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
        self._room, self._application = room, self.app
        self.app = self._answer
        self.client_name = ""
        self.asked_at = 0.0  # when the head of a request was complete, or the connection made
        self._head_since: float | None = None  # a head, or its first byte, is awaited
        self._in_body = False
        self._quiet = self._fields = 0  # bytes without progress, headers
        self._deaf = False  # what comes is dropped
        self._leaving: float | None = None  # since then the client may read its answer
        self._unsent = 0, 0.0  # bytes of answers, and when they were counted
        self._fault: tuple[int, str] | None = None

    # What uvicorn and the event loop call

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
            self._deaf = True  # nothing else is spoken here; what was asked is answered, and that is the end
            self.cycle.keep_alive = False
        except httptools.HttpParserError:
            self._refuse(*(self._fault or (400, "This is no HTTP request.")))
        else:
            if self._quiet > HEAD_BYTES:
                self._refuse(431, f"The head of the request has more than {HEAD_BYTES:,} bytes.")

    def on_message_begin(self) -> None:
        self._fields, self._quiet = 0, self._quiet + 1
        if self._head_since is None:
            self._head_since = self.loop.time()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        if self._fields > HEADERS:
            self._fault = 431, f"The request has more than {HEADERS} headers."
            raise ValueError(self._fault[1])  # ends the parser's work
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_body, self._head_since, self._quiet = True, None, 0
        self.asked_at = self.loop.time()
        super().on_headers_complete()
        self.cycle.transport = _Lingering(self)  # type: ignore[assignment]  # it has all that is asked of it

    def on_body(self, body: bytes) -> None:
        self._quiet = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body, self._quiet = False, 0
        super().on_message_complete()
        if self._leaving is not None:
            self._deaf = True
            self.transport.close()

    # What is added

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        """OutputKind, and say so where the connection ends with the answer, for the body is not read on."""

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start" and self._unread:
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        await self._application(scope, receive, sending)

    @property
    def _unread(self) -> bool:
        """Whether the request that is answered has not come as a whole; one before another has."""
        return not self.pipeline and self.cycle is not None and self.cycle.more_body

    @property
    def idle(self) -> bool:
        """Whether it waits for its client: for a request, or for more of one."""
        return self._leaving is not None or self.cycle is None or self.cycle.response_complete or self._unread

    def look(self, now: float) -> None:
        """End what takes too long; called each second."""
        late = self._head_since is not None and now - self._head_since > HEAD_SECONDS
        if self._stuck(now) or (self._leaving is not None and now - self._leaving > LINGER):
            self.transport.abort()
        elif late and self.idle and not self._deaf:
            if self._quiet:
                self._refuse(408, f"The head of the request took more than {HEAD_SECONDS:g} s.")
            else:
                self.transport.close()

    def _stuck(self, now: float) -> bool:
        """Whether the client takes too little of an answer."""
        unsent, (before, since) = self.transport.get_write_buffer_size(), self._unsent
        if unsent and before and now - since <= UNREAD:
            return False
        self._unsent = unsent, now
        return bool(unsent and before - unsent < TAKEN and before)

    def leave(self) -> None:
        """Close, when the client has had the time to read its answer: with data unread, it may never see it."""
        if not self._unread:
            self.transport.close()
        elif self._leaving is None:
            self._leaving = self.loop.time()
            self.flow.resume_reading()
            self._end_answers()

    def _refuse(self, status: int, detail: str) -> None:
        """OutputKind what cannot be read on, behind the answers that are owed; then close."""
        self._deaf = True
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body:
                cycle.keep_alive = False  # the last answer that is owed
                return
            cycle.disconnected = True  # its body is broken: nobody answers it any more
            cycle.message_event.set()
            if cycle.response_started:
                return self.transport.abort()
        self._write(status, detail)
        self._leaving = self.loop.time()
        self._end_answers()

    def _end_answers(self) -> None:
        with suppress(OSError):  # the client has gone in this moment
            self.transport.write_eof()

    def _write(self, status: int, detail: str) -> None:
        text = orjson.dumps({"detail": detail})
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", "connection: close", "content-type: application/json"
        self.transport.write("\r\n".join([*head, f"content-length: {len(text)}", "", ""]).encode() + text)


class _Lingering:
    """A transport for an answer, which closes as the protocol does."""

    def __init__(self, protocol: BoundedProtocol) -> None:
        self._protocol = protocol

    def close(self) -> None:
        self._protocol.leave()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._protocol.transport, name)
