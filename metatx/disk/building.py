"""Building a tokenizer or head from options that anybody may have written, in no more memory than its weights need."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from metatx.errors import TaskError

__all__ = ["Building", "check_shapes"]

SPARE = 64 << 20  # bytes for tables that are computed, and not saved
TIMES = 8  # bytes made while building, for each of the file: orthogonal starts take copies


class Building(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A context in which torch makes no more than a multiple of what a file of weights holds.

    What is built has the shapes of the file, or does not belong to it; else options alone, which are a few bytes, could
    ask for any memory before they are compared.

    Args:
        size: Bytes of the file.
        place: Of the task, for the message.

    Raises:
        TaskError: When more is made.
    """

    def __init__(self, size: int, place: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most, self.made, self.place = SPARE + TIMES * size, 0, place

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, if what it makes, which shows without memory, is not too much."""
        kwargs = kwargs or {}
        if not (func.is_view or func._schema.is_mutable):
            try:
                abstract = func(*tree_map(_abstract, args), **{**tree_map(_abstract, kwargs), **_on_meta(func)})
                self.made += sum(one.nbytes for one in tree_leaves(abstract) if isinstance(one, Tensor))
            except (RuntimeError, NotImplementedError, TypeError):
                pass  # its shape depends on values: it is of the size of what is there
        if self.made > self.most:
            raise TaskError(
                f"{self.place} is damaged: its options ask for more than {self.most / 1e6:,.0f} MB, which does not "
                "belong to its weights."
            )
        return func(*args, **kwargs)


def _abstract(one: Any) -> Any:
    """A tensor as its shape and type alone."""
    return one.to("meta") if isinstance(one, Tensor) and one.layout == torch.strided else one


def _on_meta(func: Any) -> dict[str, Any]:
    return {"device": "meta"} if any(argument.name == "device" for argument in func._schema.arguments) else {}


def check_shapes(found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, Tensor], place: Any) -> None:
    """Refuse a file whose tensors are not those of the module that is to hold them.

    Raises:
        TaskError: Names the first that is missing, not known, or of another shape.
    """
    for name in {**wanted, **found}:
        there = found.get(name, "missing")
        expected = tuple(wanted[name].shape) if name in wanted else "known here"
        if there != expected:
            raise TaskError(f"{place} is damaged: {name} is {there}, not {expected}.")
