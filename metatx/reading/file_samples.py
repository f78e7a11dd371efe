"""Samples that are files: a path, bytes, or Hugging Face's dict of both."""

from pathlib import Path
from typing import Any

from metatx.errors import SampleError, short

__all__ = ["bytes_of_file", "file_of_sample", "is_file_sample"]

FORMS = "expected the bytes of a file, or the name of one"


def is_file_sample(sample: Any) -> bool:
    """Return whether a sample is a file: a path, bytes, or a dict ``{"bytes", "path"}`` of Hugging Face datasets."""
    if isinstance(sample, dict):
        return "bytes" in sample or "path" in sample
    return isinstance(sample, str | Path | bytes | bytearray | memoryview)


def file_of_sample(sample: Any, kind: str, otherwise: str) -> tuple[Path | bytes, str]:
    """Path or bytes of a sample that is a file, and the file's name for messages.

    Args:
        sample: Sample for which ``is_file_sample`` is true.
        kind: Kind of the file in messages, such as ``"image"``.
        otherwise: Name in messages of a file without one, such as ``"the image"``.

    Raises:
        SampleError: If no such file exists, or the bytes or the path have a wrong type.
    """
    content = None
    path = None
    if isinstance(sample, dict):
        content = sample.get("bytes")
        path = sample.get("path")
    elif isinstance(sample, bytes | bytearray | memoryview):
        content = sample
    else:
        path = sample
    if path is not None and not isinstance(path, str | Path):
        raise SampleError(f"{kind} file has a path that is {short(path)}; {FORMS}")
    name = Path(path).name if path else otherwise
    if content is not None:
        return bytes_of_file(content, kind), name
    if path is None:
        raise SampleError(f"{kind} is a NoneType, neither bytes nor a path; {FORMS}")
    file = Path(path)
    try:
        if file.is_file():
            return file, name
        reason = "is a folder" if file.is_dir() else "does not exist"
    except OSError as error:  # such as a name that is too long
        reason = f"cannot be opened: {error.strerror}"
    raise SampleError(f"{kind} file {name:.100} {reason}")


def bytes_of_file(content: Any, kind: str) -> bytes:
    """Convert the bytes of a file, in any type for bytes, to ``bytes``. Raises SampleError for other types."""
    if isinstance(content, memoryview):
        content = bytes(content) if content.itemsize == 1 else content
    if not isinstance(content, bytes | bytearray):
        raise SampleError(f"{kind} file has bytes that are {short(content)}; {FORMS}")
    return bytes(content)
