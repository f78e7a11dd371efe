"""Task: a tokenizer and a head on a backbone; the unit that is trained, saved, shared and deployed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from metatx.adapters.lora import Adapter
from metatx.backbone.base import Backbone
from metatx.data.arguments import target_name
from metatx.encoding.columns import labelled, raw_samples, read_part, text_columns, training_part
from metatx.encoding.encoded import EncodedDataset
from metatx.examples import Examples
from metatx.head import Head
from metatx.inference import Piece, ask, decoded, embedded, joined, listed
from metatx.model import Model, build
from metatx.reading.csv_tables import Reading
from metatx.registry import lookup
from metatx.sequence import TokenSequence
from metatx.settings import TrainingSettings
from metatx.spec import TaskSpec
from metatx.storage.folder import Record, read, save
from metatx.storage.hub import push, task_folder
from metatx.tokenizer import Tokenizer
from metatx.training.loop import train as run_training
from metatx.training.measuring import evaluate

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["Task"]


class Task:
    """A model with the columns, settings and numbers of one task; the unit that is trained, saved and deployed.

    The task computes with ``model``, an ``nn.Module``, whose parts and methods it has too, under the same names.

    Args:
        backbone, tokenizer, head, adapter: Parts of the model, as of ``Model``.
        inputs: Columns of a table that make up a sample.
        target: Column of a table that is predicted.

    Attributes:
        settings: Settings of the last training; batch size and precision also of evaluation and prediction.
        history: Rows of the last training, one an epoch; empty before ``fit``.
        kept: Sentence that says which weights training kept, and why.
        token_warmup: Steps and distances of the token warm-up, see ``warm_up_tokens``; empty where there was none.
        metrics: Measured numbers by name, by the name of a model, for the card.
        about: Facts for the card, where known: data, dataset (on the hub), split, license.
        reading: How the csv files are written that the task is given.

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
        """Task around a model that is there already."""
        task = cls.__new__(cls)
        task._hold(model, inputs, target)
        return task

    @property
    def backbone(self) -> Backbone:
        """The shared backbone, or the task's own."""
        return self.model.backbone

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self.model.tokenizer

    @property
    def head(self) -> Head:
        """The model's head."""
        return self.model.head

    @property
    def adapter(self) -> Adapter | None:
        """Change of the backbone that belongs to this task alone; assign one to put it in its place."""
        return self.model.adapter

    @adapter.setter
    def adapter(self, adapter: Adapter | None) -> None:
        self.model.attach(adapter)

    @property
    def tune(self) -> str:
        """Part of the backbone that is the task's own: one of ``TIERS``, or ``merged``, as ``merge`` made it."""
        return self.model.tune

    @property
    def device(self) -> torch.device:
        """Device that the task computes on: that of its backbone."""
        return self.model.device

    @property
    def trainable_parameters(self) -> int:
        """Number of weights that training changes, counted over task and backbone."""
        return self.model.trainable_parameters

    @property
    def columns(self) -> dict[str, Any]:
        """Columns that the task reads (``inputs``) and predicts (``target``)."""
        return {"inputs": self.inputs, "target": self.target}

    def __call__(self, batch: dict[str, Any]) -> Tensor:
        """Collated tensors to the head's output (B, ...)."""
        output: Tensor = self.model(batch)
        return output

    def tokens(self, batch: dict[str, Any]) -> TokenSequence:
        """Collated tensors to the sequences that enter the backbone."""
        return self.model.tokens(batch)

    def features(self, batch: dict[str, Any], layers: int | None = None) -> TokenSequence:
        """Collated tensors to the sequences that leave the backbone, as many layers of them as the head reads."""
        return self.model.features(batch, layers)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move or cast the model, as ``nn.Module.to``; a shared backbone stays as it is."""
        self.model.to(*args, **kwargs)
        return self

    def train(self, mode: bool = True) -> Self:
        """Put the model in training mode, or out of it."""
        self.model.train(mode)
        return self

    def eval(self) -> Self:
        """Put the model in evaluation mode."""
        return self.train(False)

    if not TYPE_CHECKING:  # so that a name that neither has is still an error of types

        def __getattr__(self, name: str) -> Any:
            """Read what only the model has: ``parameters``, ``state_dict``, ``norm`` and the rest of ``nn.Module``."""
            if name == "model":  # not there yet, as in copies
                raise AttributeError(name)
            return getattr(self.model, name)

    # Building

    @classmethod
    def from_data(
        cls, backbone: Backbone, modality: str | TaskSpec, train: Any, *, skip_bad_samples: bool = False, **choices: Any
    ) -> Self:
        """Build a task for data: choose the head, fit statistics and classes on the training split, draw weights.

        Args:
            backbone: Backbone from ``load_backbone``.
            modality: Name of the modality, or a ``TaskSpec``.
            train: A path, a table as ``metatx.data.table_files.as_dataset`` takes it, a dict of splits, or a pair
                ``(samples, targets)``.
            skip_bad_samples: Leave out samples whose target is missing, not stop.
            choices: Attributes of ``TaskSpec`` by name, such as ``target``, ``head`` and ``tune``.

        Raises:
            TypeError: If there is no choice of a name.
            ValueError: If a name is unknown, a column missing or ambiguous, or no task can be made of the data.
        """
        spec = TaskSpec.of(modality, **choices)
        kind = lookup("tokenizers", spec.modality)
        part, target = training_part(train, kind, target_name(spec.target))
        task = cls.of_model(*build(backbone, replace(spec, target=target), part))
        path = isinstance(train, str | Path)
        if path and text_columns(task.tokenizer, task.head, task.inputs, task.target):
            part = task.read_part(train, "train")  # again, now that it is known which columns hold words
        examples = task.labelled(part, str(train) if path else "the train data")
        task.model.learn(examples, spec.seed or 0, skip_bad_samples)
        return task

    # Training

    def fit(
        self,
        train: Any,
        validation: Any = None,
        *,
        out: str | Path | None = None,
        resume: bool = False,
        skip_bad_samples: bool = False,
        settings: TrainingSettings | None = None,
        **changes: Any,
    ) -> Self:
        """Train tokenizer, head and what ``tune`` says; with ``validation``, keep the weights of the best epoch.

        A task that is trained already keeps the weights it has where no epoch is better.

        Args:
            train: As in ``from_data``.
            validation: Data to stop and choose by; without it the last weights are kept.
            out: Folder for ``history.csv`` and the checkpoint.
            resume: Go on from the checkpoint in ``out``.
            skip_bad_samples: Leave out samples that cannot be used.
            settings: Settings of the training.
            changes: Attributes of ``TrainingSettings`` by name, in the place of those of ``settings``.

        Raises:
            ValueError: If samples are bad, the loss is not finite, or the checkpoint is of other settings.
        """
        self.settings = TrainingSettings.of(**{**vars(settings or TrainingSettings()), **changes})
        data = self.encode(train, "train", augment=True, skip_bad=skip_bad_samples)
        held = None if validation is None else self.encode(validation, "validation", skip_bad=skip_bad_samples)
        out = Path(out) if out else None
        outcome = run_training(self.model, data, held, self.settings, self.columns, out=out, resume=resume)
        self.history = outcome.history
        self.kept = outcome.kept
        self.token_warmup = outcome.token_warmup
        return self

    def encode(
        self, data: Any, split: str, *, augment: bool = False, skip_bad: bool = False, cache: bool | None = None
    ) -> EncodedDataset:
        """Labelled data as tensors; what is encoded already stays as it is. Raises ValueError as ``EncodedDataset``.

        ``cache`` says whether encoded samples may be kept on disk; None: as the settings do.
        """
        if isinstance(data, EncodedDataset):
            return data
        kept = self.settings.cache if cache is None else cache
        return EncodedDataset.of(
            self.examples(data, split),
            self.tokenizer,
            self.head,
            augment=augment,
            skip_bad=skip_bad,
            cache_key=repr(self.backbone.config) if kept else None,
        )

    def examples(self, data: Any, split: str) -> Examples:
        """Labelled data, as in ``from_data``, as examples."""
        if isinstance(data, Examples):
            return data
        source = str(data) if isinstance(data, str | Path) else f"the {split} data"
        return self.labelled(self.read_part(data, split), source)

    def read_part(self, data: Any, split: str) -> "Dataset | Examples":
        """A split of what ``from_data`` takes, read as the task's columns need it."""
        return read_part(data, split, self.tokenizer, self.head, self.inputs, self.target, self.reading)

    def labelled(self, part: "Dataset | Examples", source: str) -> Examples:
        """Samples and targets of a split that was read; ``source`` names the data in messages."""
        return labelled(part, source, self.tokenizer, self.head, self.inputs, self.target)

    def evaluate(self, data: Any, *, skip_bad_samples: bool = False) -> dict[str, float]:
        """The head's metrics, and ``loss``, on labelled data (its test split, where it is split)."""
        return evaluate(self.model, self.encode(data, "test", skip_bad=skip_bad_samples), self.settings)

    # Use

    def predict(self, samples: Any, *, skip_bad_samples: bool = False) -> np.ndarray:
        """What the head decodes, one item a sample: labels, numbers, forecasts.

        Args:
            samples: A list of raw samples, one path, or a table as in ``from_data``. Rows may be dicts, whose columns
                go by name.
            skip_bad_samples: Leave out samples that cannot be used, not stop. They keep their places: NaN where
                answers are numbers, else None.

        Raises:
            SampleError: If one cannot be used; names which.
        """
        return joined(self._pieces(samples, self.head.decode, skip_bad_samples))

    def predict_proba(self, samples: Any, *, skip_bad_samples: bool = False) -> np.ndarray:
        """Probabilities (B, K) of the classes, in the order of ``task.head.classes``; as ``predict``."""

        def shares(output: Tensor, *extents: Any) -> np.ndarray:
            return self.head.probabilities(output, *extents).cpu().numpy()

        return joined(self._pieces(samples, shares, skip_bad_samples))

    def records(self, samples: Any, *, skip_bad_samples: bool = False) -> list[Any]:
        """Predictions as JSON-able rows; None for a bad sample that is left out; as ``predict``."""
        return listed(self._pieces(samples, self.head.records, skip_bad_samples))

    def embed(self, samples: Any, *, skip_bad_samples: bool = False) -> np.ndarray:
        """The mean of each sample's tokens behind the backbone (B, D), float32; as ``predict``."""
        pieces = ask(self.model, self.settings, self.queries(samples), embedded, skip_bad=skip_bad_samples)
        return joined(pieces)

    def _pieces(self, samples: Any, answer: Callable[..., Any], skip_bad: bool) -> Iterator[Piece]:
        return ask(self.model, self.settings, self.queries(samples), decoded(answer), skip_bad=skip_bad)

    def queries(self, samples: Any) -> Sequence[Any]:
        """Raw samples of what a user may ask about."""
        return raw_samples(samples, self.tokenizer, self.head, self.inputs, self.reading)

    # On disk

    def merge(self) -> Self:
        """Copy of the task on a backbone of its own, into which the adapter is folded. Raises ValueError without one.

        It answers alike, without the adapter's cost, and cannot be shared.
        """
        alone = self._on(self.model.merged())
        alone.metrics = dict(self.metrics)
        alone.about = dict(self.about)
        return alone

    def retune(self, tune: str, adapter_options: Mapping[str, Any] | None = None, seed: int = 0) -> Self:
        """Copy of a frozen task that trains more of the backbone; it answers alike so far. See ``Model.retuned``."""
        return self._on(self.model.retuned(tune, adapter_options, seed))

    def _on(self, model: Model) -> Self:
        """Task around another model, with the columns and settings of this one."""
        made = self.of_model(model, self.inputs, self.target)
        made.settings = self.settings
        made.reading = self.reading
        return made

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the task to ``folder``: config, weights, adapter, model card; whole, or not at all.

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
        """Upload the task to the Hugging Face hub, as ``metatx.storage.hub.push``; returns the commit's address."""
        return push(self.model, self._record(), repo_id, private, commit_message, revision, token)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        backbone: Backbone | None = None,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
    ) -> Self:
        """Read a task, onto ``backbone`` or onto the one it names; or, tuned in full, onto its own.

        Args:
            name: A folder; or ``hf:user/task`` on the Hugging Face hub.
            backbone: Backbone that the task was trained on.
            revision, token: As of ``metatx.storage.hub.task_folder``.

        Raises FileNotFoundError if there is none, TaskError if it is damaged or of another backbone.
        """
        return cls.from_folder(task_folder(name, revision, token), backbone)

    @classmethod
    def from_folder(cls, folder: Path, backbone: Backbone | None = None, fingerprint: str | None = None) -> Self:
        """Read a task from its folder, as ``metatx.storage.folder.read``."""
        model, record = read(folder, backbone, fingerprint)
        task = cls.of_model(model, record.inputs, record.target)
        task.settings = record.settings
        task.metrics = dict(record.metrics)
        task.about = dict(record.about)
        return task

    def set_inference(self, **changes: Any) -> Self:
        """Change settings of prediction, such as ``batch_size`` and ``precision``."""
        self.settings = replace(self.settings, **changes)
        return self
