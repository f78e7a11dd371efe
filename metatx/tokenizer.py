"""Base class of all tokenizers, and the position helpers they share."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from metatx.component import Component
from metatx.errors import SampleError, short
from metatx.examples import Reader
from metatx.sequence import TokenSequence

__all__ = ["LearnedPositions", "Tokenizer", "orthogonal_linear", "sinusoidal_positions"]

Batch = dict[str, Any]  # field -> stacked Tensor (B, ...), or a list of B tensors where shapes differ


class Tokenizer(Component):
    """All that is specific to a modality: reading a raw sample, fitted statistics, the trained map to tokens.

    A subclass writes ``encode`` and ``forward``; the rest has defaults. ``Component`` says how options, ``fit``
    and ``build`` go together.

    Attributes:
        takes_row: True if a sample is a dict of all input columns, not the value of one.
        dicts: True if a dict may be a sample of its own (a file with its path, a signal with its rate), not only a row.
        suffixes: File types that a folder of classes is searched for.
        words: True if a string is a sample itself, never the name of a file, which then comes as a ``Path``.
        external_refs: Suffixes whose files may name other files, so that they are not taken from strangers.
        readers: Readers of files that hold many samples in a format of the modality's own, by suffix.
        signatures: Tests of a file's first 512 bytes, by suffix: False where they are not of that format. A server runs
            them on files of strangers, and takes none whose suffix has no test; ``metatx.reading.signatures`` has those
            of common formats.
        isolated: True if a sample that came as JSON is parsed by a library that may crash, or not end, on a bad one: a
            server does so in another process, as with files.
        default_head: The head for data without a target column, if there is one.
        uses_stem_tokens: True if its tokens come from the backbone's own stem, so that their scale is right as it is.
        token_rms_factor: RMS of the tokens at the start of training, in units of that of the stem's tokens, on a
            backbone that does not normalise its input; the larger, the less the blocks change the tokens.
        lookback: Number of last steps that are read of a sample in time; None for all.
        time_axis: Axis of a two-dimensional sample that is time: 1 for (C, L), 0 for (L, C).
        mixes_channels: True where one sequence holds all channels of a series, not one each.
        augments: True if ``augment`` changes anything; set by options.
        crop_warning: Where its tokens leave out the edges of a sample: what to change so that they do not, which dense
            answers need; empty otherwise.
        classical: Which scikit-learn model stands beside it as baseline on what ``baseline_features`` gives;
            ``"words"``: a linear one on weighted counts of words.

    Example:
        >>> import torch
        >>> class LevelTokenizer(metatx.Tokenizer):
        ...     def forward(self, batch):
        ...         return batch["levels"][:, :, None].expand(-1, -1, self.dim)  # (B, N, D)
        >>> LevelTokenizer(dim=8)({"levels": torch.zeros(2, 3)}).shape
        torch.Size([2, 3, 8])
    """

    takes_row: ClassVar[bool] = False
    dicts: ClassVar[bool] = True
    suffixes: ClassVar[tuple[str, ...]] = ()
    words: ClassVar[bool] = False
    external_refs: ClassVar[tuple[str, ...]] = ()
    readers: ClassVar[Mapping[str, Reader]] = {}
    signatures: ClassVar[Mapping[str, Callable[[bytes], bool]]] = {}
    isolated: ClassVar[bool] = False
    default_head: ClassVar[str | None] = None
    uses_stem_tokens: bool = False
    token_rms_factor: float = 1.0
    lookback: int | None = None
    time_axis: int = 1
    mixes_channels: bool = False
    augments: bool = False
    crop_warning: str = ""
    classical: ClassVar[Literal["linear", "boosting", "words"]] = "linear"

    @classmethod
    def accepts(cls, value: Any) -> bool:
        """Whether a column that holds such values can be an input; by default files of a known suffix, or any."""
        return not cls.suffixes or (isinstance(value, str) and value.lower().endswith(cls.suffixes))

    def text_columns(self, inputs: Sequence[str]) -> list[str]:
        """Those of a table's input columns whose cells are words, also where a file holds digits only; none."""
        return []

    def read_last(self, steps: int) -> None:
        """Read only the last so many steps of a sample. Raises TypeError where a sample has none."""
        raise TypeError(f"The {self.name} tokenizer reads no steps in time.")

    def encode(self, sample: Any) -> dict[str, Tensor]:
        """One raw sample to tensors, deterministically.

        Raises:
            SampleError: If the sample cannot be used; names the field, what was found, what was expected.
        """
        raise NotImplementedError(f"{type(self).__name__} has no encode(sample).")

    def json_schema(self) -> dict[str, Any]:
        """JSON Schema of a sample that comes as JSON, with at least one in ``examples``; by default anything."""
        return {}

    def from_json(self, value: Any) -> Any:
        """A sample that came as JSON, as ``encode`` takes it, from someone who may not name files of this machine.

        By default only numbers pass, where the tokenizer reads files, and anything where it reads none.

        Raises:
            SampleError: If there is something else among them.
        """
        if not self.suffixes:
            return value
        if not isinstance(value, dict):
            return self._numbers(value)
        files = {"bytes", "path"} & set(value)
        if files:
            raise SampleError(
                f"found {' and '.join(sorted(files))}; expected numbers, or a file: {self._sent()}; "
                "files are not sent within JSON"
            )
        return {name: self._numbers(part) for name, part in value.items()}

    def _numbers(self, value: Any) -> Any:
        """One number, or nested lists of numbers as an array. Raises SampleError for anything else."""
        if isinstance(value, int | float):
            return value
        try:
            array = np.asarray(value) if isinstance(value, list) else None
        except (ValueError, RecursionError):
            raise SampleError("found lists of unequal length; expected numbers in nested lists, or a file") from None
        if array is None or array.dtype.kind not in "biuf":
            raise SampleError(f"found {short(value)}; expected numbers, or a file: {self._sent()}")
        return array

    def _sent(self) -> str:
        """Endings of the files that are taken from strangers."""
        return ", ".join(suffix for suffix in self.suffixes if suffix not in self.external_refs)

    def names_file(self, sample: Any) -> bool:
        """Whether a raw sample is the name of a file, by itself: nothing is looked up."""
        named = isinstance(sample, str) and not self.words and sample.lower().endswith(self.suffixes)
        return named or isinstance(sample, Path)

    def file_sample(self, name: str) -> str | Path:
        """The raw sample that stands for a file."""
        return Path(name) if self.words else name

    def augment(self, encoded: dict[str, Tensor]) -> dict[str, Tensor]:
        """A random variation of an encoded sample, from torch's global generator; in training only.

        A further field ``view`` (4,) says what of the sample it shows, for dense answers to follow: left, top, right
        and bottom as shares of width and height, left and right (top and bottom) exchanged where it is mirrored.
        """
        return encoded

    def forward(self, batch: Batch) -> Tensor | tuple[Tensor, Tensor] | TokenSequence:
        """Collated tensors to tokens: (B, N, D), that and a mask (B, N), or a TokenSequence."""
        raise NotImplementedError(f"{type(self).__name__} has no forward(batch).")

    def dense_values(self, sample: Any) -> np.ndarray:
        """The values at each place that a dense answer labels, float32: (H, W, C) of a picture, (N, C) of points.

        Raises:
            TypeError: If samples of this modality have no such places.
        """
        raise TypeError(f"The {self.name} tokenizer reads samples without pixels or points to label one by one.")

    def baseline_features(self, sample: Any) -> np.ndarray | dict[str, Any] | str:
        """Features of a raw sample for the classical baseline: numbers (F,), a row of named values, or words.

        By default nine statistics of each encoded tensor, each row of a two-dimensional one taken by itself.
        """
        rows = []
        for tensor in self.encode(sample).values():
            values = tensor.double().reshape(tensor.shape[0] if tensor.ndim == 2 else 1, -1).numpy()
            steps = np.diff(values, axis=1) if values.shape[1] > 1 else np.zeros_like(values)
            spread = [values.std(1), steps.std(1), np.abs(steps).mean(1)]
            levels = np.quantile(values, [0, 0.25, 0.5, 0.75, 1], axis=1)
            rows.append(np.stack([values.mean(1), *spread, *levels]).ravel())
        return np.concatenate(rows)


