"""Batches of encoded samples, on a device."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from metatx.errors import SampleError
from metatx.exact import NO_DOUBLE

if TYPE_CHECKING:
    from metatx.tokenizer import Tokenizer

__all__ = ["collate", "encoded", "to_device", "widened"]


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
    """Collate samples field by field: tensors of equal shape to one (B, ...), others to a list of B tensors.

    Raises:
        ValueError: If samples differ in their fields.
    """
    fields = encoded[0].keys()
    for sample in encoded:
        if sample.keys() != fields:
            raise ValueError(f"Samples differ in their fields: {sorted(fields)} and {sorted(sample)}.")
    batch: dict[str, Any] = {}
    for name in fields:
        tensors = [sample[name] for sample in encoded]
        equal = all(tensor.shape == tensors[0].shape for tensor in tensors)
        # Copies: a tensor that a worker process sends moves to shared memory, with an open file, until nothing refers
        # to it; the dataset refers to its samples permanently.
        batch[name] = torch.stack(tensors) if equal else [tensor.clone() for tensor in tensors]
    return batch


def to_device(batch: Any, device: torch.device) -> Any:
    """Move a tensor, or a list or dict of tensors, to ``device``; float64 is not moved to a device without float64."""
    if isinstance(batch, Tensor):
        exact = batch.dtype == torch.float64 and device.type in NO_DOUBLE
        return batch if exact else batch.to(device)
    if isinstance(batch, dict):
        return {name: to_device(value, device) for name, value in batch.items()}
    return [to_device(value, device) for value in batch]


def widened(output: Tensor) -> Tensor:
    """Convert an output of half precision to float32; float32 and float64 are kept."""
    return output if output.dtype == torch.float64 else output.float()
