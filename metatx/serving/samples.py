"""How a task's inputs look as JSON, with an example that it has answered."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from metatx.encoding.columns import by_name
from metatx.errors import TaskError
from metatx.pool.pool import TaskPool
from metatx.task import Task

__all__ = ["Sample", "input_schema", "received", "tried"]

LOG = logging.getLogger("metatx.serving")
BESIDE = ("description", "examples")  # what a schema says beside the form of a sample
NUMPY = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


@dataclass(frozen=True)
class Sample:
    """What is published of a task's inputs.

    Attributes:
        schema: JSON Schema of one, with an example where there is one that the task answers.
        answer: To the example; None where there is none.
    """

    schema: dict[str, Any]
    answer: Any = None

    @property
    def example(self) -> Any:
        """One input, or None."""
        return next(iter(self.schema.get("examples", [])), None)


def received(value: Any, task: Task) -> Any:
    """An input that came as JSON, as a raw sample: of a row, the task's inputs alone. Raises SampleError."""
    return task.tokenizer.from_json(by_name(value, task.tokenizer, task.inputs))


def input_schema(task: Task) -> dict[str, Any]:
    """JSON Schema of one input: what the tokenizer says of a sample, bare, or as a row of the task's inputs."""
    schema, inputs = task.tokenizer.json_schema(), task.inputs
    if not schema or task.tokenizer.takes_row or not inputs:
        return schema
    bare = {name: value for name, value in schema.items() if name not in BESIDE}
    forms = schema.get("anyOf", [bare])
    if len(inputs) == 1:
        return {**_beside(schema), "anyOf": [*forms, _row(inputs, bare)]}
    if task.tokenizer.dicts:  # its own schema says what of
        return schema
    # A row holds several of what is a sample by itself.
    example = [dict.fromkeys(inputs, one) for one in schema.get("examples", [])]
    return {**_beside(schema), "anyOf": [_row(inputs, forms[0]), *forms[1:]], "examples": example}


def _beside(schema: dict[str, Any]) -> dict[str, Any]:
    """What a schema says of all its forms."""
    return {name: schema[name] for name in BESIDE if name in schema}


def _row(names: Sequence[str], cell: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": dict.fromkeys(names, cell), "required": list(names), "title": "a row"}


def tried(pool: TaskPool, name: str, most: int) -> Sample:
    """What is published of a task in the pool; its example is asked, so that the first request finds all loaded.

    An example that is not answered, of a plug-in say, is not published.

    Args:
        pool: That holds it.
        name: Of the task.
        most: Tokens that it may have.

    Raises:
        TaskError: If it has more: no request would be answered.
    """
    task = pool.task(name)
    sample = Sample(input_schema(task))
    if sample.example is None:
        return sample
    try:
        request = pool.prepare(name, received(sample.example, task), "records")
        if request.tokens > most:
            raise TaskError(f"The example of its inputs has {request.tokens:,} tokens; expected at most {most:,}.")
        (answer,) = pool.answer([request])
    except TaskError:
        raise
    except Exception as error:  # a plug-in's code may raise anything
        LOG.warning("%s does not answer the example of its schema, which is left out: %s", name, error)
        return Sample({key: value for key, value in sample.schema.items() if key != "examples"})
    return Sample(sample.schema, orjson.loads(orjson.dumps(answer, option=NUMPY)))
