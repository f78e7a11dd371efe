"""Inputs of a request, as JSON or as files of a form, each for one task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Protocol

import numpy as np
import orjson
import pyarrow as pa

from metatx.errors import SampleError
from metatx.inputs.inputs import Inputs
from metatx.pool.requests import read
from metatx.registry import unknown
from metatx.serving.arrays import forms_of, takes_arrays
from metatx.serving.arrow import rows_of
from metatx.serving.file_checks import of_input, suffix_of
from metatx.serving.limits import Limits, RefusedError
from metatx.serving.readers import EncodedSample, Readers, ReadRequest
from metatx.serving.samples import received

__all__ = [
    "FileInput",
    "FormInput",
    "Input",
    "JsonInput",
    "array_inputs",
    "mixed_inputs",
    "parse_json",
    "table_inputs",
    "task_inputs",
]

FIELDS = ("inputs",)  # of the JSON of a request


class Input(Protocol):
    """One input of a request: one sample, or a file that may hold many."""

    @property
    def task(self) -> str:
        """Name of the task that is to answer the input."""
        ...

    def of(self, task: str) -> "Input":
        """Copy the input for a task of another name."""
        ...

    def samples(self, wanted: ReadRequest, readers: Readers) -> Sequence[EncodedSample]:
        """Read and encode the samples of the input.

        Args:
            wanted: Task, and limits of the reading.
            readers: Processes for bytes of strangers that may crash a parser.

        Raises:
            RefusedError: If the input is beyond the limits, or a file of a kind that the task does not take.
            ValueError: If the input cannot be read.
        """
        ...


@dataclass(frozen=True)
class JsonInput:
    """A sample as JSON, or as an array."""

    task: str
    value: Any

    def of(self, task: str) -> "JsonInput":
        """Copy the input for a task of another name."""
        return replace(self, task=task)

    def samples(self, wanted: ReadRequest, readers: Readers) -> Sequence[EncodedSample]:
        """Encode the one sample; only the task's input columns of a row are read."""
        task = wanted.loaded.task
        if task.tokenizer.isolated:
            value = self.value.tolist() if isinstance(self.value, np.ndarray) else self.value
            return readers.value(value, wanted)
        [encoded], extents = read(task, [received(self.value, task)], [0], wanted.extents)
        return [(encoded, extents)]


@dataclass(frozen=True)
class FileInput:
    """A file that was sent; only the suffix of its name is used."""

    task: str
    name: str
    content: BinaryIO

    def of(self, task: str) -> "FileInput":
        """Copy the input for a task of another name."""
        return replace(self, task=task)

    def samples(self, wanted: ReadRequest, readers: Readers) -> Sequence[EncodedSample]:
        """Encode the samples that the file holds."""
        tokenizer = wanted.loaded.task.tokenizer
        if isinstance(tokenizer, Inputs):
            raise RefusedError(
                422,
                f"The task {self.task} has several inputs ({', '.join(tokenizer.inputs)}); send it to "
                f"/v1/tasks/{self.task}/predict, each file as a part INDEX.NAME, such as 0.{tokenizer.main}.",
            )
        suffix = suffix_of(self.name, tokenizer)
        self.content.seek(0)
        return readers.file(self.content, suffix, wanted)


@dataclass(frozen=True)
class FormInput:
    """A sample of several inputs, some of them files that were sent; only the suffixes of their names are used.

    Attributes:
        task: Name of the task.
        value: Inputs that came as JSON, by name.
        files: Name and content of the file of each other input, by the name of the input.
    """

    task: str
    value: Mapping[str, Any]
    files: Mapping[str, tuple[str, BinaryIO]]

    def of(self, task: str) -> "FormInput":
        """Copy the input for a task of another name."""
        return replace(self, task=task)

    def samples(self, wanted: ReadRequest, readers: Readers) -> Sequence[EncodedSample]:
        """Encode the one sample."""
        tokenizer = wanted.loaded.task.tokenizer
        names = list(tokenizer.inputs) if isinstance(tokenizer, Inputs) else []
        files: dict[str, tuple[BinaryIO, str]] = {}
        for key, (sent, content) in self.files.items():
            name = next((name for name in names if key in _names(tokenizer, name)), None)
            if not isinstance(tokenizer, Inputs) or name is None:
                raise SampleError(unknown("input", key[:60], names))
            with of_input(name):
                files[name] = content, suffix_of(sent, tokenizer.tokenizer(name))
            content.seek(0)
        return readers.sample(self.value, files, wanted)


def _names(tokenizer: Any, name: str) -> tuple[str, ...]:
    """Names by which the file of an input may be sent: its own, and that of its column if it has one."""
    return (name, *(tokenizer.columns(name) if tokenizer.one_column(name) else ()))


