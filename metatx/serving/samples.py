"""Schema of a task's inputs as JSON, with an example that the task has answered."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from metatx.encoding.columns import by_name
from metatx.errors import TaskError
from metatx.inputs.inputs import Inputs
from metatx.pool.pool import TaskPool
from metatx.serving.arrays import KEY, with_arrays
from metatx.task import Task

__all__ = ["Sample", "input_schema", "received", "tried"]

LOG = logging.getLogger("metatx.serving")
BESIDE = ("description", "examples")  # fields of a schema that are not about the form of a sample
NUMPY = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


@dataclass(frozen=True)
class Sample:
    """Published description of a task's inputs.

    Attributes:
        schema: JSON Schema of one input, with an example if the task answers it.
        answer: Answer to the example; None if there is no example.
    """

    schema: dict[str, Any]
    answer: Any = None

    @property
    def example(self) -> Any:
        """Example of an input; None if there is none."""
        return next(iter(self.schema.get("examples", [])), None)


def received(value: Any, task: Task) -> Any:
    """Turn an input that came as JSON, or as an array, into a raw sample; of a row, only the task's inputs.

    Raises:
        SampleError: If it is not accepted.
    """
    tokenizer = task.tokenizer
    if KEY not in task.inputs:  # a column of that name holds what it always held
        value = with_arrays(value)
    return tokenizer.from_json(value if isinstance(tokenizer, Inputs) else by_name(value, tokenizer, task.inputs))


def input_schema(task: Task) -> dict[str, Any]:
    """Return the JSON Schema of one input: a bare sample, as the tokenizer describes it, or a row of the inputs."""
    schema = task.tokenizer.json_schema()
    inputs = task.inputs
    if not schema or task.tokenizer.takes_row or not inputs:
        return schema
    bare = {name: value for name, value in schema.items() if name not in BESIDE}
    forms = schema.get("anyOf", [bare])
    if len(inputs) == 1:
        return {**_beside(schema), "anyOf": [*forms, _row(inputs, bare)]}
    if task.tokenizer.dicts:  # its own schema describes the dict
        return schema
    # Each cell of a row has the form of a sample.
    examples = [dict.fromkeys(inputs, example) for example in schema.get("examples", [])]
    return {**_beside(schema), "anyOf": [_row(inputs, forms[0]), *forms[1:]], "examples": examples}


def _beside(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a schema that hold for all its forms."""
    return {name: schema[name] for name in BESIDE if name in schema}


def _row(names: Sequence[str], cell: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": dict.fromkeys(names, cell), "required": list(names), "title": "a row"}


def tried(pool: TaskPool, name: str, most: int) -> Sample:
    """Describe the inputs of a task in the pool; its example is answered, so that the first request finds all loaded.

    An example that the task does not answer (that of a plug-in, say) is not published.

    Args:
        pool: Pool that holds the task.
        name: Name of the task.
        most: Largest number of tokens of the example.

    Raises:
        TaskError: If the example has more tokens: then the server could answer no request.
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
