"""Predictions and embeddings before FastAPI's routes, which took about 6 % of the CPU time of a small request."""

import re

from fastapi import Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from metatx.serving.service import Service
from metatx.serving.streaming import streamed

__all__ = ["Direct", "answered"]

PATH = re.compile(r"/v1/(?:tasks/(?P<task>[^/]+)/)?(?P<action>predict|embed)")


async def answered(service: Service, request: Request, task: str | None, action: str) -> Response:
    """Answer a request to predict or to embed.

    Args:
        service: State of the server.
        request: HTTP request; its body is not read yet.
        task: Name of the task; None if the body names a task for each input.
        action: ``"predict"`` or ``"embed"``.
    """
    if action == "embed":
        return await service.ask(request, task, "embed")
    return await streamed(request, lambda events: service.ask(request, task, "records", events))


class Direct:
    """Middleware that answers these requests itself, and hands all others on.

    The endpoints stay among FastAPI's routes, for OpenAPI and for applications that are mounted below a path.

    Args:
        app: Application that answers the others.
        service: State of the server.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app = app
        self.service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        asked = scope["type"] == "http" and scope["method"] == "POST" and not scope.get("root_path")
        found = PATH.fullmatch(scope["path"]) if asked else None
        if found is None or (found["task"] is None and found["action"] == "embed"):
            await self.app(scope, receive, send)
            return
        response = await answered(self.service, Request(scope, receive, send), found["task"], found["action"])
        await response(scope, receive, send)
