"""Reading the files of a task's folder, which may come from anybody: plain files only, bounded, one class of error."""

import errno
import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from torch import Tensor

from metatx.errors import TaskError

__all__ = [
    *("ADAPTER", "BACKBONE", "CARD", "FILES", "Signature", "WEIGHTS"),
    *("check_finite", "content_of", "damage", "plain_file", "read_json", "read_shapes", "signature_of", "stored_bytes"),
]

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
ADAPTER = ("adapter/adapter_config.json", "adapter/adapter_model.safetensors")
BACKBONE = ("backbone/config.json", "backbone/model.safetensors")
FILES = (CONFIG, WEIGHTS, CARD, *ADAPTER, *BACKBONE)  # all that a task can have
MOST_JSON = 8 << 20  # bytes; a hundred thousand names of classes take 2 MB
MOST_HEADER = 10 << 20  # bytes of a safetensors header; a thousand tensors take 0.1 MB
DEEPEST = 32  # lists and objects inside each other
BLOCK = 1 << 20

Signature = tuple[tuple[str, int, int, int, int], ...]


@contextmanager
def damage(folder: Path, what: str = "") -> Iterator[None]:
    """Turn whatever is raised because a folder is damaged into TaskError; a missing package stays ImportError.

    Args:
        folder: Of the task.
        what: What cannot be done, in words, with a colon.
    """
    try:
        yield
    except (TaskError, ImportError):
        raise
    except Exception as error:  # options of any type reach the code of tokenizers and heads
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = f"it lacks {lines[0]}" if isinstance(error, KeyError) else lines[0]
        raise TaskError(f"{folder} is damaged: {what}{reason}") from error


def plain_file(folder: Path, name: str) -> Path:
    """The path of a file, if it is a regular one of that folder: no link that leads out of it, no pipe, no device.

    The folder itself may be a link. In the cache of the Hugging Face hub, files are links to blobs of the same
    repository, which may be.

    Raises:
        FileNotFoundError, NotADirectoryError: If there is none.
        TaskError: If it is something else, or cannot be looked at.
    """
    path = folder / name
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise TaskError(f"{path} is a link to nothing; expected a file.") from None
        raise
    except (OSError, ValueError) as error:  # a loop of links, say
        raise TaskError(f"{path} cannot be read: {getattr(error, 'strerror', error)}.") from None
    if not stat.S_ISREG(mode):
        raise TaskError(f"{path} is no plain file; expected one.")
    real, root = Path(os.path.realpath(path)), Path(os.path.realpath(folder))
    if not real.is_relative_to(root) and not real.is_relative_to(_repository(root)):
        raise TaskError(f"{path} is a link that leads out of its folder; put the file itself there.")
    return path


def _repository(folder: Path) -> Path:
    """The folder of a repository in the hub's cache that a folder lies in; else the folder itself."""
    from huggingface_hub.constants import HF_HUB_CACHE

    cache = Path(os.path.realpath(HF_HUB_CACHE))
    inside = folder.relative_to(cache).parts if folder.is_relative_to(cache) else ()
    return cache / inside[0] if inside else folder


def read_json(folder: Path, name: str) -> Any:
    """What a JSON file says, every text, number and depth in it such that all that reads it can.

    Raises:
        FileNotFoundError, NotADirectoryError: If there is none.
        TaskError: If it is no plain file, too large, no JSON, too deep, or holds what is no number or text.
    """
    path = plain_file(folder, name)
    try:
        with path.open("rb") as file:
            content = file.read(MOST_JSON + 1)
        if len(content) > MOST_JSON:
            raise ValueError(f"it has more than {MOST_JSON >> 20} MB")
        value = json.loads(content.decode(), parse_constant=_refuse)
        _check(value, DEEPEST)
    except RecursionError:
        raise TaskError(f"{path} is damaged: it is nested more than {DEEPEST} deep.") from None
    except (OSError, ValueError) as error:
        raise TaskError(f"{path} is damaged: {error}.") from None
    return value


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _check(value: Any, levels: int) -> None:
    if levels < 0:
        raise RecursionError
    if isinstance(value, str):
        value.encode()  # half of a surrogate pair has no form in UTF-8
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number is too large")
    elif isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise ValueError("a whole number has more than 64 bits")
    elif isinstance(value, list | dict):
        for part in value:
            _check(part, levels - 1)
        for part in value.values() if isinstance(value, dict) else ():
            _check(part, levels - 1)


def read_shapes(folder: Path, name: str) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors in a safetensors file, from its header; opening it compares that with the file's length.

    Raises:
        FileNotFoundError, NotADirectoryError: If there is none.
        TaskError: If it is no plain file, or damaged.
    """
    from safetensors import SafetensorError, safe_open

    path = plain_file(folder, name)
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
        if size > MOST_HEADER:
            raise ValueError(f"its header has {size:,} bytes; expected at most {MOST_HEADER:,}")
        with safe_open(path, "pt") as tensors:
            return {key: tuple(tensors.get_slice(key).get_shape()) for key in tensors.keys()}  # noqa: SIM118
    except (OSError, ValueError, SafetensorError) as error:
        raise TaskError(f"{path} is damaged: {str(error).splitlines()[0]}.") from None


def stored_bytes(path: Path) -> int:
    """Bytes of a file that were written: not the holes of a sparse one, which may claim any size."""
    if not hasattr(os, "SEEK_DATA"):
        return path.stat().st_size
    total = at = 0
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        while at < size:
            try:
                begin = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing but a hole until its end
                    break
                return size  # a file system that knows no holes
            at = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            total += at - begin
    return total


def check_finite(tensors: Mapping[str, Tensor], weights: set[str], place: Path) -> None:
    """Refuse weights that are not finite, and statistics that are no number (a scale may be infinite: of nothing).

    Args:
        tensors: All, by name.
        weights: Names of those that are trained.
        place: Of the file.

    Raises:
        TaskError: Names the first.
    """
    for name, tensor in tensors.items():
        bad = ~tensor.isfinite() if name in weights else tensor.isnan()
        if bad.any():
            raise TaskError(
                f"{place} is damaged: {name} holds {int(bad.sum()):,} values that are not finite; train the task again."
            )


def signature_of(folder: Path) -> Signature:
    """Sizes, times and numbers of a task's files, by which a change of them is seen without reading them."""
    found = []
    for name in FILES:
        try:
            status = (folder / name).stat()
        except (OSError, ValueError) as error:  # missing, replaced in this moment, a loop
            found.append((name, -1, getattr(error, "errno", 0) or 0, 0, 0))
        else:
            found.append((name, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino))
    return tuple(found)


def content_of(folder: Path) -> str:
    """A hash (hex) of what a task's files hold, the card left out.

    Raises:
        TaskError: If one of them is no plain file.
        OSError: If one cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name in FILES:
        if name == CARD:
            continue
        try:
            path = plain_file(folder, name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        with path.open("rb") as file:
            digest.update(f"{name} {os.fstat(file.fileno()).st_size} ".encode())
            while block := file.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()
