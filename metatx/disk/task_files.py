"""Files of a task, which may come from strangers, read as plain files only, within bounds, with one class of error."""

import errno
import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from metatx.errors import TaskError
from metatx.files import json_text

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    *("ADAPTER", "BACKBONE", "CARD", "FILES", "Signature", "WEIGHTS"),
    *("BOUNDS", "DEEPEST", "PART_DEPTH", "check_finite", "check_json", "config_text", "content_of", "damage"),
    *("plain_file", "read_json", "read_shapes", "signature_of", "stored_bytes", "within_bounds"),
]

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CARD = "README.md"
ADAPTER = ("adapter/adapter_config.json", "adapter/adapter_model.safetensors")
BACKBONE = ("backbone/config.json", "backbone/model.safetensors")
FILES = (CONFIG, WEIGHTS, CARD, *ADAPTER, *BACKBONE)  # all files that a task can have
MOST_JSON = 8 << 20  # most bytes of a JSON file; a hundred thousand names of classes take 2 MB
MOST_HEADER = 10 << 20  # most bytes of a safetensors header; a thousand tensors take 0.1 MB
DEEPEST = 32  # most levels of nested lists and objects
PART_DEPTH = 3  # levels of config.json above an option or a fact
LARGEST_WHOLE = 10_000_000  # largest whole number of an option or a fact, which is a size or a count
LARGEST = 1e9  # largest other number of an option or a fact
BOUNDS = f"at most {LARGEST_WHOLE:,} (a whole number) or {LARGEST:.0e}"
TOO_DEEP = f"it is nested more than {DEEPEST} deep"
BLOCK = 1 << 20  # bytes that are hashed at once

Signature = tuple[tuple[str, int, int, int, int], ...]


@contextmanager
def damage(folder: Path, what: str = "") -> Iterator[None]:
    """Turn every exception of the block into TaskError, but for a missing package, which stays ImportError.

    Args:
        folder: Folder of the task, for the message.
        what: Beginning of the reason, such as ``"its head cannot be built: "``.
    """
    try:
        yield
    except (TaskError, ImportError):
        raise
    except Exception as error:  # damaged options can make tokenizers and heads raise anything
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = f"it lacks {lines[0]}" if isinstance(error, KeyError) else lines[0]
        raise TaskError(f"{folder} is damaged: {what}{reason}") from error


def plain_file(folder: Path, name: str) -> Path:
    """Path of a file, if it is a regular file of the folder: no link that leads out of it, no pipe, no device.

    The folder itself may be a link. In the cache of the Hugging Face hub, files are links to blobs of the same
    repository, which are accepted.

    Raises:
        FileNotFoundError, NotADirectoryError: If the file does not exist.
        TaskError: If it is something else, or cannot be accessed.
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
    real = Path(os.path.realpath(path))
    root = Path(os.path.realpath(folder))
    if not real.is_relative_to(root) and not real.is_relative_to(_repository(root)):
        raise TaskError(f"{path} is a link that leads out of its folder; put the file itself there.")
    return path


def _repository(folder: Path) -> Path:
    """Repository in the hub's cache that holds a folder; the folder itself if it lies elsewhere."""
    from huggingface_hub.constants import HF_HUB_CACHE

    cache = Path(os.path.realpath(HF_HUB_CACHE))
    inside = folder.relative_to(cache).parts if folder.is_relative_to(cache) else ()
    return cache / inside[0] if inside else folder


