"""A task as bytes, without backbone and weights: as much as reading and encoding need."""

import io
import pickle
from typing import Any

import torch
from torch import Tensor, nn

from metatx.backbone.base import Backbone
from metatx.errors import TaskError
from metatx.task import Task

__all__ = ["from_skeleton", "skeleton"]

BACKBONE, PARAMETER = "backbone", "parameter"


class _Pickler(pickle.Pickler):
    def persistent_id(self, found: Any) -> Any:
        if isinstance(found, Backbone):
            return (BACKBONE,)
        if isinstance(found, nn.Parameter):
            return PARAMETER, tuple(found.shape), found.dtype
        return None

    def reducer_override(self, found: Any) -> Any:
        if isinstance(found, Tensor) and found.device.type != "cpu":
            return found.cpu().__reduce_ex__(pickle.HIGHEST_PROTOCOL)  # type: ignore[no-untyped-call]
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, kept: Any) -> Any:
        if kept[0] == BACKBONE:
            return None
        _, shape, dtype = kept
        return nn.Parameter(torch.empty(shape, dtype=dtype, device="meta"), requires_grad=False)


def skeleton(task: Task) -> bytes:
    """Parameters are kept as shapes, buffers (fitted statistics) as they are.

    Raises:
        TaskError: If the tokenizer or the head, of a plug-in, cannot be pickled.
    """
    content = io.BytesIO()
    try:
        _Pickler(content, pickle.HIGHEST_PROTOCOL).dump(task)
    except Exception as error:  # whatever the objects of a plug-in raise
        name = f"{task.tokenizer.name}, {task.head.name}"
        raise TaskError(f"A task ({name}) cannot be handed to the process that reads files: {error}") from error
    return content.getvalue()


def from_skeleton(content: bytes) -> Task:
    """The task whose ``skeleton`` came from our own process: it can read and encode, no more."""
    task: Task = _Unpickler(io.BytesIO(content)).load()
    return task
