"""Bodies of requests, JSON or forms with files, read within the limits."""

import re
from collections.abc import Sequence
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import pyarrow as pa
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, UploadFile
from starlette.requests import Request

from metatx.errors import SampleError, short
from metatx.serving.arrays import NPY, array_of
from metatx.serving.arrow import ARROW, table_of
from metatx.serving.catalog import Catalog, Served
from metatx.serving.inputs import (
    FIELDS,
    FileInput,
    FormInput,
    Input,
    JsonInput,
    array_inputs,
    mixed_inputs,
    parse_json,
    table_inputs,
    task_inputs,
)
from metatx.serving.limits import Limits, RefusedError

__all__ = ["FORM", "Body", "content_kind", "inputs_of", "read_body"]

Parts = list[tuple[str, UploadFile | str]]
Body: TypeAlias = bytes | Parts | np.ndarray | pa.Table

FORM = "multipart/form-data"
INPUT = "input"  # name of a part with a sample as JSON, in a form for one task
FILE = "file"  # name of a part with a file
# Parts of a form for a task of several inputs: the samples as JSON, and files named by sample and input.
INPUTS = "inputs"
PLACED = re.compile(r"([0-9]{1,6})\.(.+)", re.DOTALL)


def content_kind(headers: Headers) -> str:
    """Return the media type of the body, in lower case and without parameters; empty if there is none."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_body(request: Request, limits: Limits) -> Body:
    """Read JSON as bytes, a form as its parts, npy as its array, an Arrow stream as its table.

    Raises:
        RefusedError: 415 for another media type, 400 if npy or Arrow cannot be read; those of ``table_of``.
    """
    kind = content_kind(request.headers)
    if kind == FORM:
        most = limits.samples
        form = await request.form(max_files=most, max_fields=most, max_part_size=round(limits.json_mb * 1e6))
        return form.multi_items()
    if kind == "application/json":
        return await request.body()
    if kind == NPY:
        try:
            return array_of(await request.body())
        except SampleError as error:
            raise RefusedError(400, str(error)) from error
    if kind == ARROW:
        return await run_in_threadpool(table_of, await request.body(), limits)
    given = f"The body is {kind[:100]}" if kind else "The request has no content-type"
    raise RefusedError(415, f"{given}; send application/json, {NPY}, {ARROW}, or a form with files.")


def inputs_of(
    body: Body, task: str | None, catalog: Catalog, limits: Limits, fields: Sequence[str] = FIELDS
) -> list[Input]:
    """Parse a body to its inputs, each with the name of its task, aliases resolved.

    Args:
        body: Body as ``read_body`` gives it.
        task: Name of the task of all inputs; None if the request names a task for each.
        catalog: Tasks that are served.
        limits: Limits of a request.
        fields: Fields of JSON that a message names.

    Raises:
        RefusedError: If there are too many inputs, or the body does not have the expected form.
        UnknownTaskError: If there is no such task.
    """
    served = None if task is None else catalog.served.get(task)
    if isinstance(body, np.ndarray):
        if task is None:
            raise RefusedError(415, f"{NPY} holds inputs of one task; send it to /v1/tasks/NAME/predict.")
        inputs = array_inputs(body, task, served.sample.schema if served else {}, limits)
    elif isinstance(body, pa.Table):
        if task is None:
            raise RefusedError(415, f"{ARROW} holds rows of one task; send it to /v1/tasks/NAME/predict.")
        named = served is not None and bool(served.inputs or served.config["inputs"])
        inputs = table_inputs(body, task, named, limits)
    elif isinstance(body, bytes):
        content = parse_json(body, limits)
        inputs = mixed_inputs(content, fields) if task is None else task_inputs(content, task, fields)
    else:
        _check_json(body, limits)
        if served is not None and served.inputs:
            inputs = _samples_from_form(body, str(task), served, limits)
        else:
            inputs = _from_form(body, task, limits)
    if len(inputs) > limits.samples:
        raise RefusedError(413, f"{len(inputs):,} inputs; expected at most {limits.samples:,}.")
    return [item.of(catalog.resolve(item.task)) for item in inputs]


def _check_json(parts: Parts, limits: Limits) -> None:
    """Refuse a form with too much JSON. Raises RefusedError (413)."""
    if sum(len(part) for _, part in parts if isinstance(part, str)) > limits.json_mb * 1e6:
        raise RefusedError(413, f"The JSON parts have more than {limits.json_mb:g} megabytes; send files, or fewer.")


def _from_form(parts: Parts, task: str | None, limits: Limits) -> list[Input]:
    """Parse the parts of a form: files, or samples as JSON.

    For one task the parts are named ``file`` and ``input``; for several each is named by its task.
    """
    inputs: list[Input] = []
    for name, part in parts:
        expected = FILE if isinstance(part, UploadFile) else INPUT
        if task is not None and name != expected:
            raise RefusedError(422, f"The form has a part {name[:100]!r}; expected {FILE} (files), {INPUT} (JSON).")
        task_name = name if task is None else task
        if isinstance(part, UploadFile):
            inputs.append(FileInput(task_name, part.filename or "", part.file))
        else:
            inputs.append(JsonInput(task_name, parse_json(part.encode(), limits)))
    if not inputs:
        raise RefusedError(422, "The form is empty; expected one part or more.")
    return inputs


def _samples_from_form(parts: Parts, task: str, served: Served, limits: Limits) -> list[Input]:
    """Parse the parts of a form for a task of several inputs, sample by sample.

    The part ``inputs`` is a JSON array of objects of inputs; a part ``INDEX.NAME`` is the file of an input of one of
    them, or of a further sample.
    """
    values: list[Any] = []
    files: dict[int, dict[str, tuple[str, BinaryIO]]] = {}
    seen: set[str] = set()
    for name, part in parts:
        placed = PLACED.fullmatch(name)
        if name in seen:
            raise RefusedError(422, f"The form has two parts {name[:100]!r}; expected one.")
        seen.add(name)
        if placed and isinstance(part, UploadFile):
            files.setdefault(int(placed[1]), {})[placed[2]] = part.filename or "", part.file
        elif name == INPUTS and isinstance(part, str):
            values = parse_json(part.encode(), limits)
            if not isinstance(values, list):
                raise RefusedError(422, f"The part inputs is {short(values)}; expected an array of objects.")
        else:
            kind = "file" if isinstance(part, UploadFile) else "field"
            raise RefusedError(
                422,
                f"The form has a {kind} {name[:100]!r}; expected files named INDEX.NAME, such as "
                f"0.{served.inputs[0].name}, and other inputs as JSON in a field inputs: an array of objects.",
            )
    count = max([len(values), *(at + 1 for at in files)], default=0)
    if not count:
        raise RefusedError(422, "The form is empty; expected one part or more.")
    if count > limits.samples:
        raise RefusedError(413, f"{count:,} inputs; expected at most {limits.samples:,}.")
    values += [None] * (count - len(values))
    return [_sample(task, at, value, files.get(at, {})) for at, value in enumerate(values)]


def _sample(task: str, at: int, value: Any, files: dict[str, tuple[str, BinaryIO]]) -> Input:
    """One sample of a form. Raises RefusedError (422) if it is no object, or an input came twice."""
    value = {} if value is None else value
    if not isinstance(value, dict):
        raise RefusedError(422, f"inputs[{at}] is {short(value)}; expected an object of inputs by name.")
    for name in files:
        if value.get(name) is not None:
            raise RefusedError(422, f"inputs[{at}]: input {name[:100]} came as a file and as JSON; expected one.")
    return FormInput(task, value, files) if files else JsonInput(task, value)
