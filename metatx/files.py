"""Writing of files and folders, whole or not at all."""

import json
import math
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["folder_written_whole", "json_text", "written_whole"]


def json_text(value: Any) -> str:
    """Indented JSON, with null for nan and infinite numbers, for which JSON has no form.

    Raises:
        TypeError: If the value holds something else that has no form in JSON.
    """
    return json.dumps(_finite(value), indent=2, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Temporary path beside ``path`` that replaces it at the end of the block; it is removed after an error.

    It has the same suffix. The folder is made.

    Raises:
        OSError: If it cannot be written, such as on a full disk; the message names the path.
    """
    # The process number alone is not unique: in containers that share a folder each is number 1.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if temporary.exists():
            _made_readable(temporary)
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if _is_of_the_disk(error):
            raise OSError(f"{path} could not be written, nothing was changed: {error}") from error
        raise


@contextmanager
def folder_written_whole(folder: Path) -> Iterator[Path]:
    """Temporary folder beside ``folder`` that replaces it at the end of the block; the old one stays until then.

    A process that is killed leaves hidden folders, whose names begin with ``.NAME.partial-``. If it is killed between
    the two renames of the swap, these are the old folder (``.old``) and the new one, both whole. The next call removes
    them.

    Raises:
        OSError: If it cannot be written, such as on a full disk; the message names the path.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{folder.name}.partial-"
    temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
    try:
        yield temporary
        _made_readable(temporary)
        if folder.exists():
            old = temporary.with_name(f"{temporary.name}.old")
            os.replace(folder, old)
        os.replace(temporary, folder)
        for left in folder.parent.glob(f"{prefix}*"):
            shutil.rmtree(left, ignore_errors=True)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if _is_of_the_disk(error):
            raise OSError(f"{folder} could not be written, nothing was changed: {error}") from error
        raise


def _made_readable(path: Path) -> None:
    """Set the modes of a file, or of all in a folder, by the umask: safetensors and mkdtemp allow the owner only."""
    # The mode is that of a new file: asking for the umask would change it for all threads.
    probe = path.with_name(f"{path.name}.mode")
    probe.touch()
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    for part in (path, *(path.rglob("*") if path.is_dir() else ())):
        if not part.is_symlink():
            part.chmod(mode | (mode & 0o444) >> 2 if part.is_dir() else mode)


def _is_of_the_disk(error: BaseException) -> bool:
    """Return whether an exception comes from the file system, directly or through a writer that wraps it."""
    return isinstance(error, OSError) or type(error).__name__ == "SafetensorError" or "No space" in str(error)
