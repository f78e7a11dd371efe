"""What a request holds: inputs as JSON, or as files of a form, each for one task."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Protocol

import orjson

from metatx.pool.requests import read
from metatx.serving.file_checks import suffix_of
from metatx.serving.limits import Limits, RefusedError
from metatx.serving.readers import EncodedSample, Readers, ReadRequest
from metatx.serving.samples import received

__all__ = ["FileInput", "Input", "JsonInput", "mixed_inputs", "parse_json", "task_inputs"]


class Input(Protocol):
    """One input of a request: as a rule one sample; a file may hold many."""

    @property
    def task(self) -> str:
        """Name of the task that it is for."""
        ...

    def of(self, task: str) -> "Input":
        """The same for a task of another name."""
        ...

    def samples(self, wanted: ReadRequest, readers: Readers) -> Sequence[EncodedSample]:
        """The samples, encoded.

        Args:
            wanted: How they are read.
            readers: Read what a stranger's bytes may crash.

        Raises:
            RefusedError: If it is beyond the limits, or a file of a kind that the task does not take.
            ValueError: If it cannot be read.
        """
        ...


@dataclass(frozen=True)
class JsonInput:
    """A sample that came as JSON."""

    task: str
    value: Any

    def of(self, task: str) -> "JsonInput":
        """The same for a task of another name."""
        return replace(self, task=task)

    def samples(self, wanted: ReadRequest, readers: Readers) -> Sequence[EncodedSample]:
        """The one sample; of a row, the task's inputs alone."""
        task = wanted.loaded.task
        if task.tokenizer.isolated:
            return readers.value(self.value, wanted)
        [encoded], extents = read(task, [received(self.value, task)], [0], wanted.extents)
        return [(encoded, extents)]


@dataclass(frozen=True)
class FileInput:
    """A file that was sent; its own name tells no more than its kind."""

    task: str
    name: str
    content: BinaryIO

    def of(self, task: str) -> "FileInput":
        """The same for a task of another name."""
        return replace(self, task=task)

    def samples(self, wanted: ReadRequest, readers: Readers) -> Sequence[EncodedSample]:
        """The samples that the file holds."""
        suffix = suffix_of(self.name, wanted.loaded.task.tokenizer)
        self.content.seek(0)
        return readers.file(self.content, suffix, wanted)


def parse_json(content: bytes, limits: Limits) -> Any:
    """Strict JSON. Raises RefusedError (400, or 413 for too much)."""
    if len(content) > limits.json_mb * 1e6:
        raise RefusedError(413, f"The JSON has more than {limits.json_mb:g} megabytes; send files, or fewer inputs.")
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise RefusedError(400, f"The JSON cannot be read: {error}; a missing value is null, not NaN.") from None


def task_inputs(body: Any, task: str) -> list[Input]:
    """Inputs for one task, from ``{"inputs": [...]}``. Raises RefusedError (422)."""
    return [JsonInput(task, value) for value in _inputs(body, "...")]


def mixed_inputs(body: Any) -> list[Input]:
    """Inputs for several tasks, from ``{"inputs": [{"task": ..., "input": ...}, ...]}``. Raises RefusedError (422)."""
    form = '{"task": NAME, "input": ...}'
    inputs = _inputs(body, form)
    for number, one in enumerate(inputs):
        if not isinstance(one, dict) or set(one) != {"task", "input"} or not isinstance(one["task"], str):
            raise RefusedError(422, f"inputs[{number}] is {one!r:.100}; expected {form}.")
    return [JsonInput(one["task"], one["input"]) for one in inputs]


def _inputs(body: Any, form: str) -> list[Any]:
    inputs = body.get("inputs") if isinstance(body, dict) else None
    if not isinstance(inputs, list) or not inputs or set(body) != {"inputs"}:
        raise RefusedError(422, f'Expected {{"inputs": [{form}]}}, one input or more.')
    return inputs
