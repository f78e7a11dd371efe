"""Frozen encoders: functions from raw samples to vectors that never change, such as the anchors of an alignment."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from metatx.backbone.base import Backbone
from metatx.data.content_hash import Content
from metatx.disk.cache import read_cached, write_cached
from metatx.disk.weight_files import file_sha256
from metatx.encoding.collate import collate, encoded, to_device
from metatx.encoding.head_choice import build_tokenizer
from metatx.errors import SampleError, short
from metatx.progress import bar, tell
from metatx.registry import all_options
from metatx.sequence import as_sequence

__all__ = ["FrozenEncoder", "backbone_encoder", "distinct", "sentence_encoder"]

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
        modality: Name of the tokenizer that takes such samples, such as ``text``; None: that of the anchor's own name.

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
    modality: str | None = None

    def __call__(self, samples: Sequence[Any]) -> np.ndarray:
        """Vectors of raw samples (B, E'), float32.

        Raises:
            SampleError: If a sample cannot be used.
            ValueError: If the function gives another shape, or numbers that are not finite.
        """
        vectors = self.function(list(samples))
        vectors = np.asarray(vectors.cpu() if isinstance(vectors, Tensor) else vectors, dtype=np.float32)
        if vectors.shape != (len(samples), self.dim):
            raise ValueError(
                f"{self.name} gave an array of {vectors.shape} for {len(samples)} samples; expected "
                f"({len(samples)}, {self.dim}): a vector of {self.dim} numbers each."
            )
        if not np.isfinite(vectors).all():
            raise ValueError(f"{self.name} gave vectors with numbers that are not finite; expected finite ones.")
        return vectors

    def vectors(self, samples: Sequence[Any], disk: bool = True) -> tuple[np.ndarray, dict[int, str]]:
        """Vectors of the good samples (n, E'), in order, and the reasons why others cannot be used, by position.

        Each different sample is encoded once.

        Args:
            samples: Raw samples.
            disk: Read and write the cache on disk, where samples have a content that can be hashed.
        """
        first, numbers = distinct(samples)
        different = [samples[place] for place in first]
        key = self._key(different) if disk else None
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
            content.add_code()
        except (TypeError, OSError):
            return None
        return content.hexdigest()


def distinct(samples: Sequence[Any]) -> tuple[list[int], list[int]]:
    """Position of the first of each group of equal samples, and for each sample the number of its group.

    Texts, paths and bytes are compared; any other sample is a group of its own.
    """
    first: list[int] = []
    groups: dict[Any, int] = {}
    numbers = []
    for place, sample in enumerate(samples):
        compared = (type(sample), sample) if isinstance(sample, str | Path | bytes) else place
        numbers.append(groups.setdefault(compared, len(first)))
        if numbers[-1] == len(first):
            first.append(place)
    return first, numbers


@contextmanager
def _no_bar() -> Iterator[None]:
    """Keep transformers from drawing a progress bar, which a second does not need."""
    from transformers.utils import logging

    bars: Any = logging  # which has no types
    was_on = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            bars.enable_progress_bar()


def sentence_encoder(folder: str | Path, name: str | None = None) -> FrozenEncoder:
    """Text encoder of a folder that sentence-transformers or transformers wrote, on the CPU in float32.

    Where ``modules.json`` of sentence-transformers is there, it says how a text becomes a vector: by the mean of the
    last layer's tokens or by the first, and whether the vector has unit length. Without it, it is the mean at unit
    length. The first text that is longer than the model reads is reported: the ends of such texts are left out.

    Args:
        folder: Folder with ``config.json``, the weights as safetensors, and the files of the tokenizer.
        name: Name of the encoder; by default that of the folder.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If it holds no text encoder that transformers reads, or one that makes vectors in another way.

    Example:
        >>> encoder = sentence_encoder("all-MiniLM-L6-v2")  # doctest: +SKIP
        >>> encoder(["A dog runs on the beach."]).shape  # doctest: +SKIP
        (1, 384)
    """
    from transformers import AutoModel, AutoTokenizer

    path = Path(folder)
    if not (path / "config.json").is_file():
        raise FileNotFoundError(f"{path} holds no text encoder: there is no config.json.")
    if not (path / "tokenizer.json").is_file() and not (path / "vocab.txt").is_file():
        # transformers would make an empty tokenizer, to which all words are the same unknown one.
        raise ValueError(f"{path} is incomplete: it has no tokenizer.json (or vocab.txt).")
    first_token, unit_length = _pooling(path)
    try:
        with _no_bar():
            model = AutoModel.from_pretrained(path, local_files_only=True, use_safetensors=True)
        model = model.eval().requires_grad_(False)
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{path} holds no text encoder that transformers reads: {str(error).splitlines()[0]}"
        ) from None
    longest = _longest(path, tokenizer, model)
    said = name or path.resolve().name
    cut: list[int] = []

    def function(texts: list[Any]) -> Tensor:
        for text in texts:
            if not (isinstance(text, str) and text.strip()):
                raise SampleError(f"text is {short(text)}; expected at least one word")
        fields = tokenizer(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        if not cut and fields["input_ids"].shape[1] == longest:
            cut.extend(length for length in map(len, _uncut(tokenizer, texts)) if length > longest)
            if cut:
                tell(f"{said} reads the first {longest} tokens of a text; one of {cut[0]} is cut, as longer ones are.")
        with torch.no_grad():
            states = model(**fields).last_hidden_state.float()
        mask = fields["attention_mask"][..., None].float()
        pooled = states[:, 0] if first_token else (states * mask).sum(1) / mask.sum(1)
        return F.normalize(pooled, dim=1) if unit_length else pooled

    facts = [first_token, unit_length, longest]
    files = sorted(file for file in path.iterdir() if file.suffix in (".safetensors", ".json", ".txt", ".model"))
    digest = sha256(json.dumps([facts, [[file.name, file_sha256(file)] for file in files]]).encode())
    return FrozenEncoder(
        function=function,
        dim=int(model.config.hidden_size),
        fingerprint=digest.hexdigest(),
        name=said,
        modality="text",
    )


def _uncut(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Tokens of texts, however long, without transformers' warning that they are too long."""
    tokens: list[list[int]] = tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]
    return tokens


def _pooling(folder: Path) -> tuple[bool, bool]:
    """Return True if the vector is that of the first token, and True if it has unit length."""
    if not (folder / "modules.json").is_file():
        return False, True
    try:
        modules = {entry["type"].rpartition(".")[2]: entry["path"] for entry in _json(folder / "modules.json")}
        modes = _json(folder / modules["Pooling"] / "config.json") if "Pooling" in modules else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder} is damaged: its modules cannot be read ({error}).") from None
    chosen = [mode for mode, on in modes.items() if mode.startswith("pooling_mode_") and on is True]
    other = [f"the module {module}" for module in modules if module not in ("Transformer", "Pooling", "Normalize")]
    other += [mode for mode in chosen if mode not in ("pooling_mode_cls_token", "pooling_mode_mean_tokens")]
    if other or len(chosen) != 1:
        way = other[0] if other else f"{len(chosen)} ways of pooling"
        raise ValueError(
            f"{folder} makes vectors by {way}; the mean of the tokens or the first is read here. Give a FrozenEncoder "
            "whose function is SentenceTransformer(FOLDER).encode."
        )
    return chosen == ["pooling_mode_cls_token"], "Normalize" in modules


