"""Task as bytes, without backbone and weights: enough to read and encode samples."""

import io
import pickle
from typing import Any

import torch
from torch import Tensor, nn

from metatx.backbone.base import Backbone
from metatx.errors import TaskError
from metatx.task import Task

__all__ = ["from_skeleton", "skeleton"]

BACKBONE = "backbone"  # what stands in the bytes for a backbone
PARAMETER = "parameter"  # and for a parameter, with its shape and type


class _Pickler(pickle.Pickler):
    def persistent_id(self, part: Any) -> Any:
        if isinstance(part, Backbone):
            return (BACKBONE,)
        if isinstance(part, nn.Parameter):
            return PARAMETER, tuple(part.shape), part.dtype
        return None

    def reducer_override(self, part: Any) -> Any:
        if isinstance(part, Tensor) and part.device.type != "cpu":
            return part.cpu().__reduce_ex__(pickle.HIGHEST_PROTOCOL)  # type: ignore[no-untyped-call]
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, stand_in: Any) -> Any:
        if stand_in[0] == BACKBONE:
            return None
        _, shape, dtype = stand_in
        return nn.Parameter(torch.empty(shape, dtype=dtype, device="meta"), requires_grad=False)


def skeleton(task: Task) -> bytes:
    """Pickle a task: parameters as shapes and types, buffers (fitted statistics) with their values.

    Raises:
        TaskError: If the tokenizer or the head of a plug-in cannot be pickled.
    """
    content = io.BytesIO()
    try:
        _Pickler(content, pickle.HIGHEST_PROTOCOL).dump(task)
    except Exception as error:  # whatever the objects of a plug-in raise
        name = f"{task.tokenizer.name}, {task.head.name}"
        raise TaskError(f"The task ({name}) cannot be handed to the process that reads files: {error}") from error
    return content.getvalue()


def from_skeleton(content: bytes) -> Task:
    """Load the task of a ``skeleton`` that our own server made; it can read and encode samples, and nothing else."""
    task: Task = _Unpickler(io.BytesIO(content)).load()
    return task
