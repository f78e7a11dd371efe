"""Construction of a tokenizer or head from untrusted options, in no more memory than its weights justify."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from metatx.errors import TaskError

__all__ = ["Building", "check_shapes"]

SPARE = 64 << 20  # bytes allowed for tables that are computed, not saved
TIMES = 8  # bytes allowed for each byte of the file: orthogonal initialisation makes copies


class Building(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Context in which torch may allocate at most a multiple of the size of a file of weights.

    Without it a few bytes of options could allocate any amount of memory before the shapes of what they build are
    compared with the file.

    Args:
        size: Size of the file in bytes.
        place: Folder of the task, for the message.

    Raises:
        TaskError: When more is allocated.
    """

    def __init__(self, size: int, place: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = SPARE + TIMES * size
        self.made = 0
        self.place = place

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation if the size of its result, computed on the meta device, fits what is left."""
        kwargs = kwargs or {}
        if not (func.is_view or func._schema.is_mutable):
            try:
                abstract = func(*tree_map(_abstract, args), **{**tree_map(_abstract, kwargs), **_on_meta(func)})
                self.made += sum(leaf.nbytes for leaf in tree_leaves(abstract) if isinstance(leaf, Tensor))
            except (RuntimeError, NotImplementedError, TypeError):
                pass  # the shape depends on values, and so does not exceed that of the arguments
        if self.made > self.most:
            raise TaskError(
                f"{self.place} is damaged: its options ask for more than {self.most / 1e6:,.0f} MB, which does not "
                "belong to its weights."
            )
        return func(*args, **kwargs)


def _abstract(value: Any) -> Any:
    """Convert a tensor to one of the same shape and type without values."""
    return value.to("meta") if isinstance(value, Tensor) and value.layout == torch.strided else value


def _on_meta(func: Any) -> dict[str, Any]:
    """Keyword argument that makes an operation create its result on the meta device."""
    return {"device": "meta"} if any(argument.name == "device" for argument in func._schema.arguments) else {}


def check_shapes(shapes: Mapping[str, tuple[int, ...]], wanted: Mapping[str, Tensor], place: Any) -> None:
    """Refuse a file whose tensors do not match those of the module that is to hold them.

    Args:
        shapes: Shapes in the file, by name.
        wanted: Tensors of the module, by name.
        place: Path of the file, for the message.

    Raises:
        TaskError: If a tensor is missing, unknown, or has another shape; the message names the first.
    """
    for name in {**wanted, **shapes}:
        there = shapes.get(name, "missing")
        expected = tuple(wanted[name].shape) if name in wanted else "known here"
        if there != expected:
            raise TaskError(f"{place} is damaged: {name} is {there}, not {expected}.")
