"""Reading the body of a request within the limits, as JSON or as a form with files."""

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.types import Message, Receive

from metatx.serving.catalog import Catalog
from metatx.serving.inputs import FileInput, Input, JsonInput, mixed_inputs, parse_json, task_inputs
from metatx.serving.limits import Limits, RefusedError

__all__ = ["FORM", "announced_size", "content_kind", "read_inputs"]

FORM = "multipart/form-data"
ONE, FILE = "input", "file"  # parts of a form for one task: a sample as JSON, a file


def announced_size(request: Request, limits: Limits) -> int:
    """Bytes of the body; the most there may be, where the request does not say. Raises RefusedError (413)."""
    length = request.headers.get("content-length", "")
    most = round(limits.body_mb * 1e6)
    if length.isdigit() and int(length) > most:
        raise _too_large(limits)
    return int(length) if length.isdigit() else most


def content_kind(request: Request) -> str:
    """What the body is said to be."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_inputs(request: Request, task: str | None, catalog: Catalog, limits: Limits) -> list[Input]:
    """The inputs for one task, or, where that is None, for those that the request names.

    Raises:
        RefusedError: If the body is too large, of another kind, or does not have the expected form.
        UnknownTaskError: If there is no such task.
    """
    limited = Request(request.scope, _limited(request.receive, limits))
    kind = content_kind(request)
    if kind == FORM:
        inputs = await _from_form(limited, task, limits)
    elif kind == "application/json":
        body = parse_json(await limited.body(), limits)
        inputs = mixed_inputs(body) if task is None else task_inputs(body, task)
    else:
        raise RefusedError(
            415, f"The body is {kind[:100] or 'of no kind'}; send application/json, or a form with files."
        )
    if len(inputs) > limits.samples:
        raise RefusedError(413, f"{len(inputs):,} inputs; expected at most {limits.samples:,}.")
    return [one.of(catalog.resolve(one.task)) for one in inputs]


async def _from_form(request: Request, task: str | None, limits: Limits) -> list[Input]:
    """Parts ``file`` and ``input`` for one task; for several, parts of their names: files, or samples as JSON."""
    most = limits.samples
    form = await request.form(max_files=most, max_fields=most, max_part_size=round(limits.json_mb * 1e6))
    inputs: list[Input] = []
    for name, part in form.multi_items():
        known = name == (FILE if isinstance(part, UploadFile) else ONE)
        if task is not None and not known:
            raise RefusedError(422, f"The form has a part {name[:100]!r}; expected {FILE} (files), {ONE} (JSON).")
        own = name if task is None else task
        if isinstance(part, UploadFile):
            inputs.append(FileInput(own, part.filename or "", part.file))
        else:
            inputs.append(JsonInput(own, parse_json(part.encode(), limits)))
    if not inputs:
        raise RefusedError(422, "The form is empty; expected one part or more.")
    return inputs


def _limited(receive: Receive, limits: Limits) -> Receive:
    room = round(limits.body_mb * 1e6)

    async def counted() -> Message:
        nonlocal room
        message = await receive()
        room -= len(message.get("body", b""))
        if room < 0:
            raise _too_large(limits)
        return message

    return counted


def _too_large(limits: Limits) -> RefusedError:
    return RefusedError(413, f"The request has more than {limits.body_mb:g} megabytes.")