def parse_json(content: bytes, limits: Limits) -> Any:
    """Parse strict JSON. Raises RefusedError: 400 if it is none, 413 if there is too much."""
    if len(content) > limits.json_mb * 1e6:
        raise RefusedError(413, f"The JSON has more than {limits.json_mb:g} megabytes; send files, or fewer inputs.")
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise RefusedError(400, f"The JSON cannot be read: {error}; write a missing value as null, not NaN.") from None


def array_inputs(array: np.ndarray, task: str, schema: Mapping[str, Any], limits: Limits) -> list[Input]:
    """Read inputs for one task from an array whose first axis counts them.

    Args:
        array: Samples (B, ...), of any type of number.
        task: Name of the task.
        schema: JSON Schema of one input.
        limits: Limits of a request; a sample may hold as many numbers as JSON has room for.

    Raises:
        RefusedError: 415 if no input of the task is an array, 422 if there is no sample, 413 if one is too large.
    """
    if not takes_arrays(schema):
        parts = {name: part for form in forms_of(schema) for name, part in form.get("properties", {}).items()}
        arrays = [name for name, part in parts.items() if takes_arrays(part)]
        if not arrays:
            raise RefusedError(415, f"No input of {task} is an array of numbers; send JSON, or a form with files.")
        raise RefusedError(
            415,
            f"An npy body goes to a task of one input; {task} has {', '.join(parts)}. Send JSON, in which an array "
            f'stands as {{"inputs": [{{"{arrays[0]}": {{"npy": BASE64}}, ...}}]}}, or a form with files.',
        )
    if not array.ndim or not len(array):
        raise RefusedError(422, f"The array has shape {array.shape}; expected one sample or more along the first axis.")
    if len(array) > limits.samples:
        raise RefusedError(413, f"{len(array):,} inputs; expected at most {limits.samples:,}.")
    most = round(limits.json_mb * 1e6) // 2
    if array[0].size > most:
        raise RefusedError(413, f"A sample has {array[0].size:,} numbers; expected at most {most:,}; send a file.")
    return [JsonInput(task, value) for value in (array if array.ndim > 1 else array.tolist())]


def table_inputs(table: pa.Table, task: str, named: bool, limits: Limits) -> list[Input]:
    """Read inputs for one task from the rows of a table.

    Args:
        table: Table as ``metatx.serving.arrow`` gives it.
        task: Name of the task.
        named: True if the task reads columns by name; otherwise the values of a single column are the samples.
        limits: Limits of a request.

    Raises:
        RefusedError: If a value cannot be used, see ``rows_of``.
    """
    rows = rows_of(table, limits)
    if named or table.num_columns != 1:
        return [JsonInput(task, row) for row in rows]
    return [JsonInput(task, value) for row in rows for value in row.values()]


def task_inputs(body: Any, task: str, fields: Sequence[str] = FIELDS) -> list[Input]:
    """Read inputs for one task from ``{"inputs": [...]}``; see ``mixed_inputs``."""
    return [JsonInput(task, value) for value in _inputs(body, "...", fields)]


def mixed_inputs(body: Any, fields: Sequence[str] = FIELDS) -> list[Input]:
    """Read inputs for several tasks from ``{"inputs": [{"task": ..., "input": ...}, ...]}``.

    Args:
        body: Content of the request.
        fields: Fields that a message names, of which all but ``inputs`` were taken out before.

    Raises:
        RefusedError: 422 if the body has another form.
    """
    form = '{"task": NAME, "input": ...}'
    inputs = _inputs(body, form, fields)
    for number, item in enumerate(inputs):
        _check_fields(item, ("task", "input"), f"inputs[{number}]: ")
        if not isinstance(item, dict) or set(item) != {"task", "input"} or not isinstance(item["task"], str):
            raise RefusedError(422, f"inputs[{number}] is {item!r:.100}; expected {form}.")
    return [JsonInput(item["task"], item["input"]) for item in inputs]


def _check_fields(content: Any, fields: Sequence[str], place: str = "") -> None:
    """Refuse an object with another field. Raises RefusedError (422)."""
    for name in content if isinstance(content, dict) else ():
        if name not in fields:
            raise RefusedError(422, place + unknown("field", name[:100], list(fields)))


def _inputs(body: Any, form: str, fields: Sequence[str]) -> list[Any]:
    _check_fields(body, fields)
    inputs = body.get("inputs") if isinstance(body, dict) else None
    if not isinstance(inputs, list) or not inputs:
        raise RefusedError(422, f'Expected {{"inputs": [{form}]}}, one input or more.')
    return inputs
