"""Files as samples hold them: a path, bytes, or Hugging Face's dict of both."""

from pathlib import Path
from typing import Any

from metatx.errors import SampleError, short

__all__ = ["bytes_of_file", "file_of_sample", "is_file_sample"]

FORMS = "expected the bytes of a file, or the name of one"


def is_file_sample(sample: Any) -> bool:
    """Whether a sample is a file: its path, its bytes, or a dict ``{"bytes", "path"}`` of Hugging Face datasets."""
    if isinstance(sample, dict):
        return "bytes" in sample or "path" in sample
    return isinstance(sample, str | Path | bytes | bytearray | memoryview)


def file_of_sample(sample: Any, kind: str, otherwise: str) -> tuple[Path | bytes, str]:
    """The file that a sample holds, and its name for messages.

    Args:
        sample: For which ``is_file_sample`` is true.
        kind: Of the file in messages, such as ``"image"``.
        otherwise: Its name where it has none, such as ``"the image"``.

    Raises:
        SampleError: If there is no file of that name, or what should be bytes, or a name, is something else.
    """
    content, path = (sample.get("bytes"), sample.get("path")) if isinstance(sample, dict) else (None, sample)
    if isinstance(path, bytes | bytearray | memoryview) and not isinstance(sample, dict):
        content, path = path, None
    if path is not None and not isinstance(path, str | Path):
        raise SampleError(f"{kind} file has a path that is {short(path)}; {FORMS}")
    name = Path(path).name if path else otherwise
    if content is not None:
        return bytes_of_file(content, kind), name
    if path is None:
        raise SampleError(f"{kind} is a NoneType, neither bytes nor a path; {FORMS}")
    found = Path(path)
    try:
        if found.is_file():
            return found, name
        reason = "is a folder" if found.is_dir() else "does not exist"
    except OSError as error:  # such as a name that is too long
        reason = f"cannot be opened: {error.strerror}"
    raise SampleError(f"{kind} file {name:.100} {reason}")


def bytes_of_file(content: Any, kind: str) -> bytes:
    """Bytes of a file, of any type that holds bytes. Raises SampleError for anything else, numbers among them."""
    if isinstance(content, memoryview):
        content = bytes(content) if content.itemsize == 1 else content
    if not isinstance(content, bytes | bytearray):
        raise SampleError(f"{kind} file has bytes that are {short(content)}; {FORMS}")
    return bytes(content)
