"""Tensors kept on disk between runs, the least recently used of which go when there are too many."""

import os
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from metatx.files import written_whole
from metatx.tensors import apart

__all__ = ["cache_folder", "read_cached", "write_cached"]

LIMIT_GB = 20.0  # unless METATX_CACHE_GB says otherwise


def cache_folder() -> Path:
    """Where they are: the folder that METATX_CACHE names, or ``~/.cache/metatx``."""
    return Path(os.environ.get("METATX_CACHE", "~/.cache/metatx")).expanduser()


def read_cached(name: str) -> dict[str, Tensor] | None:
    """The tensors kept under ``name``, if there are any; a damaged file is none."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = cache_folder() / f"{name}.safetensors"
    try:
        os.utime(path)
        return load_file(path)
    except (FileNotFoundError, SafetensorError):
        return None


def write_cached(name: str, tensors: dict[str, Tensor]) -> None:
    """Keep tensors under ``name``, and drop what was not used for longest beyond the limit."""
    from safetensors.torch import save_file

    path = cache_folder() / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary:
        save_file(apart(tensors), temporary)
    room = float(os.environ.get("METATX_CACHE_GB", LIMIT_GB)) * 1e9
    found: list[tuple[float, int, Path]] = []
    for file in cache_folder().rglob("*.safetensors"):
        with suppress(FileNotFoundError):  # another run dropped it
            stat = file.stat()
            found.append((stat.st_mtime, stat.st_size, file))
    for _, size, file in sorted(found, reverse=True):
        room -= size
        if room < 0 and file != path:
            file.unlink(missing_ok=True)
