"""Base class of all tokenizers, and layers that tokenizers share."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from metatx.component import Component
from metatx.errors import SampleError, short
from metatx.examples import Reader
from metatx.padded import PaddedTokens
from metatx.places import Places
from metatx.registry import all_options
from metatx.sequence import TokenSequence

__all__ = ["LearnedPositions", "Tokenizer", "orthogonal_linear", "sinusoidal_positions"]

Batch = dict[str, Any]  # for each field a stacked Tensor (B, ...), or a list of B tensors where shapes differ


class Tokenizer(Component):
    """Base class of tokenizers, which hold all that is specific to a modality: reading, statistics, map to tokens.

    A subclass writes ``encode`` and ``forward``; other methods have defaults. ``Component`` explains options, ``fit``
    and ``build``.

    Attributes:
        takes_row: True if a sample is a dict of all input columns, False if it is the value of one column.
        dicts: True if a dict may be a sample itself (a file with its path, a signal with its rate), not only a row.
        suffixes: Suffixes of the files that are samples, in lower case with the dot.
        words: True if a string is a sample itself, never the name of a file; a file is then given as a ``Path``.
        external_refs: Suffixes of files that may name other files; a server refuses them.
        readers: Readers of files that hold many samples in a format of the modality, by suffix.
        signatures: Tests of a file's first 512 bytes, by suffix; a test returns False for another format. A server runs
            them on the files it is sent, and refuses files whose suffix has no test. ``metatx.reading.signatures`` has
            tests for common formats.
        isolated: True if a sample from JSON is parsed by a library that may crash or hang on a bad one; a server then
            parses it in another process, as it does files.
        guessed_from: Kind of cells from which the modality of a column is guessed: names of files with one of
            ``suffixes``, lists of numbers, words, or any value of a row; None: it is never guessed.
        file_columns: Columns of a table that name files, with the suffixes of each; None where its cells decide.
        word_columns: Columns of a table that are known to hold words before it is read.
        default_head: Name of the head for data without a target column; None if there is none.
        uses_stem_tokens: True if the tokens come from the backbone's stem, so that their scale needs no change.
        token_rms_factor: Root mean square of the tokens at the start of training, relative to that of the stem's
            tokens, on a backbone that does not normalise its input. The larger it is, the less blocks change tokens.
        lookback: Number of last time steps that are read of a sample; None for all.
        option_prefix: Beginning of the tokenizer's options on the command line, for messages.
        time_axis: Axis of a two-dimensional sample that is time: 1 for (C, L), 0 for (L, C).
        vocabulary: Number of different words, V, that tokens stand for; 0 if they are no words. If it is above 0,
            ``words_of`` and ``hide_words`` are written too.
        mixes_channels: True if one sequence holds all channels of a series, False if each channel is a sequence.
        augments: True if ``augment`` changes samples; options decide it.
        stacks: True if a pool may compute the tokens of many tasks in one call. ``padded`` then reads nothing but the
            batch, options, weights and buffers, and runs under ``torch.func.vmap``: no value decides shapes or
            branches.
        crop_warning: Advice, for users of dense heads, how to avoid that tokens leave out the edges of a sample; empty
            if tokens cover the whole sample.
        free_axes: Axes of encoded tensors that may differ from sample to sample, with a name each, by the tensor's
            name; they stay free in an exported graph.
        classical: Kind of scikit-learn model that is the baseline on ``baseline_features``: a linear model, gradient
            boosting, or a linear model on weighted counts of words.

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
    guessed_from: ClassVar[Literal["files", "numbers", "words", "values"] | None] = "files"
    file_columns: Mapping[str, Sequence[str]] | None = None
    word_columns: Sequence[str] = ()
    default_head: ClassVar[str | None] = None
    uses_stem_tokens: bool = False
    token_rms_factor: float = 1.0
    lookback: int | None = None
    time_axis: int = 1
    option_prefix: str = "--tokenizer"
    mixes_channels: bool = False
    vocabulary: int = 0
    augments: bool = False
    crop_warning: str = ""
    free_axes: ClassVar[Mapping[str, Mapping[int, str]]] = {}
    classical: ClassVar[Literal["linear", "boosting", "words"]] = "linear"

    @classmethod
    def accepts(cls, value: Any) -> bool:
        """Return True if a column that holds such values can be an input.

        By default it accepts names of files with one of ``suffixes``, or any value if there are no suffixes.
        """
        return not cls.suffixes or (isinstance(value, str) and value.lower().endswith(cls.suffixes))

    @classmethod
    def preview(cls, sample: Any) -> Any:
        """Show a raw sample to a person: a PIL image, sound as (float32 (L,), rate in Hz), or words; by default words.

        Raises:
            SampleError: If the sample cannot be read.
        """
        if isinstance(sample, dict):
            return ", ".join(
                f"{name}: {value if isinstance(value, str) else short(value)}" for name, value in sample.items()
            )
        return str(sample) if isinstance(sample, str | Path) else short(sample)

    @property
    def modality(self) -> str | dict[str, str]:
        """Name of the tokenizer; of several inputs, the modality of each by its name."""
        return self.name

    def text_columns(self, inputs: Sequence[str]) -> list[str]:
        """Input columns whose cells are words, even if a file's cells look like numbers; by default none."""
        return []

    def columns_in(self, columns: Sequence[str], inputs: Sequence[str]) -> list[str]:
        """Columns of the task's ``inputs`` that are read of a table with these ``columns``; by default all inputs."""
        return list(inputs)

    def read_last(self, steps: int) -> None:
        """Set ``lookback``, the number of last time steps that are read. Raises TypeError if samples have no time."""
        raise TypeError(f"The {self.name} tokenizer reads no steps in time.")

    def encode(self, sample: Any) -> dict[str, Tensor]:
        """Convert one raw sample to tensors by name, deterministically.

        The names are the same for all samples; shapes may differ. A batch has, for each name, the samples' tensors
        stacked to (B, ...) if their shapes are equal, else a list of B tensors: ``forward`` must take both.

        Raises:
            SampleError: If the sample cannot be used; names the field, what was found, what was expected.
        """
        raise NotImplementedError(f"{type(self).__name__} has no encode(sample).")

    def json_schema(self) -> dict[str, Any]:
        """JSON Schema of a sample, with at least one sample in ``examples``; by default any JSON value is allowed."""
        return {}

    def from_json(self, value: Any) -> Any:
        """Convert a JSON value that a server was sent to a raw sample; it must not name a file of this machine.

        NumPy arrays may stand in the place of lists of numbers: a client may send those as bytes. By default a
        tokenizer that reads files accepts numbers only, and one that reads none accepts anything.

        Raises:
            SampleError: If the value is not accepted.
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
        """Convert a number, or nested lists of numbers to an array. Raises SampleError for anything else."""
        if isinstance(value, int | float):
            return value
        try:
            array = np.asarray(value) if isinstance(value, list | np.ndarray) else None
        except (ValueError, RecursionError):
            raise SampleError("found lists of unequal length; expected numbers in nested lists, or a file") from None
        if array is None or array.dtype.kind not in "biuf":
            raise SampleError(f"found {short(value)}; expected numbers, or a file: {self._sent()}")
        return array

    def _sent(self) -> str:
        """Suffixes of the files that a server accepts, in words."""
        return ", ".join(suffix for suffix in self.suffixes if suffix not in self.external_refs)

    def names_file(self, sample: Any) -> bool:
        """Return True if a raw sample is the name of a file, judged by the name alone."""
        has_suffix = isinstance(sample, str) and not self.words and sample.lower().endswith(self.suffixes)
        return has_suffix or isinstance(sample, Path)

    def file_sample(self, name: str) -> str | Path:
        """Raw sample that stands for the file ``name``."""
        return Path(name) if self.words else name

    def augment(self, encoded: dict[str, Tensor]) -> dict[str, Tensor]:
        """Vary an encoded sample at random, with torch's global generator; called in training only.

        The result may have a field ``view`` (4,), which dense targets follow: left, top, right and bottom of the part
        of the sample that is shown, as shares of its width and height. A mirrored view has left and right, or top and
        bottom, exchanged. By default the sample is not changed.
        """
        return encoded

    def forward(self, batch: Batch) -> Tensor | tuple[Tensor, Tensor] | TokenSequence:
        """Map collated tensors to tokens: (B, N, D), or these and a mask (B, N), or a TokenSequence."""
        raise NotImplementedError(f"{type(self).__name__} has no forward(batch).")

    def padded(self, batch: Batch) -> PaddedTokens:
        """Map collated tensors to the tokens of ``forward``, not packed yet; called where ``stacks`` is True.

        An exported graph calls it too, with tensors that are stacked.

        By default these are the tensors that ``forward`` returns. A tokenizer whose ``forward`` returns a TokenSequence
        writes this method, and in ``forward`` packs its result.
        """
        tokens = self(batch)
        if isinstance(tokens, TokenSequence):
            raise TypeError(
                f"{type(self).__name__}.forward returns packed tokens; write padded(batch), or unset stacks."
            )
        return PaddedTokens(*tokens) if isinstance(tokens, tuple) else PaddedTokens(tokens)

    def preparation(self) -> dict[str, Any]:
        """Facts, JSON values, by which a program without metatx makes the tensors of ``encode``.

        By default these are the options and what was fitted.
        """
        return {**all_options(self), **self.fitted}

    def words_of(self, batch: Batch) -> list[Tensor]:
        """Numbers of the words of each sample, B tensors int64 (n,), from 0 to below V; negative: a word not known.

        Raises:
            TypeError: If samples of this modality have no words.
        """
        raise TypeError(f"The {self.name} tokenizer reads samples without words.")

    def hide_words(self, batch: Batch, hidden: Sequence[Tensor]) -> tuple[TokenSequence, Tensor]:
        """Map collated tensors to tokens, as ``forward`` does, with some of the words hidden at their places.

        Args:
            batch: Collated tensors.
            hidden: True for the words to hide, B tensors bool (n,), in the order of ``words_of``.

        Returns:
            The tokens, and for each the number of the word that is hidden there, int64 (T,), negative elsewhere.

        Raises:
            TypeError: If samples of this modality have no words.
        """
        raise TypeError(f"The {self.name} tokenizer reads samples without words.")

    def dense_values(self, sample: Any) -> np.ndarray:
        """Values at each place that a dense head labels, float32: (H, W, C) of an image, (N, C) of points.

        Raises:
            TypeError: If samples of this modality have no such places.
        """
        raise TypeError(f"The {self.name} tokenizer reads samples without pixels or points to label one by one.")

    def token_places(self, sample: Any) -> Places | None:
        """Places in a raw sample of the tokens that ``forward`` makes of it, in their order, for explanations.

        By default None: parts are then called by the numbers of their tokens.
        """
        return None

    def baseline_features(self, sample: Any) -> np.ndarray | dict[str, Any] | str:
        """Features of a raw sample for the classical baseline: numbers (F,), a dict of named values, or words.

        By default nine statistics of each encoded tensor, or of each row of a two-dimensional one.
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
    """Linear layer with orthogonal initial weights, which keep distances, and zero bias: the end of a tokenizer."""
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
    """Learned embedding of each of ``max_length`` positions.

    Args:
        dim: Width of the backbone, D.
        max_length: Number of positions.
    """

    def __init__(self, dim: int, max_length: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(max_length, dim))
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, length: int) -> Tensor:
        """Embeddings of the first ``length`` positions, (length, D).

        Raises:
            ValueError: If there are fewer than ``length`` positions.
        """
        if length > len(self.weight):
            raise ValueError(f"{length} tokens, but positions for {len(self.weight)} only; raise max_length.")
        return self.weight[:length]
