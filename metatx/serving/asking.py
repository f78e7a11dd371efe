"""Questions of requests, in any of the protocols that the server speaks, and the responses to them."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import orjson
from fastapi import Request, Response

from metatx.serving.body import inputs_of, read_body
from metatx.serving.catalog import Catalog
from metatx.serving.engine import OutputKind
from metatx.serving.inputs import FIELDS, Input
from metatx.serving.limits import GONE, Limits, RefusedError
from metatx.serving.streaming import WANTED, Events

__all__ = ["Question", "json_response", "question_of", "unless_gone"]

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Question:
    """Question of a request, whose body was read.

    Attributes:
        size: Number of bytes of JSON; of parts of a form; of samples of an array or a table.
        answer: Kind of answer.
        inputs: Function that parses the inputs; called in a worker thread.
        response: Function that makes the response from the name of the task of each sample, the answers, and the
            number of tokens of all.
    """

    size: int
    answer: OutputKind
    inputs: Callable[[], list[Input]]
    response: Callable[[Sequence[str], Sequence[Any], int], Response]


async def question_of(
    request: Request,
    task: str | None,
    answer: OutputKind,
    catalog: Catalog,
    limits: Limits,
    events: Events | None = None,
) -> Question:
    """Read a request in the server's own protocol.

    Args:
        request: HTTP request; its body is not read yet.
        task: Name of the task; None if the body names a task for each input.
        answer: Kind of answer.
        catalog: Tasks that are served.
        limits: Limits of a request.
        events: Events that the body may ask for.

    Raises:
        RefusedError: If the body cannot be read.
    """
    body = await read_body(request, limits)
    if events is not None:
        body = await events.read(body, limits)
    size = 1 if isinstance(body, np.ndarray) and not body.ndim else len(body)
    inputs = partial(inputs_of, body, task, catalog, limits, FIELDS if events is None else (*FIELDS, WANTED))

    def response(names: Sequence[str], answers: Sequence[Any], tokens: int) -> Response:
        return json_response({"task": task, **_rows(names, answers, answer, task is None)})

    return Question(size=size, answer=answer, inputs=inputs, response=response)


def _rows(names: Sequence[str], answers: Sequence[Any], answer: OutputKind, mixed: bool) -> dict[str, Any]:
    if answer == "embed":
        return {"embeddings": answers}
    if mixed:
        return {"answers": [{"task": name, "answer": row} for name, row in zip(names, answers, strict=True)]}
    return {"answers": answers}


def json_response(content: dict[str, Any]) -> Response:
    """Make a response of JSON, with null for NaN and infinity, which JSON does not have."""
    text = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    return Response(text, media_type="application/json")


async def unless_gone(request: Request, work: "asyncio.Task[Result]") -> Result:
    """Return the result of ``work``; cancel it when the client disconnects (RefusedError, 499) or time is up."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    leaving = asyncio.create_task(gone())
    try:
        await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise RefusedError(GONE, "The client is gone.")
        return work.result()
    finally:
        work.cancel()
        leaving.cancel()
