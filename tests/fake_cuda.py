"""A CUDA device that computes nothing: shapes, devices, kernels and waits of a pass, on a machine without a GPU."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from metatx.model import Model

GPU = torch.device("cuda", 0)


@dataclass
class Work:
    """Operations of a pass.

    Attributes:
        kernels: Names of the operations that compute on the device, in turn; views compute nothing.
        waits: Names of the operations for which the host waits: copies to it, and blocking copies from it.
        sent: Number of copies from the host that do not block.
    """

    kernels: list[str] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)
    sent: int = 0


class Watch(TorchDispatchMode):
    """Mode that notes the operations in a ``Work``."""

    def __init__(self) -> None:
        super().__init__()
        self.work = Work()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor | torch.device)]
        if all(not isinstance(leaf, FakeTensor) and _type(leaf) == "cpu" for leaf in leaves):
            with unset_fake_temporarily():  # what the host computes is known
                return func(*args, **kwargs)
        out = func(*args, **kwargs)
        before = _devices((args, kwargs))
        after = _devices(out)
        name = func.name().removeprefix("aten::")
        if "cuda" in before and "cpu" in after and "cuda" not in after:
            self.work.waits.append(f"{name} to the host")
        elif "cuda" in after and "cpu" in before and name in ("_to_copy", "copy_"):
            blocks = not (kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2]))
            self.work.waits += [f"{name} from the host"] * blocks
            self.work.sent += not blocks
        elif "cuda" in after and not func.is_view and name not in ("detach", "empty.memory_format", "_unsafe_view"):
            self.work.kernels.append(name)
        return out


def _devices(values: Any) -> set[str]:
    """Types of the devices of all tensors but numbers, which no device holds."""
    return {leaf.device.type for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor) and leaf.ndim}


def _type(value: torch.Tensor | torch.device) -> str:
    return (value.device if isinstance(value, torch.Tensor) else value).type


@contextmanager
def fake_cuda() -> Iterator[Work]:
    """Block in which modules of ``faked`` and tensors of ``sent`` compute nothing, and its operations.

    An operation raises an error where its tensors lie on two devices, or where its result decides what is done next.
    """
    watch = Watch()
    with FakeTensorMode(allow_non_fake_inputs=True), watch:
        yield watch.work


def sent(batch: Any) -> Any:
    """Fake tensors on the device in the place of those of a batch; in ``fake_cuda``."""
    if isinstance(batch, torch.Tensor):
        return torch.empty(batch.shape, dtype=batch.dtype, device=GPU)
    if isinstance(batch, dict):
        return {name: sent(value) for name, value in batch.items()}
    return [sent(value) for value in batch] if isinstance(batch, list) else batch


def faked(module: nn.Module, seen: dict[int, Any] | None = None) -> nn.Module:
    """Replace all weights of a module by fake ones on the device; in ``fake_cuda``."""
    seen = {} if seen is None else seen
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                if id(weight) not in seen:
                    seen[id(weight)] = weight, nn.Parameter(sent(weight.detach()), weight.requires_grad)
                part._parameters[name] = seen[id(weight)][1]
        for name, buffer in part._buffers.items():
            if buffer is not None and not isinstance(buffer, FakeTensor):
                part._buffers[name] = sent(buffer)
    return module


def faked_model(model: Model) -> Model:
    """Copy of a model, its backbones copied too, with fake weights on the device; in ``fake_cuda``."""
    memo: dict[int, Any] = {}
    seen: dict[int, Any] = {}
    made = Model.__new__(Model)
    memo[id(model)] = made
    made.__dict__.update(copy.deepcopy(model.__dict__, memo))
    for part in (made.backbone, *made.others, made):
        faked(part, seen)
    return made
