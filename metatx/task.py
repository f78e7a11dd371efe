"""Task: a model with its columns, settings and numbers; the unit that is trained, saved and deployed."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from metatx.adapters.lora import Adapter
from metatx.backbone.base import Backbone
from metatx.data.arguments import target_name
from metatx.data.torch_datasets import asked
from metatx.encoding.columns import labelled, raw_samples, read_part, text_columns, training_part
from metatx.encoding.encoded import EncodedDataset
from metatx.examples import Examples
from metatx.head import Head
from metatx.inference import Piece, ask, decoded, embedded, joined, listed, recorded, refusal
from metatx.inputs.guess import settled
from metatx.inputs.inputs import kind_of
from metatx.inputs.through import Others
from metatx.model import Model, build
from metatx.reading.csv_tables import Reading
from metatx.sequence import TokenSequence
from metatx.settings import TrainingSettings
from metatx.spec import AnySpec, TaskSpec
from metatx.storage.folder import Record, load, save
from metatx.storage.hub import push, task_folder
from metatx.tokenizer import Tokenizer
from metatx.training.loop import train as run_training
from metatx.training.measuring import evaluate

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["Task"]


class Task:
    """Model with the columns, settings and numbers of one task.

    The attribute ``model`` is an ``nn.Module``; the task has its parts and methods too, under the same names.

    Args:
        backbone, tokenizer, head, adapter: Parts of the model, see ``Model``.
        inputs: Columns of a table that make up a sample.
        target: Column of a table that is predicted.

    Attributes:
        model: Model of the task.
        settings: Settings of the last training; evaluation and prediction use its batch size and precision.
        history: Rows of the last training, one an epoch; empty before ``fit``.
        kept: Sentence that says which weights training kept, and why.
        token_warmup: Steps and distances of the token warm-up, see ``warm_up_tokens``; empty without one.
        metrics: Values of metrics by name, for the task and each baseline, for the card.
        about: Facts for the card, where known: data, dataset (on the hub), split, license.
        reading: Format of csv files, where the detected one is wrong.

    Example:
        >>> import pandas as pd
        >>> sizes = pd.DataFrame({"size": [1.0, 2.0, 8.0, 9.0] * 8, "kind": ["small", "small", "large", "large"] * 8})
        >>> task = metatx.Task.from_data(metatx.load_backbone("nano"), "tabular", sizes, target="kind")
        >>> print(task.fit(sizes, epochs=10, lr=1e-2).predict([{"size": 1.5}, {"size": 8.5}]))
        ['small' 'large']
    """

    def __init__(
        self,
        backbone: Backbone,
        tokenizer: Tokenizer,
        head: Head,
        inputs: Sequence[str] = (),
        target: str | None = None,
        adapter: Adapter | None = None,
    ) -> None:
        self._hold(Model(backbone, tokenizer, head, adapter), inputs, target)

    def _hold(self, model: Model, inputs: Sequence[str], target: str | None) -> None:
        self.model = model
        self.inputs = list(inputs)
        self.target = target
        self.settings = TrainingSettings()
        self.history: list[dict[str, float]] = []
        self.kept = ""
        self.token_warmup: dict[str, float] = {}
        self.metrics: dict[str, Any] = {}
        self.about: dict[str, str] = {}
        self.reading = Reading()

    @classmethod
    def of_model(cls, model: Model, inputs: Sequence[str] = (), target: str | None = None) -> Self:
        """Make a task of an existing model."""
        task = cls.__new__(cls)
        task._hold(model, inputs, target)
        return task

    @property
    def backbone(self) -> Backbone:
        """Backbone, shared or the task's own."""
        return self.model.backbone

    @property
    def tokenizer(self) -> Tokenizer:
        """Tokenizer of the model."""
        return self.model.tokenizer

    @property
    def head(self) -> Head:
        """Head of the model."""
        return self.model.head

    @property
    def adapter(self) -> Adapter | None:
        """Adapter of the task, or None; assign one to replace it."""
        return self.model.adapter

    @adapter.setter
    def adapter(self, adapter: Adapter | None) -> None:
        self.model.attach(adapter)

    @property
    def tune(self) -> str:
        """Tier of tuning: one of ``metatx.adapters.tiers.TIERS``, or ``merged``."""
        return self.model.tune

    @property
    def device(self) -> torch.device:
        """Device of the backbone, on which the task computes."""
        return self.model.device

    @property
    def trainable_parameters(self) -> int:
        """Number of weights that training changes, counted over model and backbone."""
        return self.model.trainable_parameters

    def __repr__(self) -> str:
        parts = f"modality={self.tokenizer.modality!r}, head={self.head.name!r}, backbone={self.backbone.spec!r}"
        return f"Task({parts}, tune={self.tune!r}, trainable_parameters={self.trainable_parameters:_})"

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute of the task. Raises AttributeError for one of the model, which the task only reads."""
        if name != "adapter" and "model" in vars(self) and hasattr(self.model, name):
            message = f"Task.{name} is the model's and cannot be assigned; make a Task of the parts that you mean."
            raise AttributeError(message, name=name, obj=self)
        super().__setattr__(name, value)

    @property
    def columns(self) -> dict[str, Any]:
        """Columns that the task reads (``inputs``) and predicts (``target``)."""
        return {"inputs": self.inputs, "target": self.target}

    def __call__(self, batch: dict[str, Any]) -> Tensor:
        """Map collated tensors to the head's output (B, ...)."""
        output: Tensor = self.model(batch)
        return output

    def tokens(self, batch: dict[str, Any]) -> TokenSequence:
        """Map collated tensors to the sequences that enter the backbone."""
        return self.model.tokens(batch)

    def features(self, batch: dict[str, Any], layers: int | None = None) -> TokenSequence:
        """Map collated tensors to the backbone's output, of ``layers`` last layers (by default those of the head)."""
        return self.model.features(batch, layers)

    if not TYPE_CHECKING:  # hidden from type checkers, so that a name that does not exist is an error

        def __getattr__(self, name: str) -> Any:
            """Read an attribute that only the model has: ``parameters``, ``state_dict``, ``norm`` and so on."""
            if name == "model" or name.startswith("__") or not hasattr(self.model, name):  # copies ask without one
                raise AttributeError(f"Task has no attribute {name!r}.", name=name, obj=self)
            value = getattr(self.model, name)
            return self._as_own(value) if inspect.ismethod(value) else value

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self.model)})

    def _as_own(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """A method of the model that returns the task where it would return the model, as ``half`` does."""

        @wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            return self if result is self.model else result

        return call

    # Building and training

    @classmethod
    def from_data(
        cls, backbone: Backbone, modality: AnySpec, train: Any, *, skip_bad_samples: bool = False, **choices: Any
    ) -> Self:
        """Build a task for data: choose the head, fit to the training split, initialise weights.

        Args:
            backbone: Backbone from ``load_backbone``.
            modality: Name of the modality, or ``"auto"``; of several inputs, that of each by name; or a ``TaskSpec``.
            train: Path, table as in ``metatx.data.table_files.as_dataset``, torch's Dataset, dict of splits, or pair.
            skip_bad_samples: Leave out samples whose target is missing; by default they raise ValueError.
            choices: Attributes of ``TaskSpec`` by name, such as ``target``, ``head`` and ``tune``.

        Raises TypeError if a choice is unknown; ValueError if a name is unknown, a column is missing or ambiguous, or
        no task can be made of the data.
        """
        spec = TaskSpec.of(modality, **choices)
        spec = settled(spec, lambda kind: training_part(train, kind, target_name(spec.target)))
        part, target = training_part(train, kind_of(spec), target_name(spec.target))
        task = cls.of_model(*build(backbone, replace(spec, target=target), part))
        path = isinstance(train, str | Path)
        if path and text_columns(task.tokenizer, task.head, task.inputs, task.target):
            part = task.read_part(train, "train")  # read again, because now the columns of words are known
        examples = task.labelled(part, str(train) if path else "the train data")
        task.model.learn(examples, spec.seed or 0, skip_bad_samples)
        return task

    def fit(
        self,
        train: Any,
        validation: Any = None,
        *,
        out: str | Path | None = None,
        resume: bool = False,
        skip_bad_samples: bool = False,
        callbacks: Sequence[Any] = (),
        settings: TrainingSettings | None = None,
        **changes: Any,
    ) -> Self:
        """Train tokenizer, head and the tier's part of the backbone; trained weights stay if no epoch is better.

        Args:
            train: Data as in ``from_data``.
            validation: Data that choose the epoch whose weights are kept; without them, the last weights are kept.
            out: Folder for ``history.csv`` and the checkpoint; by default nothing is written.
            resume: Go on from the checkpoint in ``out``.
            skip_bad_samples: Leave out samples that cannot be used; by default they raise ValueError.
            callbacks: Objects with methods of ``transformers.TrainerCallback``, called after each epoch.
            settings: Settings of the training.
            changes: Attributes of ``TrainingSettings`` by name, which replace those of ``settings``.

        Raises ValueError if samples are bad, the loss is not finite, or the checkpoint belongs to another run.
        """
        self.settings = TrainingSettings.of(**{**vars(settings or TrainingSettings()), **changes})
        data = self.encode(train, "train", augment=True, skip_bad=skip_bad_samples)
        choosing = None if validation is None else self.encode(validation, "validation", skip_bad=skip_bad_samples)
        options: dict[str, Any] = {"out": Path(out) if out else None, "resume": resume, "callbacks": callbacks}
        outcome = run_training(self.model, data, choosing, self.settings, self.columns, **options)
        self.history = outcome.history
        self.kept = outcome.kept
        self.token_warmup = outcome.token_warmup
        return self

    def encode(
        self, data: Any, split: str, *, augment: bool = False, skip_bad: bool = False, cache: bool | None = None
    ) -> EncodedDataset:
        """Encode labelled data, unless they are encoded already. Raises ValueError as ``EncodedDataset.of``.

        ``cache`` allows to cache encoded samples on disk; by default the settings decide.
        """
        if isinstance(data, EncodedDataset):
            return data
        options: dict[str, Any] = {"augment": augment, "skip_bad": skip_bad, "check": refusal(self.model)}
        key = repr(self.backbone.config) if (self.settings.cache if cache is None else cache) else None
        return EncodedDataset.of(self.examples(data, split), self.tokenizer, self.head, cache_key=key, **options)

    def examples(self, data: Any, split: str) -> Examples:
        """Read labelled data, as in ``from_data``, into examples."""
        if isinstance(data, Examples):
            return data
        source = str(data) if isinstance(data, str | Path) else f"the {split} data"
        return self.labelled(self.read_part(data, split), source)

    def read_part(self, data: Any, split: str) -> "Dataset | Examples":
        """Read a split of data, as in ``from_data``, for the task's columns."""
        return read_part(data, split, self.tokenizer, self.head, self.inputs, self.target, self.reading)

    def labelled(self, part: "Dataset | Examples", source: str) -> Examples:
        """Make examples of a split that was read; ``source`` names the data in messages."""
        return labelled(part, source, self.tokenizer, self.head, self.inputs, self.target)

    def evaluate(self, data: Any, *, skip_bad_samples: bool = False) -> dict[str, float]:
        """Compute the head's metrics, and ``loss``, on labelled data; on the test split of data that are split."""
        return evaluate(self.model, self.encode(data, "test", skip_bad=skip_bad_samples), self.settings)

    # Prediction

    def predict(self, samples: Any, *, skip_bad_samples: bool = False) -> np.ndarray:
        """Predict answers, one item a sample: labels, numbers, forecasts.

        Args:
            samples: List of raw samples or of dicts by column, path, table as in ``from_data``, or IterableDataset.
            skip_bad_samples: Give bad samples the answer NaN, or None where answers are no numbers; by default they
                raise SampleError.

        Raises SampleError if a sample cannot be used; names it.
        """
        return joined(self._pieces(samples, decoded(self.head.decode), skip_bad_samples))

    def predict_proba(self, samples: Any, *, skip_bad_samples: bool = False) -> np.ndarray:
        """Predict probabilities (B, K) of the classes, in the order of ``task.head.classes``; see ``predict``."""
        answer = decoded(lambda *out: self.head.probabilities(*out).cpu().numpy())
        return joined(self._pieces(samples, answer, skip_bad_samples))

    def records(self, samples: Any, *, skip_bad_samples: bool = False) -> list[Any]:
        """Predict JSON-able dicts, one a sample; None for a bad sample that is left out; see ``predict``."""
        return listed(self._pieces(samples, recorded, skip_bad_samples))

    def embed(self, samples: Any, *, skip_bad_samples: bool = False) -> np.ndarray:
        """Mean of each sample's output tokens of the backbone, (B, D) float32; see ``predict``."""
        return joined(self._pieces(samples, embedded, skip_bad_samples))

    def _pieces(self, samples: Any, answer: Callable[..., Any], skip_bad: bool) -> Iterator[Piece]:
        return ask(self.model, self.settings, asked(samples, self.queries), answer, skip_bad=skip_bad)

    def queries(self, samples: Any) -> Sequence[Any]:
        """Convert the samples that ``predict`` takes to raw samples, one item each."""
        return raw_samples(samples, self.tokenizer, self.head, self.inputs, self.reading)

    # Copies and files

    def merge(self) -> Self:
        """Copy of the task with its own backbone, into which the adapter is folded. Raises ValueError without one."""
        merged = self._with(self.model.merged())
        merged.metrics = dict(self.metrics)
        merged.about = dict(self.about)
        return merged

    def retune(self, tune: str, adapter_options: Mapping[str, Any] | None = None, seed: int = 0) -> Self:
        """Copy of a frozen task in another tier of tuning, see ``Model.retuned``."""
        return self._with(self.model.retuned(tune, adapter_options, seed))

    def _with(self, model: Model) -> Self:
        """Task of another model, with the columns and settings of this one."""
        task = self.of_model(model, self.inputs, self.target)
        task.settings = self.settings
        task.reading = self.reading
        return task

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the task to ``folder``, whole or not at all: config, weights, adapter, model card.

        Raises ValueError if the folder holds something that is no task, OSError if it cannot be written.
        """
        return save(self.model, self._record(), Path(folder))

    def _record(self) -> Record:
        return Record(**self.columns, settings=self.settings, metrics=self.metrics, about=self.about)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        commit_message: str = "Upload metatx task",
        revision: str | None = None,
        token: str | bool | None = None,
    ) -> str:
        """Upload the task to the Hugging Face hub and return the commit's URL, see ``metatx.storage.hub.push``."""
        return push(self.model, self._record(), repo_id, private, commit_message, revision, token)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        backbone: Backbone | None = None,
        *,
        others: Others = None,
        device: str | torch.device | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
    ) -> Self:
        """Load a task.

        Args:
            name: Folder, or ``hf:user/task`` on the Hugging Face hub.
            backbone: Backbone that the task was trained on; None loads the one that the task names, or its own.
            others: Backbones that read inputs first, see ``TaskSpec``; by default those that the task names.
            device: Device, as ``load_backbone`` takes it, of a task without ``backbone``; by default the CPU.
            revision, token: The arguments of ``metatx.storage.hub.task_folder``.

        Raises FileNotFoundError if there is no such task, TaskError if it is damaged or of another backbone.
        """
        return cls.of_record(*load(task_folder(name, revision, token), backbone, others, device))

    @classmethod
    def of_record(cls, model: Model, record: Record) -> Self:
        """Make a task of a model and its record, as ``metatx.storage.folder.read`` returns them."""
        task = cls.of_model(model, record.inputs, record.target)
        task.settings = record.settings
        task.metrics = dict(record.metrics)
        task.about = dict(record.about)
        return task

    def set_inference(self, **changes: Any) -> Self:
        """Change settings of prediction, such as ``batch_size`` and ``precision``."""
        self.settings = replace(self.settings, **changes)
        return self
