"""Frozen encoders: functions from raw samples to vectors that never change, such as the anchors of an alignment."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from metatx.backbone.base import Backbone
from metatx.data.content_hash import Content
from metatx.disk.cache import read_cached, write_cached
from metatx.disk.weight_files import file_sha256
from metatx.encoding.collate import collate, encoded, to_device
from metatx.encoding.encoding_cache import key_of
from metatx.encoding.head_choice import build_tokenizer
from metatx.errors import SampleError, short
from metatx.progress import bar
from metatx.sequence import as_sequence

__all__ = ["FrozenEncoder", "backbone_encoder", "sentence_encoder"]

AT_ONCE = 64  # samples of one call
LONGEST = 512  # tokens of a text where the folder sets no limit


@dataclass(frozen=True, kw_only=True)
class FrozenEncoder:
    """Function from raw samples to vectors that never changes, and what it is known by.

    Args:
        function: Function from a list of B raw samples to B vectors (B, E'), a NumPy array or a tensor; it raises
            SampleError for a sample that cannot be used.
        dim: Width of the vectors, E'.
        fingerprint: Text that differs for functions that differ; vectors are cached on disk by it.
        name: Name for messages, and in the folder of an alignment, which holds no weights of the encoder.
        suffixes: Suffixes of the files that samples may name; the content of such files counts, wherever they lie.

    Example:
        >>> lengths = lambda texts: [[len(text), text.count(" ")] for text in texts]
        >>> encoder = FrozenEncoder(function=lengths, dim=2, fingerprint="lengths 1", name="lengths")
        >>> encoder(["a dog", "plane"]).tolist()
        [[5.0, 1.0], [5.0, 0.0]]
    """

    function: Callable[[list[Any]], Any]
    dim: int
    fingerprint: str
    name: str
    suffixes: tuple[str, ...] = ()

    def __call__(self, samples: Sequence[Any]) -> np.ndarray:
        """Vectors of raw samples (B, E'), float32.

        Raises:
            SampleError: If a sample cannot be used.
            ValueError: If the function gives another shape, or numbers that are not finite.
        """
        vectors = self.function(list(samples))
        vectors = np.asarray(vectors.cpu() if isinstance(vectors, torch.Tensor) else vectors, dtype=np.float32)
        if vectors.shape != (len(samples), self.dim):
            raise ValueError(
                f"{self.name} gave an array of {vectors.shape} for {len(samples)} samples; expected "
                f"({len(samples)}, {self.dim}): a vector of {self.dim} numbers each."
            )
        if not np.isfinite(vectors).all():
            raise ValueError(f"{self.name} gave vectors with numbers that are not finite; expected finite ones.")
        return vectors

    def vectors(self, samples: Sequence[Any]) -> tuple[np.ndarray, dict[int, str]]:
        """Vectors of the good samples (n, E'), in order, and the reasons why others cannot be used, by position.

        Each different sample is encoded once. The vectors are cached on disk, where samples have a content that can be
        hashed.
        """
        first: dict[Any, int] = {}
        numbers = [first.setdefault(_identity(sample, at), len(first)) for at, sample in enumerate(samples)]
        places = dict(zip(reversed(numbers), reversed(range(len(samples))), strict=True))
        different = [samples[places[number]] for number in range(len(first))]
        key = self._key(different)
        kept = None if key is None else read_cached(f"encoders/{key}")
        if kept is not None:
            return kept["vectors"].numpy()[numbers], {}
        parts: list[np.ndarray] = []
        bad: dict[int, str] = {}
        for start in bar(range(0, len(different), AT_ONCE), self.name):
            parts.append(self._good(different, range(start, min(start + AT_ONCE, len(different))), bad))
        table = np.concatenate(parts) if parts else np.zeros((0, self.dim), np.float32)
        if key is not None and not bad:
            write_cached(f"encoders/{key}", {"vectors": torch.from_numpy(table)})
        rows = {number: row for row, number in enumerate(n for n in range(len(different)) if n not in bad)}
        good = [rows[number] for number in numbers if number in rows]
        return table[good], {at: bad[number] for at, number in enumerate(numbers) if number in bad}

    def _good(self, samples: Sequence[Any], places: range, bad: dict[int, str]) -> np.ndarray:
        """Vectors of the good ones of the samples at ``places``; the others are noted in ``bad``."""
        try:
            return self([samples[place] for place in places])
        except SampleError as error:
            if len(places) == 1:
                bad[places[0]] = str(error)
                return np.zeros((0, self.dim), np.float32)
        return np.concatenate([self._good(samples, range(place, place + 1), bad) for place in places])

    def _key(self, samples: Sequence[Any]) -> str | None:
        content = Content(self.suffixes)
        try:
            content.add([self.fingerprint, self.dim, *samples])
        except (TypeError, OSError):
            return None
        return content.hexdigest()


def _identity(sample: Any, position: int) -> Any:
    """Value that is equal for equal samples; that of a sample without a hash is its position."""
    return (type(sample), sample) if isinstance(sample, str | Path | bytes) else position


def sentence_encoder(folder: str | Path, name: str | None = None) -> FrozenEncoder:
    """Text encoder of a folder that sentence-transformers or transformers wrote, on the CPU in float32.

    The vector of a text is the mean of the last layer's tokens (or the first token, where the folder of
    sentence-transformers says so), at unit length.

    Args:
        folder: Folder with ``config.json``, the weights as safetensors, and the files of the tokenizer.
        name: Name of the encoder; by default that of the folder.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If it holds no text encoder, or one that pools in another way.

    Example:
        >>> encoder = sentence_encoder("all-MiniLM-L6-v2")  # doctest: +SKIP
        >>> encoder(["A dog runs on the beach."]).shape  # doctest: +SKIP
        (1, 384)
    """
    raise NotImplementedError


def backbone_encoder(
    backbone: Backbone,
    modality: str = "image",
    options: Mapping[str, Any] | None = None,
) -> FrozenEncoder:
    """Pooled features of another frozen backbone, read through its own stem: CLS and the mean of the other tokens.

    Args:
        backbone: Frozen backbone, such as a Vision Transformer of timm.
        modality: Name of a tokenizer that trains nothing on this backbone, such as ``image``.
        options: Options of the tokenizer.

    Raises:
        ValueError: If the backbone is trained, or the tokenizer has weights of its own, which would be random here.
    """
    raise NotImplementedError
