"""Embeddings as OpenAI's API gives them: a task is a model, and its vectors are those of ``metatx embed``.

https://platform.openai.com/docs/api-reference/embeddings
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from metatx.errors import short
from metatx.registry import unknown
from metatx.serving.asking import Question, json_response
from metatx.serving.body import content_kind
from metatx.serving.catalog import Catalog
from metatx.serving.inputs import Input, JsonInput, parse_json
from metatx.serving.limits import Limits, RefusedError
from metatx.serving.refusals import EMBEDDINGS
from metatx.serving.service import Service

__all__ = ["openai_embeddings"]

FIELDS = ("model", "input", "encoding_format", "dimensions", "user")
FORMATS = ("float", "base64")
STATUSES = (400, 401, 404, 408, 413, 415, 422, 429, 503, 504)
_ERROR = {
    "type": "object",
    "properties": {"message": {"type": "string"}, "type": {"type": "string"}},
    "required": ["message", "type"],
}
PROBLEM: dict[str, Any] = {  # response of OpenAPI
    "description": "Reason, in one line.",
    "content": {
        "application/json": {"schema": {"type": "object", "properties": {"error": _ERROR}, "required": ["error"]}}
    },
}
BODY: dict[str, Any] = {  # requestBody of OpenAPI
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["model", "input"],
                "properties": {
                    "model": {"type": "string", "description": "Name of a task."},
                    "input": {"description": "A text, a list of texts, or a list of inputs as predict takes them."},
                    "encoding_format": {"enum": list(FORMATS), "default": "float"},
                    "dimensions": {"type": "integer", "description": "Only the width of the backbone."},
                    "user": {"type": "string"},
                },
                "additionalProperties": False,
            },
            "example": {"model": "reviews", "input": ["A fine film.", "Too long."]},
        }
    },
}


def openai_embeddings(service: Service) -> APIRouter:
    """Make the endpoints: embeddings, and the tasks as models."""
    catalog = service.catalog
    refusals: dict[int | str, dict[str, Any]] = dict.fromkeys(STATUSES, PROBLEM)
    ready = Depends(service.check_ready)
    router = APIRouter(prefix="/v1", tags=["OpenAI's protocol"], responses=refusals, dependencies=[ready])

    @router.post(EMBEDDINGS.removeprefix("/v1"), openapi_extra={"requestBody": BODY})
    async def embeddings(request: Request) -> dict[str, Any]:
        """Embed inputs: the vectors that embed gives, as floats or as float32 in base64."""
        width = service.engine.pool.backbone.dim

        async def read(task: str | None) -> Question:
            return await _question(request, catalog, service.engine.limits, width)

        return await service.exchange(request, None, read, "embed")  # type: ignore[return-value]

    @router.get("/models")
    async def models() -> dict[str, Any]:
        """List the tasks, and names that stand for a version, as models."""
        return {"object": "list", "data": [_model(name) for name in sorted([*catalog.served, *catalog.aliases])]}

    @router.get("/models/{model}")
    async def model(model: str) -> dict[str, Any]:
        """Describe a task as a model."""
        catalog.resolve(model)
        return _model(model)

    return router


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "metatx"}


async def _question(request: Request, catalog: Catalog, limits: Limits, width: int) -> Question:
    """Read a request. Raises RefusedError if it has another form, UnknownTaskError if there is no such model."""
    kind = content_kind(request.headers)
    if kind != "application/json":
        raise RefusedError(415, f"The body is {kind[:100] or 'of no content-type'}; send application/json.")
    body = await request.body()
    content = await run_in_threadpool(parse_json, body, limits)
    name, values, encoded = _checked(content, width)
    task = catalog.resolve(name)
    if len(values) > limits.samples:
        raise RefusedError(413, f"{len(values):,} inputs; expected at most {limits.samples:,}.")
    inputs: list[Input] = [JsonInput(task, value) for value in values]

    def response(names: Sequence[str], vectors: Sequence[np.ndarray], tokens: int) -> Response:
        data = [
            {"object": "embedding", "index": at, "embedding": _encoded(vector) if encoded else vector}
            for at, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return json_response({"object": "list", "data": data, "model": name, "usage": usage})

    return Question(size=len(body), answer="embed", inputs=lambda: inputs, response=response)


def _checked(content: Any, width: int) -> tuple[str, list[Any], bool]:
    """Model, inputs, and True if vectors are wanted in base64. Raises RefusedError (400)."""
    if not isinstance(content, Mapping):
        raise RefusedError(400, f"Found {short(content)}; expected an object with model and input.")
    for field in content:
        if field not in FIELDS:
            raise RefusedError(400, unknown("field", field[:100], list(FIELDS)))
    name = content.get("model")
    if not isinstance(name, str):
        raise RefusedError(400, f"model is {short(name)}; expected the name of a task.")
    if content.get("input") in (None, []):
        raise RefusedError(400, "input is absent or empty; expected one input, or several in a list.")
    form = content.get("encoding_format", "float")
    if form not in FORMATS:
        raise RefusedError(400, f"encoding_format is {short(form)}; expected float or base64.")
    dimensions = content.get("dimensions", width)
    if dimensions != width:
        raise RefusedError(400, f"dimensions is {short(dimensions)}; the vectors have {width} numbers: leave it out.")
    values = content["input"]
    return name, values if isinstance(values, list) else [values], form == "base64"


def _encoded(vector: np.ndarray) -> str:
    return b64encode(vector.astype("<f4").tobytes()).decode("ascii")
