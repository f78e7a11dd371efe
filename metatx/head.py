"""Base class of all heads."""

from collections.abc import Collection, Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from metatx.component import Component
from metatx.data.holdout import with_each_class
from metatx.data.table_files import of_files
from metatx.data.tables import candidates
from metatx.errors import SampleError
from metatx.examples import Examples, Rows
from metatx.sequence import TokenSequence
from metatx.values import is_missing

if TYPE_CHECKING:
    from datasets import Dataset
    from torchmetrics import Metric

    from metatx.tokenizer import Tokenizer

__all__ = ["Head"]


class Head(Component):
    """All that is specific to an answer: pooling, output layer, loss, metrics, and what the user gets to see.

    A subclass writes ``fit``, ``encode``, ``forward``, ``loss``, ``decode``, ``metrics`` and ``trivial``; the rest
    has defaults. ``Component`` says how options, ``fit`` and ``build`` go together. ``fit`` gets the targets, and
    raises ValueError if no task can be made of them (one class only, missing values).

    Attributes:
        primary_metric: The metric that early stopping and comparisons look at; its direction is the torchmetrics
            metric's own ``higher_is_better``.
        dense: True if an answer lies on the sample's own grid (a mask, boxes in pixels); ``decode`` and ``records``
            then take the samples' extents too: (H, W) of a picture, (N,) of points.
        needs_target: True if a table must have a target column; if not, one with a usual name is not taken for it.
        output_suffixes: Endings of the files that ``write`` makes; "" for a folder.
        layers: Number of the backbone's last blocks that it reads; a sequence's embeddings are (T, layers * D).
        calibrates: True if ``calibrate`` is to be called after training.
        pool_options: Options that ``pool`` depends on, for the cache of what it gives; None: all of them.

    Example:
        >>> head = metatx.create("heads", "regression", 192)
        >>> isinstance(head, metatx.Head), head.dense
        (True, False)
    """

    primary_metric: str = ""
    dense: ClassVar[bool] = False
    needs_target: ClassVar[bool] = True
    output_suffixes: ClassVar[tuple[str, ...]] = ()
    pool_options: ClassVar[tuple[str, ...] | None] = None
    layers: int = 1
    calibrates: bool = False

    # From a table to examples

    @classmethod
    def accepts(cls, targets: Sequence[Any]) -> bool:
        """Whether this head is the one a user means who names such a target and no head."""
        return False

    @classmethod
    def claims(cls, table: "Dataset", target: str | None) -> bool:
        """Whether a table is one for this head, though it has a target column that others would predict row by row.

        Asked of a tokenizer's default head, where the user names no head; ``target`` is what the user named.
        """
        return False

    def columns(
        self, table: "Dataset", target: str | None, inputs: Sequence[str] | None, tokenizer: "Tokenizer"
    ) -> tuple[str | None, list[str]]:
        """The target column and the input columns of a table, from those that the user named.

        Raises:
            ValueError: If there is not one sensible reading; lists the candidates.
        """
        return target, list(inputs or self.inputs(table, target, tokenizer))

    def inputs(self, table: "Dataset", target: str | None, tokenizer: "Tokenizer") -> list[str]:
        """The input columns of a table for which the user named none.

        Raises:
            ValueError: If there is not one sensible reading; lists the candidates.
        """
        found = candidates(table, tokenizer.accepts, without={target})
        if tokenizer.takes_row:
            return found
        if len(found) != 1:
            choices = ", ".join(found or [name for name in table.column_names if name != target])
            raise ValueError(f"Which column is the {tokenizer.name} input? Name it with --inputs; it may be {choices}.")
        return found

    def examples(
        self, table: "Dataset", inputs: list[str], target: str | None, tokenizer: "Tokenizer", source: str
    ) -> Examples:
        """Inputs and targets of a table, one a row.

        Raises:
            ValueError: If there is no target column, or the table is empty.
        """
        if target is None:
            raise ValueError(f"The {self.name} head needs a target column; columns: {', '.join(table.column_names)}.")
        samples = self.queries(table, inputs, tokenizer)
        # Learning goes through all of them again and again.
        kept = list(samples) if isinstance(samples, Rows) else samples
        return Examples(kept, table[target][:], source)

    def queries(self, table: "Dataset", inputs: list[str], tokenizer: "Tokenizer") -> Sequence[Any]:
        """The raw samples of a table to predict: its rows."""
        if tokenizer.takes_row or len(inputs) > 1:
            return Rows(table, inputs)
        column: Sequence[Any] = table[inputs[0]]
        if tokenizer.words and of_files(table):
            # Of a table in the folder, other columns hold words.
            named = (isinstance(cell, str) and cell.lower().endswith(tokenizer.suffixes) for cell in column)
            return [tokenizer.file_sample(cell) if file else cell for cell, file in zip(column, named, strict=True)]
        return column

    def split(
        self, table: "Dataset", target: str | None, tokenizer: "Tokenizer", fraction: float, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers of a table in two parts, the second ``fraction`` of them: by chance, with the seed.

        The first holds each class that ``labels`` finds.
        """
        from sklearn.model_selection import train_test_split

        kept, held = train_test_split(np.arange(len(table)), test_size=fraction, random_state=seed)
        return with_each_class(kept, held, [] if target is None else table[target][:], self.labels)

    def labels(self, target: Any) -> Collection[Hashable]:
        """The classes that a raw target names, of each of which training needs a sample; by default none."""
        return ()

    # The model

    def screen(self, target: Any) -> None:
        """Raise SampleError if nothing can be learned from a raw target, whatever the others are.

        By default if it is missing. It is asked of every target before ``fit``, which sees the others only, and again
        before ``encode``: so bad ones are named with their place, or left out where the user wants that.
        """
        if is_missing(target):
            raise SampleError("has no label")

    def text_target(self) -> bool:
        """Whether targets are words, also where a file holds digits only; called after ``fit``, by default no."""
        return False

    def encode(self, target: Any) -> Tensor:
        """One raw target to a tensor. Raises SampleError if it cannot be used."""
        raise NotImplementedError(f"{type(self).__name__} has no encode(target).")

    def check(self, target: Tensor, tokenizer: "Tokenizer", sample: Any) -> None:
        """Raise SampleError if an encoded target cannot be that of a raw sample; by default any can."""

    def transform_target(self, target: Tensor, view: Tensor) -> Tensor:
        """An encoded target as it is in a ``view`` (4,) of its sample, see ``Tokenizer.augment``."""
        return target

    def pool(self, sequence: TokenSequence) -> Any:
        """The part of the head that has no parameters; its result is cached where all below it is frozen.

        By default the sequence as it is. Otherwise a tensor (B, ...), which ``forward`` then takes.
        """
        return sequence

    def forward(self, pooled: Any) -> Tensor:
        """What ``pool`` gave, to an output (B, ...)."""
        raise NotImplementedError(f"{type(self).__name__} has no forward(pooled).")

    def loss(self, output: Tensor, target: Any) -> Tensor:
        """Mean loss of a batch, a scalar; targets (B, ...), or a list of B where their shapes differ."""
        raise NotImplementedError(f"{type(self).__name__} has no loss(output, target).")

    def calibrate(self, output: Tensor, target: Any) -> None:
        """Learn what is fitted behind the trained weights, such as a temperature or thresholds; by default nothing.

        Called once after training where ``calibrates`` says so, on the weights that are kept, with the outputs (B, ...)
        and targets of the whole validation split; never where there is none. What it learns goes into buffers, so it
        is saved with the task.
        """

    # Answers

    def decode(self, output: Tensor) -> np.ndarray:
        """Outputs (B, ...) as the user wants them, one item a sample: labels, numbers in their unit."""
        raise NotImplementedError(f"{type(self).__name__} has no decode(output).")

    def probabilities(self, output: Tensor) -> Tensor:
        """Probabilities (B, K) of an output. Raises TypeError where the answer has none."""
        raise TypeError(f"The {self.name} head gives no probabilities; use predict.")

    def records(self, output: Tensor) -> list[dict[str, Any]]:
        """One JSON-able row a sample, as the command line writes it; by default ``{"prediction": ...}``."""
        return [{"prediction": value} for value in self.decode(output).tolist()]

    def rows(self, records: Sequence[dict[str, Any]], queries: Sequence[Any]) -> list[dict[str, Any]]:
        """Records of raw samples as rows of a file; by default one each."""
        return list(records)

    def card_note(self) -> str:
        """What a user of the answers should know, in one line, for the model card; empty where there is nothing."""
        return ""

    def check_writing(self, path: Path) -> None:
        """Raise, before any work, what ``write`` would: ImportError if a package is missing."""

    def write(self, path: Path, queries: Sequence[Any], answers: Sequence[Any]) -> None:
        """Write what ``decode`` gave for raw samples to ``path``, which ends as one of ``output_suffixes``."""
        raise NotImplementedError(f"{type(self).__name__} has no write(path, queries, answers).")

    # Measures

    def metrics(self) -> "dict[str, Metric]":
        """Fresh torchmetrics metrics by name; ``primary_metric`` is one of the names."""
        raise NotImplementedError(f"{type(self).__name__} has no metrics().")

    def metric_inputs(self, output: Any, target: Any) -> tuple[Any, Any]:
        """Predictions and targets as the metrics take them."""
        return output, target

    def baseline_features(self, tokenizer: "Tokenizer", sample: Any) -> Any:
        """A raw sample as the baselines read it: numbers, a row of named values, words, or what ``trivial`` takes."""
        return tokenizer.baseline_features(sample)

    def trivial(self) -> tuple[str, Any]:
        """Name and estimator (``fit(X, y)``, ``predict(X)``) of the trivial baseline."""
        raise NotImplementedError(f"{type(self).__name__} has no trivial().")

    def classical(self, kind: str, count: int = 1) -> dict[str, Any]:
        """Classical baselines, name to estimator as scikit-learn's.

        Args:
            kind: "linear", "boosting" or "words".
            count: Samples to answer, for those that are too slow for many.
        """
        return {}

    def baseline_predict(self, estimator: Any, features: Any) -> Any:
        """A fitted estimator's answers, in the form of ``forward``'s output."""
        return torch.as_tensor(np.asarray(estimator.predict(features)), dtype=torch.float32)
