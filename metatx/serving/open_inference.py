"""Open Inference Protocol, version 2, as KServe, Triton and MLServer speak it: tasks are models, inputs are tensors.

https://github.com/kserve/open-inference-protocol, with binary tensors behind the JSON.
"""

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

import metatx
from metatx.errors import short
from metatx.registry import unknown
from metatx.serving.answer_tensors import EMBEDDING, answer_tensors, embedding_tensor
from metatx.serving.asking import Question, json_response
from metatx.serving.body_limits import JSON_LENGTH
from metatx.serving.catalog import Catalog, UnknownTaskError
from metatx.serving.inputs import parse_json
from metatx.serving.limits import Limits, RefusedError
from metatx.serving.service import Service
from metatx.serving.task_tensors import inputs_from, tensor_inputs
from metatx.serving.tensors import Tensor, tensor_of

__all__ = ["open_inference"]

ONLY = "1"  # version of a task that has none
TENSOR = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"type": "string"},
        "datatype": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "data": {"type": "array"},
        "parameters": {"type": "object"},
    },
}
INFER: dict[str, Any] = {  # requestBody of OpenAPI
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["inputs"],
                "properties": {
                    "id": {"type": "string"},
                    "inputs": {"type": "array", "items": TENSOR, "minItems": 1},
                    "outputs": {"type": "array", "items": {"type": "object", "required": ["name"]}},
                    "parameters": {"type": "object"},
                },
            },
            "example": {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["A fine film."]}]},
        }
    },
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": "Reason, in one line.",
        "content": {
            "application/json": {
                "schema": {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
            }
        },
    }
    for status in (400, 401, 404, 408, 413, 415, 422, 429, 503, 504)
}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Form of a response: the outputs by name, all where there are none, and whether each comes as bytes."""

    outputs: Mapping[str, bool]
    binary: bool
    id: str | None


def open_inference(service: Service) -> APIRouter:
    """Make the endpoints of the protocol."""
    catalog = service.catalog
    router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])
    ready = [Depends(service.check_ready)]

    @router.get("")
    async def server() -> dict[str, Any]:
        """Describe the server."""
        return {"name": "metatx", "version": metatx.__version__, "extensions": ["binary_tensor_data"]}

    @router.get("/health/live")
    async def live() -> dict[str, bool]:
        """Answer while the server lives."""
        return {"live": True}

    @router.get("/health/ready", responses={503: {"description": "It answers no requests now."}})
    async def server_ready() -> JSONResponse:
        """Answer 200 while requests are answered."""
        return JSONResponse({"ready": service.ready}, 200 if service.ready else 503)

    @router.get("/models/{name}", responses=REFUSALS, dependencies=ready)
    @router.get("/models/{name}/versions/{version}", responses=REFUSALS, dependencies=ready)
    async def model(name: str, version: str | None = None) -> dict[str, Any]:
        """Describe a task: its versions, the tensors that it takes and gives."""
        task = served_name(catalog, name, version)
        return _metadata(name, task, catalog)

    @router.get("/models/{name}/ready", responses=REFUSALS, dependencies=ready)
    @router.get("/models/{name}/versions/{version}/ready", responses=REFUSALS, dependencies=ready)
    async def model_ready(name: str, version: str | None = None) -> dict[str, Any]:
        """Answer 200 while the task is served."""
        served_name(catalog, name, version)
        return {"name": name, "ready": True}

    @router.post("/models/{name}/infer", responses=REFUSALS, openapi_extra={"requestBody": INFER})
    @router.post("/models/{name}/versions/{version}/infer", responses=REFUSALS, openapi_extra={"requestBody": INFER})
    async def infer(request: Request, name: str, version: str | None = None) -> dict[str, Any]:
        """Answer the samples of the tensors, whose first axis counts them; the output "embedding" is on request."""
        find = partial(served_name, catalog, name, version)

        def read(task: str | None) -> Awaitable[Question]:
            return _question(request, name, str(task), catalog, service.engine.limits)

        return await service.exchange(request, find, read, tensors=True)  # type: ignore[return-value]

    return router


def served_name(catalog: Catalog, name: str, version: str | None) -> str:
    """Name of the task of a model: ``NAME@VERSION``, or ``NAME``, which an alias may stand for and whose version is 1.

    Raises:
        UnknownTaskError: If there is no such model, or not in this version.
    """
    if version is not None and f"{name}@{version}" in catalog.served:
        return f"{name}@{version}"
    task = catalog.resolve(name)
    if version not in (None, _version(task)):
        raise UnknownTaskError(unknown("version", str(version)[:100], _versions(name, task, catalog)))
    return task


def _version(task: str) -> str:
    return task.partition("@")[2] or ONLY


def _versions(name: str, task: str, catalog: Catalog) -> list[str]:
    others = [other for other in catalog.served if other.startswith(f"{name}@")]
    return sorted({_version(each) for each in (task, *others)})


def _metadata(name: str, task: str, catalog: Catalog) -> dict[str, Any]:
    served = catalog.served[task]
    answer = served.sample.answer
    outputs = [] if answer is None else [_told(tensor) for tensor in answer_tensors([answer])]
    vector = {"name": EMBEDDING, "datatype": "FP32", "shape": [-1, -1], "parameters": {"on_request": True}}
    return {
        "name": name,
        "versions": _versions(name, task, catalog),
        "platform": "metatx",
        "inputs": [tensor.described() for tensor in tensor_inputs(served)],
        "outputs": [*outputs, vector],
    }


def _told(tensor: Tensor) -> dict[str, Any]:
    about = tensor.described()
    return {**about, "shape": [-1, *about["shape"][1:]]}


async def _question(request: Request, name: str, task: str, catalog: Catalog, limits: Limits) -> Question:
    """Read a request. Raises RefusedError (400) if it has another form."""
    body = await request.body()
    tensors, wanted = await run_in_threadpool(_parsed, body, request.headers.get(JSON_LENGTH), limits)
    served = catalog.served[catalog.resolve(task)]
    about = {"model_name": name, "model_version": _version(task)}

    def response(names: Sequence[str], answers: Sequence[Any], tokens: int) -> Response:
        made = [embedding_tensor(answers)] if EMBEDDING in wanted.outputs else answer_tensors(answers)
        return _response(about, made, wanted)

    return Question(
        size=max((len(tensor.values) for tensor in tensors if tensor.values.ndim), default=1),
        answer="embed" if EMBEDDING in wanted.outputs else "records",
        inputs=partial(inputs_from, tensors, task, served, limits),
        response=response,
    )


def _parsed(body: bytes, length: str | None, limits: Limits) -> tuple[list[Tensor], Wanted]:
    """Tensors of a request, and what it wants. Raises RefusedError."""
    size = len(body) if length is None else int(length) if length.isdecimal() and len(length) < 10 else -1
    if not 0 < size <= len(body):
        raise RefusedError(400, f"{JSON_LENGTH} is {length!s:.20}; expected the length of the JSON before the tensors.")
    content = parse_json(body[:size], limits)
    inputs = content.get("inputs") if isinstance(content, dict) else None
    if not isinstance(inputs, list) or not inputs:
        raise RefusedError(400, 'Expected {"inputs": [...]}, one tensor or more.')
    tensors = []
    rest = memoryview(body)[size:]
    for item in inputs:
        tensor, rest = tensor_of(item, rest)
        tensors.append(tensor)
    if len(rest):
        raise RefusedError(400, f"{len(rest):,} bytes follow the tensors; expected none.")
    return tensors, _wanted(content)


def _wanted(content: Mapping[str, Any]) -> Wanted:
    parameters = content.get("parameters") or {}
    outputs = content.get("outputs") or []
    if not isinstance(parameters, dict) or not isinstance(outputs, list):
        raise RefusedError(400, "Expected parameters as an object, and outputs as a list of tensors.")
    binary = parameters.get("binary_data_output") is True
    wanted: dict[str, bool] = {}
    for item in outputs:
        name = item.get("name") if isinstance(item, dict) else None
        options = item.get("parameters", {}) if isinstance(item, dict) else {}
        if not isinstance(name, str) or not isinstance(options, dict):
            raise RefusedError(400, f"An output is {short(item)}; expected an object with a name.")
        if options.get("classification"):
            raise RefusedError(400, f"Output {name[:100]}: no classification; labels are a parameter of the tensor.")
        wanted[name] = options.get("binary_data", binary) is True
    if EMBEDDING in wanted and len(wanted) > 1:
        raise RefusedError(400, f"The output {EMBEDDING} cannot be had with others; send two requests.")
    request_id = content.get("id")
    return Wanted(outputs=wanted, binary=binary, id=request_id if isinstance(request_id, str) else None)


def _response(about: Mapping[str, str], tensors: Sequence[Tensor], wanted: Wanted) -> Response:
    """Make a response of the wanted tensors. Raises RefusedError (400) if the task does not give one of them."""
    by_name = {tensor.name: tensor for tensor in tensors}
    for name in wanted.outputs:
        if name not in by_name:
            raise RefusedError(400, unknown("output", name[:100], [*by_name, EMBEDDING]))
    outputs: list[dict[str, Any]] = []
    parts: list[bytes] = []
    for name, binary in (wanted.outputs or dict.fromkeys(by_name, wanted.binary)).items():
        if binary:
            description, values = by_name[name].as_binary()
            outputs.append(description)
            parts.append(values)
        else:
            outputs.append(by_name[name].as_json())
    content: dict[str, Any] = {**about, **({} if wanted.id is None else {"id": wanted.id}), "outputs": outputs}
    if not parts:
        return json_response(content)
    head = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    headers = {JSON_LENGTH: str(len(head))}
    return Response(b"".join([head, *parts]), media_type="application/octet-stream", headers=headers)
