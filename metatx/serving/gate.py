"""Middleware before all endpoints: checks the token, and answers every error."""

import hmac
import logging
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from metatx.serving.limits import RefusedError
from metatx.serving.refusals import refusal

__all__ = ["OPEN", "Gate"]

LOG = logging.getLogger("metatx.serving")
OPEN = (
    "/",
    "/docs",
    "/healthz",
    "/readyz",
    "/v2/health/live",
    "/v2/health/ready",
)  # need no token, for they say nothing about the tasks


class Gate:
    """Middleware that refuses requests without the token, and turns every error of an endpoint into a response.

    It reads headers only: the body of a request without the token is never read.

    Args:
        app: Application behind it.
        token: Token that requests must bear; None lets all requests pass.
        hidden: Folders that no message names, see ``metatx.serving.refusals``.
    """

    def __init__(self, app: ASGIApp, token: str | None, hidden: Sequence[str]) -> None:
        self.app = app
        self._hidden = hidden
        # Headers have no encoding: curl sends UTF-8, browsers and Python's clients Latin-1.
        self._tokens = [token.encode()] if token else []
        if token and max(token) <= "\xff":
            self._tokens.append(token.encode("latin-1"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            if not self._permitted(scope):
                raise RefusedError(401, "This server needs a token: Authorization: Bearer TOKEN.")
            await self.app(scope, receive, sending)
        except Exception as error:
            if begun:
                LOG.error("an answer was cut off", exc_info=error)
            else:
                await refusal(error, self._hidden, scope["path"])(scope, receive, send)

    def _permitted(self, scope: Scope) -> bool:
        if not self._tokens or scope["path"] in OPEN:
            return True
        given = [value for name, value in Headers(scope=scope).raw if name == b"authorization"]
        scheme, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        matches = [hmac.compare_digest(token.strip(), accepted) for accepted in self._tokens]
        return scheme.lower() == b"bearer" and any(matches)
