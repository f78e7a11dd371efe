"""Files of weights, read without executing any code in them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import is_zipfile

import torch
from torch import Tensor

__all__ = ["unshared", "file_sha256", "read_tensors", "tensors_sha256"]

WRAPPERS = ("state_dict", "model", "module")  # keys under which training scripts save the weights


def unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Make tensors contiguous, and copy those that share memory with another, as safetensors requires."""
    unshared_tensors: dict[str, Tensor] = {}
    taken = set()
    for name, tensor in tensors.items():
        place = (tensor.device, tensor.untyped_storage().data_ptr())
        shares = place in taken
        unshared_tensors[name] = tensor.clone(memory_format=torch.contiguous_format) if shares else tensor.contiguous()
        taken.add(place)
    return unshared_tensors


def read_tensors(path: str | Path, *, sha256: str | None = None) -> dict[str, Tensor]:
    """Read tensors by name from a .safetensors file, or from a torch file that holds nothing but tensors.

    Args:
        path: File to read.
        sha256: Expected SHA-256 (hex) of the file; None if unknown.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is damaged, of another kind, or holds objects that would have to be unpickled; if its
            SHA-256 differs.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} {'is a folder, not a file' if path.is_dir() else 'does not exist'}.")
    actual = None if sha256 is None else file_sha256(path)
    if actual != sha256:
        raise ValueError(
            f"{path} is damaged: its SHA-256 is {actual}, not {sha256}; fetch it again, or reinstall metatx if it came "
            "with the package."
        )
    tensors = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if not tensors:
        raise ValueError(f"{path} holds no weights.")
    return tensors


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes; takes about a second for each gigabyte."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) of tensors with their names, types and shapes; hashes some 600 MB a second."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or not a safetensors file ({error}).") from None


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        # Memory-mapped if the format allows it, so that only the visual tower of a CLIP is read from the disk.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except UnpicklingError as error:
        reason = "holds more than weights" if "global" in str(error).lower() else "is damaged"
        raise ValueError(f"{path} {reason}; safetensors, or torch files of plain tensors, are read.") from None
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, AttributeError, IndexError, TypeError):
        raise ValueError(f"{path} is damaged or not a file of weights that torch knows.") from None
    return _unwrapped(content, path)


def _unwrapped(content: Any, path: Path) -> dict[str, Tensor]:
    """Tensors of a training script's file, out of the dicts and prefixes that it may have put around them."""
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, not weights by name.")
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if tensors and all(name.startswith("module.") for name in tensors):  # from data-parallel training
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors
