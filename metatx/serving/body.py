"""Reading the body of a request within the limits, as JSON or as a form with files."""

from starlette.datastructures import Headers, UploadFile
from starlette.requests import Request

from metatx.serving.catalog import Catalog
from metatx.serving.inputs import FileInput, Input, JsonInput, mixed_inputs, parse_json, task_inputs
from metatx.serving.limits import Limits, RefusedError

__all__ = ["FORM", "Body", "content_kind", "inputs_of", "read_body"]

Parts = list[tuple[str, UploadFile | str]]
Body = bytes | Parts

FORM = "multipart/form-data"
ONE, FILE = "input", "file"  # parts of a form for one task: a sample as JSON, a file


def content_kind(headers: Headers) -> str:
    """What the body is said to be."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_body(request: Request, limits: Limits) -> Body:
    """The body, or its parts, as they came. Raises RefusedError (415) if it is of another kind."""
    kind = content_kind(request.headers)
    if kind == FORM:
        most = limits.samples
        form = await request.form(max_files=most, max_fields=most, max_part_size=round(limits.json_mb * 1e6))
        return form.multi_items()
    if kind == "application/json":
        return await request.body()
    raise RefusedError(415, f"The body is {kind[:100] or 'of no kind'}; send application/json, or a form with files.")


def inputs_of(body: Body, task: str | None, catalog: Catalog, limits: Limits) -> list[Input]:
    """The inputs for one task, or, where that is None, for those that the request names.

    Raises:
        RefusedError: If they are too many, or the body does not have the expected form.
        UnknownTaskError: If there is no such task.
    """
    if isinstance(body, bytes):
        found = parse_json(body, limits)
        inputs = mixed_inputs(found) if task is None else task_inputs(found, task)
    else:
        inputs = _from_form(body, task, limits)
    if len(inputs) > limits.samples:
        raise RefusedError(413, f"{len(inputs):,} inputs; expected at most {limits.samples:,}.")
    return [one.of(catalog.resolve(one.task)) for one in inputs]


def _from_form(parts: Parts, task: str | None, limits: Limits) -> list[Input]:
    """Parts ``file`` and ``input`` for one task; for several, parts of their names: files, or samples as JSON."""
    inputs: list[Input] = []
    if sum(len(part) for _, part in parts if isinstance(part, str)) > limits.json_mb * 1e6:
        raise RefusedError(413, f"The JSON parts have more than {limits.json_mb:g} megabytes; send files, or fewer.")
    for name, part in parts:
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