def orthogonal_linear(inputs: int, dim: int, bias: bool = True) -> nn.Linear:
    """A linear map whose weights start orthogonal (distances kept), bias zero: the end of a tokenizer."""
    linear = nn.Linear(inputs, dim, bias=bias)
    nn.init.orthogonal_(linear.weight)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear


def sinusoidal_positions(positions: Tensor, dim: int, max_period: float = 10_000.0) -> Tensor:
    """Sine-cosine embedding (..., dim) of real-valued positions (...) (Vaswani et al. 2017, arXiv 1706.03762).

    Raises:
        ValueError: If ``dim`` is odd.
    """
    if dim % 2:
        raise ValueError(f"Sinusoidal positions need an even dim, not {dim}.")
    exponent = torch.arange(0, dim, 2, device=positions.device, dtype=torch.float32) / dim
    angles = positions[..., None].float() * max_period**-exponent
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class LearnedPositions(nn.Module):
    """A learned embedding for each of ``max_length`` positions.

    Args:
        dim: Width of the backbone.
        max_length: Positions that exist.
    """

    def __init__(self, dim: int, max_length: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(max_length, dim))
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, length: int) -> Tensor:
        """The first ``length`` positions (N, D).

        Raises:
            ValueError: If there are fewer than ``length``.
        """
        if length > len(self.weight):
            raise ValueError(f"{length} tokens, but positions for {len(self.weight)} only; raise max_length.")
        return self.weight[:length]
