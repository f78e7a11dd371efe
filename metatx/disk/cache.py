"""Cache of tensors on disk between runs; the least recently used are removed beyond a limit of size.

Several runs may share the folder. A fault of the cache ends no run: what cannot be read is computed again, what cannot
be written is not kept.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

from torch import Tensor

from metatx.disk.weight_files import tensors_sha256, unshared
from metatx.files import written_whole
from metatx.progress import tell

__all__ = ["cache_folder", "read_cached", "write_cached"]

LIMIT_GB = 20.0  # default of METATX_CACHE_GB
SUM = "sha256"  # key of the checksum in a file's metadata


def cache_folder() -> Path:
    """Folder of the cache: METATX_CACHE, or ``~/.cache/metatx``. Raises RuntimeError if there is no home."""
    return Path(_named()).expanduser()


def _named() -> str:
    return os.environ.get("METATX_CACHE") or "~/.cache/metatx"


def read_cached(name: str) -> dict[str, Tensor] | None:
    """Read the tensors kept under ``name``; None if there are none. A damaged file is removed."""
    from safetensors import safe_open

    path = Path()
    try:
        path = cache_folder() / f"{name}.safetensors"
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            kept = (file.metadata() or {}).get(SUM)
        if kept != tensors_sha256(tensors):
            raise ValueError(f"{path} has other bytes than were written")
        with suppress(OSError):
            os.utime(path)
    except FileNotFoundError:
        return None
    except Exception:  # a damaged file raises anything, and is of no use
        with suppress(OSError):
            path.unlink()
        return None
    return tensors


def write_cached(name: str, tensors: Mapping[str, Tensor]) -> None:
    """Keep tensors under ``name``, and remove the least recently used files beyond the limit.

    A failure is reported once, and does not stop the run.
    """
    from safetensors.torch import save_file

    whole = unshared(tensors)
    try:
        path = cache_folder() / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as temporary:
            save_file(whole, temporary, metadata={SUM: tensors_sha256(whole)})
        _make_room(path)
    except (OSError, RuntimeError) as error:
        cause = error.__cause__ or error
        reason = getattr(cause, "strerror", None) or cause
        _tell_once(f"Nothing can be kept in the cache, {_named()} ({reason}); METATX_CACHE names another folder.")


def _make_room(latest: Path) -> None:
    """Remove the least recently used files beyond the limit; other runs may do the same at the same time."""
    files: list[tuple[float, int, Path]] = []
    for folder, _, names in os.walk(cache_folder()):
        for file in (Path(folder, name) for name in names if ".safetensors" in name):  # temporary files too
            with suppress(OSError):  # another run removed it
                stat = file.stat()
                files.append((stat.st_mtime, stat.st_size, file))
    room = _limit()
    for _, size, file in sorted(files, reverse=True):
        room -= size
        if room < 0 and file != latest:
            with suppress(OSError):
                file.unlink()


def _limit() -> float:
    """Limit of the cache in bytes."""
    text = os.environ.get("METATX_CACHE_GB", "")
    with suppress(ValueError):
        gigabytes = float(text) if text else LIMIT_GB
        if gigabytes >= 0:  # false for NaN
            return gigabytes * 1e9
    _tell_once(f"METATX_CACHE_GB is {text!r}; expected a number of at least 0. {LIMIT_GB:.0f} are taken.")
    return LIMIT_GB * 1e9


@cache
def _tell_once(message: str) -> None:
    tell(message)
