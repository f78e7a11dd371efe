"""Hash of everything that a result kept on disk depends on: values, files, code."""

import hashlib
import inspect
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metatx.registry import all_options

__all__ = ["Content", "options_of", "source_content"]

WHOLE = 256 << 10  # bytes of the largest file that is hashed whole
PART = 64 << 10  # bytes that are hashed at the beginning, the centre and the end of larger files


class Content:
    """Running hash of values, files and code.

    A text that names a file stands for the content of the file. A file up to 256 KiB is identified by its suffix and
    its bytes; a larger file by three parts of it, its size, its inode and its times of change, so that a copy of it
    counts as another file.

    Args:
        suffixes: Suffixes of files that are identified by content alone, wherever they lie; for other files the name
            counts too, for a text may be the name of a file by chance.
        external_refs: Suffixes of files that name other files, which may change unnoticed; these are refused.
    """

    def __init__(self, suffixes: tuple[str, ...] = (), external_refs: tuple[str, ...] = ()) -> None:
        self.suffixes = suffixes
        self.external_refs = external_refs
        self._digest = hashlib.sha256()
        self._files: dict[str, bytes] = {}
        # Last array and its hash: consecutive samples may share one large array.
        self._last: tuple[Any, bytes] = (None, b"")

    def hexdigest(self) -> str:
        """SHA-256 (hex) of everything added so far."""
        return self._digest.hexdigest()

    def add(self, value: Any) -> None:
        """Add None, numbers, texts, bytes, arrays, tensors, paths of files, and dicts, lists, dataclasses of these.

        Raises:
            TypeError: If the value holds anything else, which has no content to hash.
        """
        for part in self._parts(value):
            # The length comes first, so that the parts of different values never join to the same bytes.
            self._digest.update(len(part).to_bytes(8, "little"))
            self._digest.update(part)

    def add_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Add tensors of any type, by name."""
        for name, tensor in tensors.items():
            self.add([name, str(tensor.dtype), list(tensor.shape)])
            self._digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)

    def add_code(self, *classes: type) -> None:
        """Add the sources of this package, and the source files of these classes and their base classes.

        Raises:
            TypeError: If a class has no source file, such as one of a notebook.
        """
        package = Path(__file__).parents[1]
        # os.walk follows links, which tokenizers and heads are in a checkout; pathlib does not.
        walked = (Path(place, name) for place, _, names in os.walk(package, followlinks=True) for name in names)
        shipped = [(str(file.relative_to(package)), file) for file in walked if file.suffix == ".py"]
        for name, file in sorted(shipped):
            self.add([name, file.read_bytes()])
        for cls in classes:
            for kind in inspect.getmro(cls):
                if kind.__module__.partition(".")[0] not in ("builtins", "torch", "metatx"):
                    self.add(_source(kind))
        self.add([np.__version__, torch.__version__])

    def _parts(self, value: Any) -> Iterator[bytes]:
        if isinstance(value, Mapping):
            yield f"dict of {len(value)}".encode()
            for key, item in value.items():
                yield from self._parts(key)
                yield from self._parts(item)
        elif isinstance(value, list | tuple):
            yield f"list of {len(value)}".encode()
            for item in value:
                yield from self._parts(item)
        elif isinstance(value, np.ndarray | Tensor):
            yield from self._array(value)
        elif is_dataclass(value) and not isinstance(value, type):
            yield f"{type(value).__qualname__} of {len(fields(value))}".encode()
            for field in fields(value):
                yield from self._parts(getattr(value, field.name))
        elif isinstance(value, str | Path) and os.path.isfile(value):  # Path.is_file raises for a long text
            yield from self._file(str(value))
        elif isinstance(value, bytes):
            yield b"bytes"
            yield value
        elif value is None or isinstance(value, str | int | float | np.generic):
            yield f"{type(value).__name__} {value!r}".encode()
        else:
            raise TypeError(f"A {type(value).__name__} has no content that can be hashed.")

    def _array(self, value: Any) -> Iterator[bytes]:
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
        if array.dtype == object:
            raise TypeError("An array of objects has no content that can be hashed.")
        if value is not self._last[0]:
            self._last = (value, hashlib.sha256(array.tobytes()).digest())
        yield f"{array.dtype.descr}{array.shape}".encode()
        yield self._last[1]

    def _file(self, path: str) -> Iterator[bytes]:
        if path.lower().endswith(self.external_refs):
            raise TypeError(f"{path} may name other files, so it has no content that can be hashed.")
        if path not in self._files:
            self._files[path] = _file_digest(Path(path))
        yield self._files[path]
        if not path.lower().endswith(self.suffixes):
            yield path.encode(errors="surrogateescape")


def _file_digest(path: Path) -> bytes:
    stat = path.stat()
    digest = hashlib.sha256(f"file {path.suffix.lower()} of {stat.st_size}".encode())
    with path.open("rb") as file:
        if stat.st_size <= WHOLE:
            digest.update(file.read())
        else:
            digest.update(f"{stat.st_ino} {stat.st_mtime_ns} {stat.st_ctime_ns}".encode())
            for start in (0, (stat.st_size - PART) // 2, stat.st_size - PART):
                file.seek(start)
                digest.update(file.read(PART))
    return digest.digest()


def _source(cls: type) -> bytes:
    try:
        return Path(inspect.getsourcefile(cls) or "").read_bytes()
    except OSError:
        raise TypeError(f"{cls.__name__} has no source file that can be hashed.") from None


def source_content(data: Any) -> str:
    """SHA-256 (hex) of a file, of all files of a folder, or of a table or samples in memory.

    Empty if the data have no content to hash, such as a name on the hub.
    """
    import pandas as pd

    content = Content()
    try:
        if isinstance(data, str | Path) and os.path.isdir(data):
            for file in sorted(file for file in Path(data).rglob("*") if file.is_file()):
                content.add([str(file.relative_to(data)), file])
        elif isinstance(data, str | Path) and not os.path.isfile(data):
            return ""
        elif isinstance(data, pd.DataFrame):
            content.add([list(map(str, data.columns)), pd.util.hash_pandas_object(data.astype(str)).to_numpy()])
        else:
            content.add(data)
    except TypeError:
        return ""
    return content.hexdigest()


def options_of(component: Any, names: tuple[str, ...] | None = None) -> str:
    """Options with their defaults and fitted facts of a component, or those of these names, as JSON.

    Raises:
        TypeError: If an option is no JSON value.
    """
    options = {**all_options(component), **component.fitted}
    return json.dumps({name: options.get(name) for name in names or sorted(options)})
