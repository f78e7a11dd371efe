"""Encoded samples to a batch."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from metatx.exact import NO_DOUBLE

__all__ = ["collate", "to_device", "widened"]


def collate(encoded: Sequence[dict[str, Tensor]]) -> dict[str, Any]:
    """Samples of equal shape stacked (B, ...), field by field; ragged ones kept as a list of B tensors.

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
        # Copies: what a worker process sends moves to shared memory and stays there, a file kept open, as long as it is
        # referred to; the samples themselves are, where they are kept.
        batch[name] = torch.stack(tensors) if equal else [tensor.clone() for tensor in tensors]
    return batch


def to_device(batch: Any, device: torch.device) -> Any:
    """A tensor, or a list or dict of tensors, on ``device``; float64 stays where it is if the device knows none."""
    if isinstance(batch, Tensor):
        exact = batch.dtype == torch.float64 and device.type in NO_DOUBLE
        return batch if exact else batch.to(device)
    if isinstance(batch, dict):
        return {name: to_device(value, device) for name, value in batch.items()}
    return [to_device(value, device) for value in batch]


def widened(output: Tensor) -> Tensor:
    """An output of half precision as float32; float32 and float64 stay."""
    return output if output.dtype == torch.float64 else output.float()
