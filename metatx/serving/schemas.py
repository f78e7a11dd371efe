"""Schemas of requests and responses, and the OpenAPI document."""

from collections.abc import Iterable, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ConfigDict, Field

import metatx
from metatx.serving.arrays import ENCODED, NPY, forms_of, takes_arrays
from metatx.serving.arrow import ARROW
from metatx.serving.catalog import Catalog, Served, ServedInput

__all__ = ["Alias", "Problem", "TaskDetail", "TaskList", "TaskSummary", "detail_of", "document", "summary_of"]

ABOUT = "Many tasks of any modality on one frozen backbone. Inputs of different tasks go through it in one pass."


class Problem(BaseModel):
    """Reason of an error, in one line."""

    detail: str


class InputSummary(BaseModel):
    """An input of a task with several."""

    model_config = ConfigDict(from_attributes=True)
    name: str
    modality: str
    files: list[str] = Field(description="Suffixes of the files that the input takes.")


class TaskSummary(BaseModel):
    """Summary of a task."""

    name: str
    modality: str = Field(description="Kind of data; of several inputs, the kinds of all with commas.")
    inputs: list[InputSummary] = Field(
        description="Inputs of a task with several, in order: what it is asked is an object of these, by name, null or "
        "absent where missing. Empty for a task of one modality."
    )
    head: str
    tune: str = Field(description="Part of the backbone that was trained for the task: frozen (none), norm or lora.")
    reads: list[str] = Field(description="Columns of a table that the task was trained with.")
    predicts: str | None
    files: list[str] = Field(description="Suffixes of the files that the task takes.")


class TaskList(BaseModel):
    """The tasks of the server."""

    tasks: list[TaskSummary]
    aliases: dict[str, str] = Field(description="Names that stand for a version.")
    refused: dict[str, str] = Field(description="Tasks of the folder that could not be loaded, and why.")


class TaskDetail(TaskSummary):
    """All that a client needs to use a task."""

    model_config = ConfigDict(populate_by_name=True)
    card: str = Field(description="Model card, in Markdown.")
    metrics: dict[str, dict[str, float | None]]
    input_schema: dict[str, Any] = Field(description="JSON Schema of one input.")
    example: Any = Field(description="One input, or null where the task gives none.")
    backbone: str


class Alias(BaseModel):
    """Target of an alias."""

    version: str = Field(description="NAME@VERSION")


def summary_of(name: str, task: Served) -> TaskSummary:
    """Summarise a task."""
    return TaskSummary(**_summary(name, task))


def detail_of(name: str, task: Served) -> TaskDetail:
    """Describe a task."""
    return TaskDetail(
        **_summary(name, task),
        card=task.card,
        metrics=task.config["metrics"],
        input_schema=task.sample.schema,
        example=task.sample.example,
        backbone=task.config["backbone"]["spec"],
    )


def _summary(name: str, task: Served) -> dict[str, Any]:
    config = task.config
    return {
        "name": name,
        "modality": task.modality,
        "inputs": list(map(InputSummary.model_validate, task.inputs)),
        "head": config["head"]["name"],
        "tune": config["tune"],
        "reads": config["inputs"],
        "predicts": config["target"],
        "files": list(task.files),
    }


def document(app: FastAPI, catalog: Catalog) -> dict[str, Any]:
    """Build the OpenAPI document, with a path for each task and the schema of its inputs."""
    openapi = get_openapi(title="metatx", version=metatx.__version__, description=ABOUT, routes=app.routes)
    paths = openapi["paths"]
    schemas = openapi["components"]["schemas"]
    served = {**catalog.served, **{a: catalog.served[n] for a, n in catalog.aliases.items() if n in catalog.served}}
    asked = []
    for name, task in sorted(served.items()):
        component = f"input.{name.replace('@', '-at-')}"
        schemas[component] = {"description": f"One input of {name}."} | _with_arrays(task.sample.schema)
        reference = {"$ref": f"#/components/schemas/{component}"}
        asked.append(_record({"task": {"const": name}, "input": reference}))
        for action in ("predict", "embed"):
            general = paths[f"/v1/tasks/{{task}}/{action}"]["post"]
            operation = {key: value for key, value in general.items() if key != "parameters"}
            operation |= {"operationId": f"{action} {name}", "summary": f"{action.capitalize()} with {name}"}
            body = _body(reference, bool(task.files), task.sample.example, task.inputs)
            rows = {"type": "string", "contentMediaType": ARROW, "description": "Rows with the task's columns."}
            body["content"][ARROW] = {"schema": rows}
            if takes_arrays(task.sample.schema):
                array = {"type": "string", "contentMediaType": NPY, "description": "Array of inputs (B, ...)."}
                body["content"][NPY] = {"schema": array}
            operation |= {"requestBody": _may_stream(body) if action == "predict" else body}
            if task.inputs:
                operation["description"] = f"{general['description']} {_said(task.inputs)}"
            operation |= {"responses": {**general["responses"], "200": _answered(action, name, task.sample.answer)}}
            paths[f"/v1/tasks/{name}/{action}"] = {"post": operation}
    for action in ("predict", "embed"):
        general = paths[f"/v1/tasks/{{task}}/{action}"]["post"]
        general |= {"requestBody": _may_stream(_body({}, True)) if action == "predict" else _body({}, True)}
        general["responses"]["200"] = _answered(action)
    paths["/v1/predict"]["post"]["requestBody"] = _may_stream(_body({"anyOf": asked} if asked else {}, False))
    return openapi


