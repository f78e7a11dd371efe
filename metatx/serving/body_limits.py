"""Bodies as they arrive: bounded each by itself, by client and all together, and not for ever on the way."""

import asyncio
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from metatx.serving.admission import FullError
from metatx.serving.body import FORM, content_kind
from metatx.serving.clients import sender
from metatx.serving.limits import Limits, RefusedError
from metatx.serving.shares import Shares

__all__ = ["BodyLimits"]

BODIES = 16  # largest bodies that may be held at once; long files among them lie on disk
ASKING = "/predict", "/embed"  # ends of paths that take samples
OTHER = 65_536  # bytes of a body that says what to do
WINDOW = 5.0  # seconds of waiting, in each of which a body must go on by so many bytes
LEAST = 40_000
LATE = 1.0  # seconds more: then it was the server that was slow


class BodyLimits:
    """Counts the bytes of bodies from when they come until the request is answered.

    What is announced counts for nothing, so that who announces and sends nothing takes no room; neither can he wait for
    long. A client's bodies share the room with those of others, as ``Shares`` says.

    Args:
        app: Behind it.
        limits: Of a request.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app, self._limits = app, limits
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
    """One on its way."""

    def __init__(self, scope: Scope, receive: Receive, limits: Limits, held: Shares) -> None:
        self.client, self.bytes = sender(scope), 0
        self._receive, self._held = receive, held
        self._most, self._refused = _bound(scope, limits)
        self._headers = Headers(scope=scope)
        length = self._headers.get("content-length", "")
        self._announced = int(length) if length.isdecimal() and len(length) < 20 else 0
        self._begun = self._over = False
        self._waited = self._got = 0.0  # seconds of the window that are over, bytes in it

    async def receive(self) -> Message:
        """The next piece.

        Raises:
            RefusedError: 413 where it is too large, 408 where it comes too slowly, 415 where it is packed.
            FullError: If too much is held.
        """
        if self._over:  # what comes now is that the client goes
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
        """Refuse a body that is packed, for it would be taken for what it is not."""
        for name, plain in (("content-encoding", "identity"), ("transfer-encoding", "chunked")):
            found = self._headers.get(name, plain)
            if found.strip().lower() != plain:
                raise RefusedError(415, f"The body has {name} {found[:100]}; send it as it is.")

    def _check(self, more: int) -> None:
        if self.bytes + more > self._most:
            raise RefusedError(413, self._refused)
        if more and self._held.excess(self.client, more) > 0:
            raise FullError(0)

    async def _next(self) -> Message:
        """The next message; what counts is the time that is spent waiting for the client."""
        clock = asyncio.get_running_loop().time
        while True:
            message, started = None, clock()
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
    """Bytes that a body may have, and what is said of one with more."""
    if scope["method"] != "POST" or not scope["path"].endswith(ASKING):
        return OTHER, f"The request has more than {OTHER:,} bytes."
    if content_kind(Headers(scope=scope)) == FORM:
        return limits.body_mb * 1e6, f"The request has more than {limits.body_mb:g} megabytes."
    return limits.json_mb * 1e6, f"The JSON has more than {limits.json_mb:g} megabytes; send files, or fewer inputs."
