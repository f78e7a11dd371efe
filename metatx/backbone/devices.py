"""Devices: the one that a user names, checked before anything is loaded."""

import os
import re

import torch

from metatx.progress import tell

__all__ = ["device_of", "tell_device"]

NAMES = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
LOCAL_RANK = "LOCAL_RANK"  # environment variable of torchrun: number of the process on its machine


def device_of(name: str | torch.device) -> torch.device:
    """Device that a name means.

    Args:
        name: cpu, cuda (a process of torchrun takes the GPU of its number, any other the first), cuda:N, mps; or auto,
            which is cuda where torch says that it is available, else cpu.

    Raises:
        ValueError: If the name is unknown, or torch does not have the device.

    Example:
        >>> device_of("cpu")
        device(type='cpu')
    """
    text = str(name)
    if not NAMES.fullmatch(text):
        raise ValueError(f"device is {text!r:.40}; expected auto, cpu, cuda, cuda:N or mps.")
    if text == "auto":
        text = "cuda" if torch.cuda.is_available() else "cpu"
    if text == "mps" and not torch.backends.mps.is_available():
        raise ValueError("device is 'mps', but torch finds none on this machine; choose auto or cpu.")
    if not text.startswith("cuda"):
        return torch.device(text)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        why = "was built without CUDA" if torch.version.cuda is None else "finds no GPU on this machine"
        raise ValueError(f"device is {text!r}, but torch {why}; choose auto or cpu.")
    _, _, number = text.partition(":")
    index = int(number or int(os.environ.get(LOCAL_RANK, "0")) % count)
    if index >= count:
        raise ValueError(f"device is {text!r}, but torch finds {count} GPUs, the last of them cuda:{count - 1}.")
    return torch.device("cuda", index)


def tell_device(device: torch.device) -> torch.device:
    """Tell on one line which device computes, unless it is the CPU, and return it."""
    if device.type != "cpu":
        name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
        tell(f"Computing on {device}{name}.")
    return device
