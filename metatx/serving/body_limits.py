"""Limits on bodies while they arrive: size of each, bytes of a client and of all, time on the way."""

import asyncio
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from metatx.serving.admission import FullError
from metatx.serving.arrays import NPY
from metatx.serving.arrow import ARROW
from metatx.serving.body import FORM, content_kind
from metatx.serving.clients import sender
from metatx.serving.limits import Limits, RefusedError
from metatx.serving.shares import Shares

__all__ = ["JSON_LENGTH", "BodyLimits"]

BODIES = 16  # bodies of the largest size that fit into memory together; long files among them lie on disk
JSON_LENGTH = "Inference-Header-Content-Length"  # header of a body with JSON and binary tensors behind it
ASKING = "/predict", "/embed", "/search", "/infer", "/embeddings"  # ends of the paths that take samples
OTHER = 65_536  # bytes of a body on any other path
WINDOW = 5.0  # seconds of waiting, in each of which LEAST bytes of a body must arrive
LEAST = 40_000
LATE = 1.0  # seconds beyond the window after which the delay is taken for the server's own


class BodyLimits:
    """Middleware that counts the bytes of a body from when they arrive until the request is answered.

    Only bytes that arrived count, so a client that announces a body and does not send it takes no room; it is also cut
    off after a while. Clients share the room as ``Shares`` says.

    Args:
        app: Application behind it.
        limits: Limits of a request.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app = app
        self._limits = limits
        self.held = Shares(lambda: BODIES * limits.body_mb * 1e6)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        body = _Body(scope, receive, self._limits, self.held)
        try:
            await self.app(scope, body.receive, send)
        finally:
            self.held.add(body.client, -body.bytes)


class _Body:
    """A body that arrives."""

    def __init__(self, scope: Scope, receive: Receive, limits: Limits, held: Shares) -> None:
        self.client = sender(scope)
        self.bytes = 0
        self._receive = receive
        self._held = held
        self._most, self._refused = _bound(scope, limits)
        self._headers = Headers(scope=scope)
        length = self._headers.get("content-length", "")
        self._announced = int(length) if length.isdecimal() and len(length) < 20 else 0
        self._begun = self._over = False
        self._waited = self._got = 0.0  # seconds of the window that are over, bytes that arrived in it

    async def receive(self) -> Message:
        """Return the next message of the client.

        Raises:
            RefusedError: 413 if the body is too large, 408 if it arrives too slowly, 415 if it is compressed.
            FullError: If bodies take too much room already.
        """
        if self._over:  # the only message that can come now: the client disconnects
            return await self._receive()
        if not self._begun:
            self._begun = True
            self._check_codings()
            self._check(self._announced)
        message = await self._next()
        size = len(message.get("body", b""))
        self._check(size)
        self._held.add(self.client, size)
        self.bytes += size
        self._got += size
        self._over = not message.get("more_body", False)
        return message

    def _check_codings(self) -> None:
        """Refuse a compressed body, which nothing here unpacks."""
        for name, plain in (("content-encoding", "identity"), ("transfer-encoding", "chunked")):
            coding = self._headers.get(name, plain)
            if coding.strip().lower() != plain:
                raise RefusedError(415, f"The body has {name} {coding[:100]}; send it uncompressed.")

    def _check(self, more: int) -> None:
        if self.bytes + more > self._most:
            raise RefusedError(413, self._refused)
        if more and self._held.excess(self.client, more) > 0:
            raise FullError(0)

    async def _next(self) -> Message:
        """Wait for the next message; only the time spent waiting for the client counts."""
        clock = asyncio.get_running_loop().time
        while True:
            message = None
            started = clock()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, WINDOW - self._waited)):
                    message = await self._receive()
            self._waited += clock() - started
            if self._waited >= WINDOW:
                slow = self._got < LEAST and (message is None or message.get("more_body", False))
                if slow and self._waited < WINDOW + LATE:
                    raise RefusedError(408, f"The body comes too slowly: fewer than {LEAST:,} bytes in {WINDOW:g} s.")
                self._waited = self._got = 0.0
            if message is not None:
                return message


def _bound(scope: Scope, limits: Limits) -> tuple[float, str]:
    """Return the largest size of a body, in bytes, and the message for a larger one."""
    if scope["method"] != "POST" or not scope["path"].endswith(ASKING):
        return OTHER, f"The request has more than {OTHER:,} bytes."
    headers = Headers(scope=scope)
    if content_kind(headers) in (FORM, NPY) or JSON_LENGTH in headers:
        return limits.body_mb * 1e6, f"The request has more than {limits.body_mb:g} megabytes."
    kind = "Arrow stream" if content_kind(headers) == ARROW else "JSON"
    return limits.json_mb * 1e6, f"The {kind} has more than {limits.json_mb:g} megabytes; send files, or fewer inputs."
