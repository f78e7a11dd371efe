"""Reading files of weights, without ever running what is in them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import is_zipfile

import torch
from torch import Tensor

__all__ = ["unshared", "file_sha256", "read_tensors", "tensors_sha256"]

WRAPPERS = ("state_dict", "model", "module")  # where training scripts put the weights


def unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors as safetensors takes them: contiguous, and none in the memory of another."""
    found: dict[str, Tensor] = {}
    taken = set()
    for name, tensor in tensors.items():
        place = (tensor.device, tensor.untyped_storage().data_ptr())
        found[name] = tensor.clone(memory_format=torch.contiguous_format) if place in taken else tensor.contiguous()
        taken.add(place)
    return found


def read_tensors(path: str | Path, *, sha256: str | None = None) -> dict[str, Tensor]:
    """Tensors by name from a .safetensors file, or from a torch file that holds nothing but data.

    Args:
        path: The file.
        sha256: Of its bytes (hex), where that is known.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, of another kind, or holds objects that would have to be unpickled; if its
            SHA-256 is another.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} {'is a folder, not a file' if path.is_dir() else 'does not exist'}.")
    found = None if sha256 is None else file_sha256(path)
    if found != sha256:
        raise ValueError(
            f"{path} is damaged: its SHA-256 is {found}, not {sha256}; fetch it again, or reinstall metatx if it came "
            "with the package."
        )
    tensors = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if not tensors:
        raise ValueError(f"{path} holds no weights.")
    return tensors


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes; about a second for each gigabyte."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) of tensors, their names, types and shapes; some 600 MB a second."""
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
        # Mapped where the format allows it: of a whole CLIP only the visual tower is then read.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except UnpicklingError as error:
        reason = "holds more than weights" if "global" in str(error).lower() else "is damaged"
        raise ValueError(f"{path} {reason}; safetensors, or torch files of plain tensors, are read.") from None
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, AttributeError, IndexError, TypeError):
        raise ValueError(f"{path} is damaged or not a file of weights that torch knows.") from None
    return _unwrapped(content, path)


def _unwrapped(content: Any, path: Path) -> dict[str, Tensor]:
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, not weights by name.")
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if tensors and all(name.startswith("module.") for name in tensors):  # from data-parallel training
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors
