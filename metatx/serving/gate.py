"""Before all endpoints: nothing without the token, and no error without an answer."""

import hmac
import logging
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from metatx.serving.limits import RefusedError
from metatx.serving.refusals import refusal

__all__ = ["OPEN", "Gate"]

LOG = logging.getLogger("metatx.serving")
OPEN = "/", "/docs", "/healthz", "/readyz"  # say nothing of the tasks


class Gate:
    """Lets requests with the token through, to any path; what an endpoint raises becomes a response.

    It reads headers alone: the body of a request without the token stays where it is.

    Args:
        app: Behind it.
        token: None: all pass.
        hidden: Places that no message names, see ``metatx.serving.refusals``.
    """

    def __init__(self, app: ASGIApp, token: str | None, hidden: Sequence[str]) -> None:
        self.app, self._hidden = app, hidden
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
                LOG.error("an answer broke off", exc_info=error)
            else:
                await refusal(error, self._hidden)(scope, receive, send)

    def _permitted(self, scope: Scope) -> bool:
        if not self._tokens or scope["path"] in OPEN:
            return True
        given = [value for name, value in Headers(scope=scope).raw if name == b"authorization"]
        scheme, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        matches = [hmac.compare_digest(token.strip(), one) for one in self._tokens]
        return scheme.lower() == b"bearer" and any(matches)