def _longest(folder: Path, tokenizer: Any, model: Any) -> int:
    """Most tokens of a text; longer texts are cut."""
    limits = [tokenizer.model_max_length]
    if hasattr(model.config, "max_position_embeddings"):
        limits.append(model.config.max_position_embeddings)
    if (folder / "sentence_bert_config.json").is_file():
        limits.append(_json(folder / "sentence_bert_config.json").get("max_seq_length") or LONGEST)
    return int(min(LONGEST, *limits))


def _json(path: Path) -> Any:
    return json.loads(path.read_text())


def backbone_encoder(
    backbone: Backbone, modality: str = "image", options: Mapping[str, Any] | None = None
) -> FrozenEncoder:
    """Pooled features of a frozen backbone, read through its own stem: CLS beside the mean of the other tokens.

    Args:
        backbone: Frozen backbone, such as a Vision Transformer of timm.
        modality: Name of a tokenizer that has no weights of its own on this backbone, such as ``image``.
        options: Options of the tokenizer.

    Raises:
        ValueError: If the backbone is trained, or the tokenizer has weights of its own, which would be random here.
    """
    tokenizer = build_tokenizer(modality, backbone, options or {}).eval()
    if not backbone.frozen or any(True for _ in tokenizer.parameters()):
        trained = f"The {modality} tokenizer has weights of its own" if backbone.frozen else "This backbone is trained"
        raise ValueError(f"{trained}; an anchor needs vectors that are known before training and never change.")

    def function(samples: list[Any]) -> Tensor:
        batch = to_device(collate([encoded(tokenizer, sample) for sample in samples]), backbone.device)
        with torch.no_grad():
            sequence = backbone(as_sequence(tokenizer(batch)))
        return torch.cat([sequence.cls(), sequence.mean()], 1) if backbone.has_cls else sequence.mean()

    facts = json.dumps([backbone.fingerprint, modality, all_options(tokenizer)], sort_keys=True)
    return FrozenEncoder(
        function=function,
        dim=backbone.dim * (2 if backbone.has_cls else 1),
        fingerprint=sha256(facts.encode()).hexdigest(),
        name=f"{backbone.spec} of {modality}",
        suffixes=tokenizer.suffixes,
        modality=modality,
    )