def read_json(folder: Path, name: str) -> Any:
    """Read a JSON file whose texts, numbers and depth are safe for all code that uses them.

    Raises:
        FileNotFoundError, NotADirectoryError: If the file does not exist.
        TaskError: If it is no plain file, too large, no JSON, nested too deep, or holds a number or a text without a
            proper form: not finite, of more than 64 bits, or not valid Unicode.
    """
    path = plain_file(folder, name)
    try:
        with path.open("rb") as file:
            content = file.read(MOST_JSON + 1)
        if len(content) > MOST_JSON:
            raise ValueError(f"it has more than {MOST_JSON >> 20} MB")
        value = json.loads(content.decode(), parse_constant=_refuse)
        check_json(value)
    except RecursionError:
        raise TaskError(f"{path} is damaged: {TOO_DEEP}.") from None
    except (OSError, ValueError) as error:
        raise TaskError(f"{path} is damaged: {error}.") from None
    return value


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def within_bounds(value: Any, nested: bool = False) -> bool:
    """Return True if a value is no number, or one that ``config.json`` may hold; ``nested`` tests what it holds too."""
    if nested and isinstance(value, list | dict):
        return all(within_bounds(part, nested) for part in (value.values() if isinstance(value, dict) else value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True
    return abs(value) <= (LARGEST if isinstance(value, float) else LARGEST_WHOLE)


def config_text(config: Any) -> str:
    """JSON of a ``config.json``, or of a part of it. Raises ValueError if it is longer than ``read_json`` accepts."""
    text = json_text(config)
    if len(text) > MOST_JSON:
        raise ValueError(
            f"The options and facts of the task take {len(text) >> 20} MB as JSON; a task may have {MOST_JSON >> 20} "
            "MB. Learn fewer classes or words, or keep numbers in buffers."
        )
    return text


def check_json(value: Any, levels: int = DEEPEST) -> None:
    """Check a value of JSON as ``read_json`` does. Raises ValueError if it has more than ``levels`` nested levels."""
    if levels < 0:
        raise ValueError(TOO_DEEP)
    if isinstance(value, str):
        value.encode()  # raises for half of a surrogate pair, which has no form in UTF-8
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number is too large")
    elif isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise ValueError("a whole number has more than 64 bits")
    elif isinstance(value, list | dict):
        for part in value:
            check_json(part, levels - 1)
        for part in value.values() if isinstance(value, dict) else ():
            check_json(part, levels - 1)


def read_shapes(folder: Path, name: str) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors in a safetensors file, from its header, which is checked against the file's length.

    Raises:
        FileNotFoundError, NotADirectoryError: If the file does not exist.
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
    """Count the bytes of a file that occupy the disk: a sparse file may claim any size."""
    if not hasattr(os, "SEEK_DATA"):
        return path.stat().st_size
    total = at = 0
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        while at < size:
            try:
                begin = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # only a hole follows
                    break
                return size  # the file system does not support holes
            at = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            total += at - begin
    return total


def check_finite(tensors: Mapping[str, "Tensor"], weights: set[str], place: Path) -> None:
    """Refuse weights that are not finite, and statistics that are NaN; a scale may be infinite.

    Args:
        tensors: All tensors by name.
        weights: Names of the tensors that are trained.
        place: Path of the file, for the message.

    Raises:
        TaskError: If a tensor holds such values; the message names the first.
    """
    for name, tensor in tensors.items():
        bad = ~tensor.isfinite() if name in weights else tensor.isnan()
        if bad.any():
            raise TaskError(
                f"{place} is damaged: {name} holds {int(bad.sum()):,} values that are not finite; train the task again."
            )


def signature_of(folder: Path) -> Signature:
    """Sizes, times and inodes of a task's files, by which changes are noticed without reading them."""
    signature = []
    # A task has few of the files; paths, and errors of files that are missing, would take longer than to look at those.
    present = {name.partition("/")[0] for name in FILES}
    with suppress(OSError):
        present &= set(os.listdir(folder))
    for name in FILES:
        if name.partition("/")[0] not in present:
            signature.append((name, -1, errno.ENOENT, 0, 0))
            continue
        try:
            status = os.stat(f"{folder}{os.sep}{name}")
        except (OSError, ValueError) as error:  # missing, being replaced, or a loop of links
            signature.append((name, -1, getattr(error, "errno", 0) or 0, 0, 0))
        else:
            signature.append((name, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino))
    return tuple(signature)


def content_of(folder: Path) -> str:
    """Hash (hex) of the contents of a task's files, without the card.

    Raises:
        TaskError: If a file is no plain file.
        OSError: If a file cannot be read.
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