def _with_arrays(schema: dict[str, Any]) -> dict[str, Any]:
    """Schema that allows an array in base64 too, where it allows nested lists of numbers."""
    if not schema or not takes_arrays(schema):
        return schema
    beside: dict[str, Any] = {name: schema[name] for name in ("description", "examples") if name in schema}
    form = {name: value for name, value in schema.items() if name not in (*beside, "anyOf")}
    return {**beside, "anyOf": [*(forms_of(schema) if "anyOf" in schema else [form]), ENCODED]}


def _record(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _answered(action: str, name: str = "", answer: Any = None) -> dict[str, Any]:
    """Describe the response to a task's inputs; an answer that is known gives the names of its columns."""
    if action == "embed":
        vector = {"type": "array", "items": {"type": ["number", "null"]}}
        schema = _record({"task": {"type": "string"}, "embeddings": {"type": "array", "items": vector}})
        return {"description": "Vectors.", "content": {"application/json": {"schema": schema}}}
    row = {"type": "object"} | ({} if answer is None else {"required": list(answer)})
    schema = _record({"task": {"type": "string"}, "answers": {"type": "array", "items": row}})
    content: dict[str, Any] = {"schema": schema}
    if answer is not None:
        content["example"] = {"task": name, "answers": [answer]}
    return {"description": "Answers.", "content": {"application/json": content}}


def _said(inputs: Sequence[ServedInput]) -> str:
    """Describe the inputs of a task with several."""
    parts = [
        f"{part.name} ({', '.join([part.modality, *part.files])})"  # a modality, and suffixes of files
        for part in inputs
    ]
    said = (
        f"An input is an object of {', '.join(parts)}, or a row of their columns; null or absent is missing, and at "
        "least one must be there."
    )
    if not any(part.files for part in inputs):
        return said
    example = next(part.name for part in inputs if part.files)
    return f"{said} A form holds files as parts INDEX.NAME, such as 0.{example}, and the rest as JSON in a part inputs."


def _body(
    item: dict[str, Any], with_files: bool, example: Any = None, several: Sequence[ServedInput] = ()
) -> dict[str, Any]:
    inputs = {"type": "array", "items": item, "minItems": 1}
    content: dict[str, Any] = {"application/json": {"schema": _record({"inputs": inputs})}}
    if example is not None:
        content["application/json"]["example"] = {"inputs": [example]}
    if with_files:
        file = {"type": "string", "contentMediaType": "application/octet-stream"}
        content["multipart/form-data"] = {"schema": _record({"file": {"type": "array", "items": file}})}
    if with_files and several:
        names = "|".join(part.name for part in several if part.files)
        schema = {
            "type": "object",
            "properties": {"inputs": inputs},
            "patternProperties": {f"^[0-9]+\\.({names})$": file},
            "additionalProperties": False,
            "minProperties": 1,
        }
        encoding = {"inputs": {"contentType": "application/json"}}
        content["multipart/form-data"] = {"schema": schema, "encoding": encoding}
    return {"required": True, "content": content}


def _may_stream(body: dict[str, Any]) -> dict[str, Any]:
    """Describe a body that may ask for events, see ``metatx.serving.streaming``."""
    properties = body["content"]["application/json"]["schema"]["properties"]
    properties["stream"] = {"type": "boolean", "description": "Answer by server-sent events."}
    return body


def problems(statuses: Iterable[int]) -> dict[int | str, dict[str, Any]]:
    """Describe the responses of these statuses, for FastAPI."""
    return {status: {"model": Problem} for status in statuses}
