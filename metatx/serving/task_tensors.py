"""Inputs of tasks as tensors of the Open Inference Protocol: what a model takes, and the inputs of a request."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import orjson

from metatx.registry import lookup, unknown
from metatx.serving.arrays import encoded, forms_of, numeric_axes
from metatx.serving.catalog import Served
from metatx.serving.file_checks import HEAD
from metatx.serving.inputs import FileInput, FormInput, Input, JsonInput
from metatx.serving.limits import Limits, RefusedError
from metatx.serving.tensors import BYTES, Tensor

__all__ = ["TensorInput", "inputs_from", "tensor_inputs"]

WHOLE = "input"  # name of the tensor of a task whose sample has no name
ABOUT = {
    "file": "content of a file",
    "text": "text in UTF-8",
    "json": "JSON",
    "array": "numbers, of any datatype",
    "cell": "a cell of the row; NaN or no bytes where it is missing",
}


@dataclass(frozen=True, kw_only=True)
class TensorInput:
    """A tensor that a task takes.

    Attributes:
        name: Name of the task's input, or of its column.
        datatype: Datatype that is told; numbers may come in any other.
        axes: Axes of a sample.
        kind: Form of an item of it.
        files: Suffixes of the files that items may be.
        modality: Name of the tokenizer that reads them.
    """

    name: str
    datatype: str
    axes: int
    kind: Literal["file", "text", "json", "array", "cell"]
    files: Sequence[str] = ()
    modality: str = ""

    def described(self) -> dict[str, Any]:
        """Metadata of the tensor; the parameters say what an item is."""
        about: dict[str, Any] = {"content": ABOUT[self.kind]}
        if self.files:
            about["files"] = list(self.files)
        shape = [-1] * (1 + self.axes)
        return {"name": self.name, "datatype": self.datatype, "shape": shape, "parameters": about}


def tensor_inputs(served: Served) -> list[TensorInput]:
    """Tensors that a task takes: one an input; of a task that reads a row, one a column."""
    schema = served.sample.schema
    if served.inputs:
        parts = schema.get("properties", {})
        return [_whole(part.name, parts.get(part.name, {}), part.files, part.modality) for part in served.inputs]
    cells = _cells(schema)
    if cells:
        return [TensorInput(name=name, datatype=_cell_type(cell), axes=0, kind="cell") for name, cell in cells.items()]
    columns = served.config["inputs"]
    name = columns[0] if len(columns) == 1 else WHOLE
    return [_whole(name, schema, served.files, served.modality)]


def _whole(name: str, schema: Mapping[str, Any], files: Sequence[str], modality: str) -> TensorInput:
    forms = list(forms_of(schema))
    axes = max(map(numeric_axes, forms), default=0)
    if any(form.get("type") == "string" for form in forms):
        return TensorInput(name=name, datatype=BYTES, axes=0, kind="text")
    if files:
        return TensorInput(name=name, datatype=BYTES, axes=0, kind="file", files=files, modality=modality)
    if axes:
        return TensorInput(name=name, datatype="FP32", axes=axes, kind="array")
    return TensorInput(name=name, datatype=BYTES, axes=0, kind="json")


def _cells(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Schemas of the cells of a row by column; empty if a sample is no row of single values."""
    cells: Mapping[str, Any] = schema.get("properties", {}) if schema.get("type") == "object" else {}
    kinds = [cell.get("type") for cell in cells.values()]
    return cells if all(kind and not {"array", "object"} & _types(kind) for kind in kinds) else {}


def _types(kind: Any) -> set[str]:
    return {kind} if isinstance(kind, str) else set(kind)


def _cell_type(cell: Mapping[str, Any]) -> str:
    kinds = _types(cell["type"]) - {"null"}
    return "FP64" if kinds <= {"number", "integer"} else "BOOL" if kinds == {"boolean"} else BYTES


def inputs_from(tensors: Sequence[Tensor], task: str, served: Served, limits: Limits) -> list[Input]:
    """Inputs of a request, from its tensors, whose first axis counts them.

    Raises:
        RefusedError: 400 if the tensors are not those that the task takes, 413 if there are too many samples, 415 if
            bytes are no file of a kind that the task takes, 422 if they are no text or no JSON.
    """
    taken = {tensor.name: tensor for tensor in tensor_inputs(served)}
    for tensor in tensors:
        if tensor.name not in taken:
            raise RefusedError(400, unknown("tensor", tensor.name[:100], list(taken)))
        if not tensor.values.ndim:
            raise RefusedError(400, f"Tensor {tensor.name} has no axes; the first counts the samples.")
    given = {tensor.name: tensor.values for tensor in tensors}
    counts = {len(values) for values in given.values()}
    if len(given) != len(tensors) or len(counts) != 1 or 0 in counts:
        raise RefusedError(400, "Expected each tensor once, of one sample or more, and of equally many samples.")
    (count,) = counts
    if count > limits.samples:
        raise RefusedError(413, f"{count:,} inputs; expected at most {limits.samples:,}.")
    most = round(limits.json_mb * 1e6) // 2
    for name, values in given.items():
        if values.dtype != object and values[0].size > most:
            raise RefusedError(
                413, f"Tensor {name}: a sample has {values[0].size:,} numbers; expected at most {most:,}."
            )
    rows = [{name: _value(taken[name], values[at]) for name, values in given.items()} for at in range(count)]
    if not served.inputs and next(iter(taken.values())).kind != "cell":
        return [_input(task, value) for row in rows for value in row.values()]
    return [_of_several(task, row) for row in rows]


def _value(tensor: TensorInput, value: Any) -> Any:
    """Value of an item of a tensor: that of its JSON, an array, or a file by its suffix; None if it is missing."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        if value.size != 1:
            raise RefusedError(400, f"Tensor {tensor.name}: {value.size} items in a sample; expected one.")
        value = value.item()
    if isinstance(value, bytes):
        return _of_bytes(tensor, value)
    if tensor.kind != "cell":
        return value if value.ndim else value.item()
    if value.size != 1:
        raise RefusedError(400, f"Tensor {tensor.name}: {value.size} values in a sample; expected one cell.")
    cell = value.item()
    return None if cell != cell else cell


def _of_bytes(tensor: TensorInput, item: bytes) -> Any:
    if not item:
        return None
    if tensor.kind == "file":
        signatures = lookup("tokenizers", tensor.modality).signatures
        suffix = next((suffix for suffix in tensor.files if signatures[suffix](item[:HEAD])), None)
        if suffix is None:
            raise RefusedError(415, f"Tensor {tensor.name}: the bytes are no file of {', '.join(tensor.files)}.")
        return FileInput("", f"file{suffix}", io.BytesIO(item))
    try:
        return item.decode() if tensor.kind in ("text", "cell") else orjson.loads(item)
    except (UnicodeDecodeError, orjson.JSONDecodeError) as error:
        expected = "UTF-8" if tensor.kind in ("text", "cell") else "JSON"
        raise RefusedError(422, f"Tensor {tensor.name}: the bytes are no {expected} ({error!s:.100}).") from None


def _input(task: str, value: Any) -> Input:
    return value.of(task) if isinstance(value, FileInput) else JsonInput(task, value)


def _of_several(task: str, row: Mapping[str, Any]) -> Input:
    """Sample of several inputs, or of the cells of a row."""
    files = {name: (value.name, value.content) for name, value in row.items() if isinstance(value, FileInput)}
    values = {
        name: encoded(value) if isinstance(value, np.ndarray) else value
        for name, value in row.items()
        if name not in files
    }
    return FormInput(task, values, files) if files else JsonInput(task, values)
