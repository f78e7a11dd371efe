"""Answers as server-sent events: the words while they are written, then the whole records."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from metatx.backbone.generating import Follower
from metatx.head import Head
from metatx.pool.pool import Request as PreparedRequest
from metatx.serving.body import Body
from metatx.serving.inputs import parse_json
from metatx.serving.limits import Limits, RefusedError

__all__ = ["WANTED", "Events", "streamed"]

KIND = "text/event-stream"
WANTED = "stream"  # field of a JSON body that asks for events
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # proxies such as nginx would hold events back
Prepared = list[tuple[str, PreparedRequest]]


async def streamed(request: Request, ask: Callable[["Events"], Coroutine[Any, Any, Response]]) -> Response:
    """Answer a request by events if its client wants them, else as ``ask`` does.

    ``data: {"index": ..., "text": ...}`` adds words to the answer of an input; the event ``done`` has what the response
    has without events, ``error`` the ``detail`` and the ``status`` of a refusal. Before the first word a refusal is a
    response of its status. An answer without words, such as a class, is the event ``done`` alone.

    Args:
        request: HTTP request; its body is not read yet.
        ask: Function that answers it, and tells the words to the events.
    """
    events = Events(request)
    work = asyncio.create_task(ask(events))
    work.add_done_callback(lambda _: events.end())
    try:
        first = await events.next()
    except asyncio.CancelledError:
        work.cancel()
        raise
    if first is None and not (events.wanted and work.result().status_code == 200):
        return work.result()
    return StreamingResponse(events.told(first, work), media_type=KIND, headers=HEADERS)


class Events:
    """Events of one request, which wait here until the client takes them.

    Args:
        request: HTTP request; its body is not read yet.

    Attributes:
        wanted: True if the client asked for events: by the header Accept, or by ``"stream": true`` in a JSON body.
    """

    def __init__(self, request: Request) -> None:
        self.wanted = KIND in request.headers.get("accept", "").lower()
        self._over = False
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def read(self, body: Body, limits: Limits) -> Body:
        """Return the body without the field that asks for events. Raises RefusedError (422) if it is no boolean."""
        if not isinstance(body, bytes) or f'"{WANTED}"'.encode() not in body:
            return body
        content = await run_in_threadpool(parse_json, body, limits)
        if not isinstance(content, dict) or WANTED not in content:
            return body
        wanted = content.pop(WANTED)
        if not isinstance(wanted, bool):
            raise RefusedError(422, f"{WANTED} is {wanted!r:.100}; expected true or false.")
        self.wanted = self.wanted or wanted
        return orjson.dumps(content)

    def followed(self, requests: Prepared) -> Prepared:
        """Return the requests, of which those with words tell them here, if events are wanted."""
        if not self.wanted:
            return requests
        return [
            (name, replace(each, follower=self._follower(at, each.loaded.task.head)) if each.continues else each)
            for at, (name, each) in enumerate(requests)
        ]

    def _follower(self, index: int, head: Head) -> Follower:
        """Follower of the answer of one input, which the thread of the model calls."""
        sent = ""

        def follow(numbers: Sequence[int]) -> bool:
            nonlocal sent
            text = head.so_far(numbers)
            if text != sent and text.startswith(sent):  # a pass that failed is repeated, from the first word
                event = _event("", {"index": index, "text": text[len(sent) :]})
                self._loop.call_soon_threadsafe(self._queue.put_nowait, event)
                sent = text
            return not self._over

        return follow

    async def next(self) -> bytes | None:
        """Wait for the next event; None at the end."""
        return await self._queue.get()

    def end(self) -> None:
        """Let answers that are still written be given up."""
        self._over = True
        self._queue.put_nowait(None)

    async def told(self, event: bytes | None, work: "asyncio.Task[Response]") -> AsyncIterator[bytes]:
        """Give all events: ``event``, those that follow, and the response of ``work``; cancel it if the client leaves.

        Args:
            event: First event; None if there are no words.
            work: Answer to the request.
        """
        try:
            while event is not None:
                yield event
                event = await self.next()
            response = work.result()
            content = orjson.loads(response.body)
            if response.status_code == 200:
                yield _event("done", content)
            else:
                yield _event("error", {**content, "status": response.status_code})
        finally:
            self._over = True
            work.cancel()


def _event(name: str, content: dict[str, Any]) -> bytes:
    """Event of a name, "" for the usual one, as bytes; JSON has no line breaks of its own."""
    line = f"event: {name}\n".encode() if name else b""
    return line + b"data: " + orjson.dumps(content) + b"\n\n"
