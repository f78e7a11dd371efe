"""Base class of all heads."""

from collections.abc import Collection, Hashable, Mapping, Sequence
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
from metatx.registry import all_options
from metatx.sequence import TokenSequence
from metatx.values import is_missing

if TYPE_CHECKING:
    from datasets import Dataset
    from torchmetrics import Metric

    from metatx.tokenizer import Tokenizer

__all__ = ["Head"]


class Head(Component):
    """Base class of heads, which hold all that is specific to a kind of answer: pooling, output, loss, metrics.

    A subclass writes ``fit``, ``encode``, ``forward``, ``loss``, ``decode``, ``metrics`` and ``trivial``; other methods
    have defaults. ``Component`` explains options, ``fit`` and ``build``. ``fit`` takes the raw targets, and raises
    ValueError if no task can be made of them (one class only, missing values).

    Attributes:
        primary_metric: Name of the metric that chooses epochs and compares runs; the torchmetrics metric's
            ``higher_is_better`` gives its direction.
        dense: True if an answer lies on the sample's grid (a mask, boxes in pixels). ``decode`` and ``records`` then
            also take the samples' extents: (H, W) of an image, (N,) of points.
        per_token: True if the head reads each token, such as those of an image or of steps in time, not one pooled
            vector of a sample. Of several inputs it then reads the main one.
        continues: True if the answer is words that a causal language model writes behind the inputs of a sample, which
            are one sequence. ``prompt``, ``check_inputs`` and ``writing`` are then written, ``pool`` and ``forward``
            are not; outputs are those of ``metatx.continuation``.
        stacks: True if a pool may compute the outputs of many tasks in one call. ``pool`` then reads the tokens alone,
            no context, and gives a tensor; ``forward`` reads nothing but that, options, weights and buffers, and runs
            under ``torch.func.vmap``: no value decides shapes or branches.
        needs_target: True if a table must have a target column; if False, a column with a usual name is not taken as
            the target.
        output_suffixes: Suffixes of the files that ``write`` makes; "" for a folder.
        pooling: Name of the pooling of a head that uses ``pool_tokens``; ``"attention"`` needs a backbone whose weights
            have an attention pool.
        layers: Number of the backbone's last blocks that the head reads; embeddings are then (T, layers * D).
        calibrates: True if ``calibrate`` is to be called after training.
        has_energy: True if ``energy`` is written.
        pool_options: Names of the options that ``pool`` depends on, for the cache of its results; None: all options.

    Example:
        >>> head = metatx.create("heads", "regression", 192)
        >>> isinstance(head, metatx.Head), head.dense
        (True, False)
    """

    primary_metric: str = ""
    dense: ClassVar[bool] = False
    per_token: ClassVar[bool] = False
    continues: ClassVar[bool] = False
    needs_target: ClassVar[bool] = True
    output_suffixes: ClassVar[tuple[str, ...]] = ()
    pool_options: ClassVar[tuple[str, ...] | None] = None
    pooling: str | None = None
    layers: int = 1
    calibrates: bool = False
    has_energy: ClassVar[bool] = False

    # From a table to examples

    @classmethod
    def accepts(cls, targets: Sequence[Any]) -> bool:
        """Return True if this head is meant by raw targets where the user names no head; by default False."""
        return False

    @classmethod
    def claims(cls, table: "Dataset", target: str | None) -> bool:
        """Return True if the head takes a table whose target column other heads would predict row by row.

        It is called on a tokenizer's default head if the user names no head. By default it returns False.

        Args:
            table: Table of the training split.
            target: Column that the user named, or None.
        """
        return False

    def columns(
        self, table: "Dataset", target: str | None, inputs: Sequence[str] | None, tokenizer: "Tokenizer"
    ) -> tuple[str | None, list[str]]:
        """Choose the target column and the input columns of a table, given those that the user named.

        Raises:
            ValueError: If the choice is ambiguous; lists the candidates.
        """
        return target, list(inputs or self.inputs(table, target, tokenizer))

    def inputs(self, table: "Dataset", target: str | None, tokenizer: "Tokenizer") -> list[str]:
        """Choose the input columns of a table if the user named none.

        Raises:
            ValueError: If the choice is ambiguous; lists the candidates.
        """
        columns = candidates(table, tokenizer.accepts, without={target})
        if tokenizer.takes_row:
            return columns
        if len(columns) != 1:
            choices = ", ".join(columns or [name for name in table.column_names if name != target])
            raise ValueError(f"Which column is the {tokenizer.name} input? Name it with --inputs; it may be {choices}.")
        return columns

    def examples(
        self, table: "Dataset", inputs: list[str], target: str | None, tokenizer: "Tokenizer", source: str
    ) -> Examples:
        """Make examples of a table, by default one a row.

        Args:
            table: Table of one split.
            inputs: Input columns.
            target: Target column, or None.
            tokenizer: Tokenizer of the task.
            source: Name of the data, for messages.

        Raises:
            ValueError: If there is no target column, or the table is empty.
        """
        if target is None:
            raise ValueError(f"The {self.name} head needs a target column; columns: {', '.join(table.column_names)}.")
        return Examples(self.queries(table, inputs, tokenizer), table[target][:], source)

    def queries(self, table: "Dataset", inputs: list[str], tokenizer: "Tokenizer") -> Sequence[Any]:
        """Raw samples of a table to predict, by default one a row."""
        if tokenizer.takes_row or len(inputs) > 1:
            return Rows(table, inputs)
        column: Sequence[Any] = table[inputs[0]]
        if tokenizer.words and of_files(table):
            # A column of a table in the folder may hold words, not files.
            is_file = (isinstance(cell, str) and cell.lower().endswith(tokenizer.suffixes) for cell in column)
            return [tokenizer.file_sample(cell) if file else cell for cell, file in zip(column, is_file, strict=True)]
        return column

    def split(
        self, table: "Dataset", target: str | None, tokenizer: "Tokenizer", fraction: float, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Split a table's row numbers at random into two parts; the second is ``fraction`` of the rows.

        The first part has a row of each class that ``labels`` returns.
        """
        from sklearn.model_selection import train_test_split

        staying, held_out = train_test_split(np.arange(len(table)), test_size=fraction, random_state=seed)
        return with_each_class(staying, held_out, [] if target is None else table[target][:], self.labels)

    def labels(self, target: Any) -> Collection[Hashable]:
        """Classes of a raw target; training needs a sample of each. By default none."""
        return ()

    # The model

    def screen(self, target: Any) -> None:
        """Raise SampleError if nothing can be learned from a raw target; by default if it is missing.

        It is called on every target before ``fit``, which then takes the good ones only, and again before ``encode``.
        Bad targets are so named with their place, or left out if the user asks for it.
        """
        if is_missing(target):
            raise SampleError("has no label")

    def text_target(self) -> bool:
        """Return True if targets are words, even if a file's cells look like numbers; called after ``fit``."""
        return False

    def encode(self, target: Any) -> Tensor:
        """Convert one raw target to a tensor. Raises SampleError if it cannot be used."""
        raise NotImplementedError(f"{type(self).__name__} has no encode(target).")

    def check(self, target: Tensor, tokenizer: "Tokenizer", sample: Any) -> None:
        """Raise SampleError if an encoded target does not fit a raw sample; by default all fit."""

    def transform_target(self, target: Tensor, view: Tensor) -> Tensor:
        """Move an encoded target with a ``view`` (4,) of its sample, see ``Tokenizer.augment``; by default keep it."""
        return target

    def pool(self, sequence: TokenSequence) -> Any:
        """Pool the backbone's output without parameters; the result is cached where all below the head is frozen.

        It returns a tensor (B, ...), or the sequence itself, which is the default; ``forward`` takes the result.
        """
        return sequence

    def forward(self, pooled: Any) -> Tensor:
        """Map the result of ``pool`` to an output (B, ...)."""
        raise NotImplementedError(f"{type(self).__name__} has no forward(pooled).")

    def check_inputs(self, names: Sequence[str]) -> None:
        """Raise ValueError if a head that continues cannot read inputs of these names; called before training."""

    def prompt(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Tokens (N, D) that the answer of a head that continues stands behind.

        Args:
            inputs: Tokens of the inputs of one sample that are there, by name and in order; of a task of one modality
                by the name of that.
        """
        raise NotImplementedError(f"{type(self).__name__} has no prompt(inputs).")

    def writing(self) -> dict[str, Any]:
        """Arguments of ``Backbone.generate`` for a head that continues: ``end``, ``most`` and others."""
        raise NotImplementedError(f"{type(self).__name__} has no writing().")

    def so_far(self, numbers: Sequence[int]) -> str:
        """Text of the tokens that a head that continues has written so far, to which later ones only add.

        It is told to clients while the answer is written; by default nothing is.
        """
        return ""

    def loss(self, output: Tensor, target: Any) -> Tensor:
        """Mean loss of a batch, a scalar; targets are (B, ...), or a list of B where their shapes differ."""
        raise NotImplementedError(f"{type(self).__name__} has no loss(output, target).")

    def calibrate(self, output: Tensor, target: Any) -> None:
        """Fit what follows the trained weights, such as a temperature or thresholds; by default nothing.

        It is called once after training if ``calibrates`` is True and there is a validation split, with the outputs
        (B, ...) of the kept weights and the targets of the whole split. Its results go into buffers, so that they are
        saved with the task.
        """

    def calibration_metrics(self) -> "dict[str, Metric]":
        """Fresh metrics of what ``calibrate`` fitted, with the same inputs as ``metrics``; by default none.

        They say nothing about a baseline, and are measured of the trained model alone.
        """
        return {}

    # Answers

    def decode(self, output: Tensor) -> np.ndarray:
        """Convert outputs (B, ...) to answers for the user, one item a sample: labels, numbers in their unit."""
        raise NotImplementedError(f"{type(self).__name__} has no decode(output).")

    def probabilities(self, output: Tensor) -> Tensor:
        """Probabilities (B, K) of an output. Raises TypeError if the head gives none."""
        raise TypeError(f"The {self.name} head gives no probabilities; use predict.")

    def energy(self, output: Tensor) -> Tensor:
        """Energy (B,) of an output, larger where no class stands out. Raises TypeError if outputs have none."""
        raise TypeError(f"The outputs of the {self.name} head have no energy.")

    def explained(self, output: Tensor) -> Any:
        """Answer that an explanation of an output (1, ...) explains where the user names none; None for a number."""
        return None

    def score(self, output: Tensor, target: Any) -> Tensor:
        """Score (B,) of an answer, differentiable, which the parts of a sample make or unmake.

        Args:
            output: Outputs (B, ...).
            target: Answer, as the user names it, or the result of ``explained``.

        Raises:
            TypeError: If answers have no single score.
        """
        raise TypeError(f"Answers of the {self.name} head have no single score to explain.")

    def exported(self, output: Tensor) -> dict[str, Tensor]:
        """Answers (B, ...) of an exported graph by name, made of an output by operators alone; by default itself."""
        return {"output": output}

    def export_facts(self) -> dict[str, Any]:
        """Facts, JSON values, by which a program without metatx reads these answers: options, what was fitted."""
        return {**all_options(self), **self.fitted}

    def records(self, output: Tensor) -> list[dict[str, Any]]:
        """Convert outputs to one JSON-able dict a sample, for command line and server; by default ``prediction``."""
        return [{"prediction": value} for value in self.decode(output).tolist()]

    def rows(self, records: Sequence[dict[str, Any]], queries: Sequence[Any]) -> list[dict[str, Any]]:
        """Convert the records of raw samples to rows of a file; by default a record is a row."""
        return list(records)

    def card_note(self) -> str:
        """Note for users in the model card, in one line, such as whether probabilities are calibrated; or empty."""
        return ""

    def check_writing(self, path: Path) -> None:
        """Raise the ImportError that ``write`` would raise if a package is missing; called before any work."""

    def write(self, path: Path, queries: Sequence[Any], answers: Sequence[Any]) -> None:
        """Write the answers of ``decode`` for raw samples to ``path``, whose suffix is one of ``output_suffixes``."""
        raise NotImplementedError(f"{type(self).__name__} has no write(path, queries, answers).")

    # Measures

    def metrics(self) -> "dict[str, Metric]":
        """New torchmetrics metrics by name; ``primary_metric`` is one of the names."""
        raise NotImplementedError(f"{type(self).__name__} has no metrics().")

    def metric_inputs(self, output: Any, target: Any) -> tuple[Any, Any]:
        """Convert output and target to the predictions and targets that the metrics take."""
        return output, target

    def baseline_features(self, tokenizer: "Tokenizer", sample: Any) -> Any:
        """Features of a raw sample for the baselines: numbers, a dict of named values, or words."""
        return tokenizer.baseline_features(sample)

    def trivial(self) -> tuple[str, Any]:
        """Name and estimator (``fit(X, y)``, ``predict(X)``) of the trivial baseline."""
        raise NotImplementedError(f"{type(self).__name__} has no trivial().")

    def classical(self, kind: str, count: int = 1) -> dict[str, Any]:
        """Classical baselines by name, with the interface of scikit-learn's estimators; by default none.

        Args:
            kind: Kind of model: "linear", "boosting" or "words".
            count: Number of samples to predict; a slow estimator may be left out for many.
        """
        return {}

    def baseline_predict(self, estimator: Any, features: Any) -> Any:
        """Predict with a fitted estimator, in the form of ``forward``'s output."""
        return torch.as_tensor(np.asarray(estimator.predict(features)), dtype=torch.float32)
