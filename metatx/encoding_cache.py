"""Encoded samples on disk: kept where encoding costs more than reading them again."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from metatx.cache import read_cached, write_cached

if TYPE_CHECKING:
    from metatx.tokenizer import Tokenizer

__all__ = ["EncodingCache"]


class EncodingCache:
    """The encoded samples of one split, on disk.

    The file's name is a hash of all that decides them: the samples (of files their place, size and time of change),
    the tokenizer with its options and state, and the code of this package and of the tokenizer; so it is never stale.

    Args:
        tokenizer: What encodes the samples.
        samples: Raw samples; of other than files, numbers, texts, arrays, and dicts, lists or dataclasses of these,
            nothing is kept.
        surroundings: What else decides them: the shape of the backbone whose stem the tokenizer starts from.
    """

    def __init__(self, tokenizer: "Tokenizer", samples: Sequence[Any], surroundings: str) -> None:
        self.samples = samples
        described = [tokenizer.name, tokenizer.options, surroundings]
        digest = hashlib.sha256(json.dumps(described, default=str).encode())
        for part in _code(tokenizer):
            digest.update(part)
        for name, tensor in tokenizer.named_buffers():
            digest.update(name.encode())
            digest.update(tensor.cpu().numpy().tobytes())
        self.name: str | None = None
        self.last: tuple[Any, bytes] = (None, b"")  # the large array that neighbouring samples may share, and its hash
        try:
            for sample in samples:
                for part in self._content(sample):
                    digest.update(part)
        except TypeError:
            return
        self.name = f"encoded/{digest.hexdigest()}"

    def load(self) -> list[dict[str, Tensor]] | None:
        """All samples, encoded, if they were kept."""
        kept = None if self.name is None else read_cached(self.name)
        if kept is None:
            return None
        encoded: list[dict[str, Tensor]] = [{} for _ in self.samples]
        for name, tensor in kept.items():
            index, _, field = name.partition(".")
            encoded[int(index)][field] = tensor
        return encoded

    def store(self, encoded: Sequence[dict[str, Tensor]]) -> None:
        """Keep all samples, encoded."""
        if self.name is None:
            return
        tensors = {
            f"{index}.{field}": tensor.contiguous()
            for index, sample in enumerate(encoded)
            for field, tensor in sample.items()
        }
        write_cached(self.name, tensors)

    def _content(self, sample: Any) -> Iterator[bytes]:
        """What a raw sample holds. Raises TypeError where that is not clear."""
        if isinstance(sample, dict):
            for key, value in sample.items():
                yield f"{key}:".encode()
                yield from self._content(value)
        elif isinstance(sample, list | tuple):
            yield f"[{len(sample)}".encode()
            for value in sample:
                yield from self._content(value)
        elif isinstance(sample, np.ndarray | Tensor):
            array = np.asarray(sample)
            if array.dtype == object:
                raise TypeError("An array of objects has no content to tell it by.")
            if sample is not self.last[0]:
                self.last = (sample, hashlib.sha256(array.tobytes()).digest())
            yield f"{array.dtype}{array.shape}".encode()
            yield self.last[1]
        elif is_dataclass(sample):
            for field in fields(sample):
                yield from self._content(getattr(sample, field.name))
        elif isinstance(sample, str | Path) and os.path.isfile(sample):  # pathlib's raises for a long text
            stat = Path(sample).stat()
            yield f"{Path(sample).resolve()}{stat.st_size}{stat.st_mtime_ns}".encode()
        elif isinstance(sample, bytes):
            yield sample
        elif sample is None or isinstance(sample, str | int | float | np.generic):
            yield repr(sample).encode()
        else:
            raise TypeError(f"A {type(sample).__name__} has no content to tell it by.")


def _code(tokenizer: "Tokenizer") -> Iterator[bytes]:
    """What says which code encodes: the package's files and the tokenizer's own, with size and time of change."""
    import inspect

    own = inspect.getsourcefile(type(tokenizer))
    for file in [*sorted(Path(__file__).parent.rglob("*.py")), *([Path(own)] if own else [])]:
        stat = file.stat()
        yield f"{file}{stat.st_size}{stat.st_mtime_ns}".encode()
