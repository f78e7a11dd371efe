"""Batches of encoded samples, on a device."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from metatx.errors import SampleError
from metatx.exact import NO_DOUBLE
from metatx.sequence import sent

if TYPE_CHECKING:
    from metatx.tokenizer import Tokenizer

__all__ = ["collate", "encoded", "stacked", "to_device", "widened"]


def encoded(tokenizer: "Tokenizer", sample: Any) -> dict[str, Tensor]:
    """Encode a raw sample as tensors. NaN stands for a missing value; infinity is refused.

    Raises:
        SampleError: If the sample cannot be used, or its numbers are so large that they become infinite.
    """
    tensors = tokenizer.encode(sample)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.isinf().any():
            raise SampleError(f"{name} holds numbers too large to compute with; expected smaller ones")
    return tensors


def collate(encoded: Sequence[dict[str, Tensor]]) -> dict[str, Any]:
    """Collate samples field by field, each as ``stacked`` does.

    A sample may lack all fields of an input, ``"input.field"``, that is missing; they are lists of B with None there.

    Raises:
        ValueError: If samples differ in their fields otherwise.
    """
    fields = dict.fromkeys(name for sample in encoded for name in sample)
    for sample in encoded:
        if len(sample) < len(fields):
            inputs = {_input(name) for name in sample} | {""}
            if any(name not in sample and _input(name) in inputs for name in fields):
                pair = [sorted(each) for each in (encoded[0], sample)]
                if pair[0] == pair[1]:
                    pair[1] = next(sorted(each) for each in encoded if each.keys() != sample.keys())
                raise ValueError(f"Samples differ in their fields: {pair[0]} and {pair[1]}.")
    return {name: stacked([sample.get(name) for sample in encoded]) for name in fields}


def _input(field: str) -> str:
    """Name of the input of a field; "" for the only input."""
    return field.partition(".")[0] if "." in field else ""


def stacked(tensors: Sequence[Tensor | None]) -> Tensor | list[Tensor | None]:
    """Stack tensors of equal shape to one (B, ...); others, and those with None among them, become a list of B."""
    present = [tensor for tensor in tensors if tensor is not None]
    if len(present) == len(tensors) and all(tensor.shape == present[0].shape for tensor in present):
        return torch.stack(present)
    # Copies: a tensor that a worker process sends moves to shared memory, with an open file, until nothing refers to
    # it; the dataset refers to its samples permanently.
    return [None if tensor is None else tensor.clone() for tensor in tensors]


def to_device(batch: Any, device: torch.device) -> Any:
    """Move a tensor, or a list or dict of tensors, to ``device``; None stays.

    float64 is not moved to a device without float64.
    """
    if batch is None:
        return None
    if isinstance(batch, Tensor):
        exact = batch.dtype == torch.float64 and device.type in NO_DOUBLE
        return batch if exact else sent(batch, device)
    if isinstance(batch, dict):
        return {name: to_device(value, device) for name, value in batch.items()}
    return [to_device(value, device) for value in batch]


def widened(output: Tensor) -> Tensor:
    """Convert an output of half precision to float32; float32 and float64 are kept."""
    return output if output.dtype == torch.float64 else output.float()
