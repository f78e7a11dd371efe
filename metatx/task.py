"""Task: a tokenizer and a head on a backbone; the unit that is trained, saved, shared and deployed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from metatx.adapters.lora import Adapter
from metatx.adapters.tiers import tuned
from metatx.backbone.base import Backbone
from metatx.data.arguments import column_names, joined_target, target_name
from metatx.data.tables import find_target
from metatx.encoding.columns import field_names, fit_tokenizer, labelled, raw_samples, training_data
from metatx.encoding.encoded import EncodedDataset, screened
from metatx.encoding.head_choice import build_head, build_tokenizer, check_inputs, claimed
from metatx.examples import Examples, without_missing
from metatx.head import Head
from metatx.inference import Piece, ask, decoded, embedded, joined, listed
from metatx.model import Model
from metatx.reading.csv_tables import Reading
from metatx.registry import lookup
from metatx.seeding import seeded
from metatx.sequence import TokenSequence
from metatx.settings import TrainingSettings
from metatx.storage.folder import Record, read, save
from metatx.storage.hub import push, task_folder
from metatx.tokenizer import Tokenizer
from metatx.training.loop import train as run_training
from metatx.training.measuring import evaluate
from metatx.values import plain_targets

__all__ = ["Task"]


class Task:
    """A model with the columns, settings and numbers of one task; the unit that is trained, saved and deployed.

    What computes is ``model``, an ``nn.Module``. Its parts and the methods of it that are needed to train it in a loop
    of one's own are the task's too, under the same names; others, such as ``apply``, are asked of ``model``.

    Args:
        backbone: The frozen transformer; shared, never copied. A ``trainable_copy`` becomes the task's own.
        tokenizer: Tokenizer of the backbone's width.
        head: Head of the backbone's width.
        inputs: Columns of a table that make up a sample.
        target: Column of a table that is predicted.
        adapter: Change of the backbone that belongs to this task alone.

    Attributes:
        model: What computes.
        settings: Settings of the last training; batch size and precision also of evaluation and prediction.
        history: Rows of the last training, one an epoch; empty before ``fit``.
        kept: Sentence that says which weights training kept, and why.
        token_warmup: Steps and distances of the token warm-up, see ``warm_up_tokens``; empty where there was none.
        metrics: Measured numbers by name, by the name of a model, for the card.
        about: Facts for the card, where known: data, dataset (on the hub), split, license.
        reading: How the csv files are written that the task is given.
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

    @classmethod
    def of_model(cls, model: Model, inputs: Sequence[str] = (), target: str | None = None) -> Self:
        """Task around a model that is there already."""
        task = cls.__new__(cls)
        task._hold(model, inputs, target)
        return task

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

    # The model's parts and methods

    @property
    def backbone(self) -> Backbone:
        """The shared backbone, or the task's own."""
        return self.model.backbone

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self.model.tokenizer

    @property
    def norm(self) -> nn.Module:
        """LayerNorm between tokenizer and backbone; an identity where none is needed."""
        return self.model.norm

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

    def extents(self, queries: Sequence[Any]) -> list[list[tuple[int, ...]]]:
        """Further argument of a dense head's ``decode`` and ``records``: the raw samples' extents; none of others."""
        return self.model.extents(queries)

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

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Say whether the model's parameters take gradients; those of a shared backbone never do."""
        self.model.requires_grad_(requires_grad)
        return self

    def parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the model; a shared backbone's are none of them."""
        return self.model.parameters()

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and parameters of the model."""
        return self.model.named_parameters()

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and buffers of the model, by name."""
        return self.model.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Set the model's parameters and buffers. Raises RuntimeError if names or shapes differ."""
        self.model.load_state_dict(state)

    # Building

    @classmethod
    def from_data(
        cls,
        backbone: Backbone,
        modality: str,
        train: Any,
        *,
        target: str | None = None,
        inputs: Sequence[str] | None = None,
        head: str | None = None,
        tokenizer_options: dict[str, Any] | None = None,
        head_options: dict[str, Any] | None = None,
        tune: str = "frozen",
        adapter_options: dict[str, Any] | None = None,
        seed: int = 0,
        skip_bad_samples: bool = False,
    ) -> Self:
        """Build a task for data: choose the head, fit statistics and classes on the training split, draw weights.

        Args:
            backbone: What ``load_backbone`` gave.
            modality: Name of the tokenizer.
            train: A path, a table as ``metatx.data.table_files.as_dataset`` takes it, a dict of splits, or a pair
                ``(samples, targets)``.
            target: Column to predict, or several of 0 and 1, with commas; found by itself where one has a usual name.
            inputs: Columns to read, a sequence or a text with commas; found by themselves where there is only one
                sensible reading.
            head: Name of the head; found by itself from the target.
            tokenizer_options: Options of the tokenizer, by name.
            head_options: Options of the head, by name.
            tune: What of the backbone is trained too: ``"frozen"``, nothing; ``"norm"``, LayerNorms of the task's own;
                ``"lora"``, a low-rank update; ``"full"``, all of a copy, which cannot be shared.
            adapter_options: Of a LoRA adapter, by name, as in ``LoraOptions``.
            seed: Of the initial weights.
            skip_bad_samples: Leave out samples whose target is missing, not stop.

        Raises:
            ValueError: If a name is unknown, a column missing or ambiguous, or no task can be made of the data.
        """
        task = cls.build(
            backbone,
            modality,
            train,
            target=target,
            inputs=inputs,
            head=head,
            tokenizer_options=tokenizer_options,
            head_options=head_options,
            tune=tune,
            adapter_options=adapter_options,
            seed=seed,
        )
        return task.learn(task.examples(train, "train"), seed=seed, skip_bad=skip_bad_samples)

    @classmethod
    def build(
        cls,
        backbone: Backbone,
        modality: str,
        data: Any,
        *,
        target: str | None = None,
        inputs: Sequence[str] | None = None,
        head: str | None = None,
        tokenizer_options: dict[str, Any] | None = None,
        head_options: dict[str, Any] | None = None,
        tune: str = "frozen",
        adapter_options: dict[str, Any] | None = None,
        seed: int = 0,
    ) -> Self:
        """The first half of ``from_data``: columns, tokenizer and head are chosen, nothing is learned yet."""
        kind, target = lookup("tokenizers", modality), target_name(target)
        backbone, adapter = tuned(backbone, tune, adapter_options, seed)
        with seeded(seed):
            tokenizer = build_tokenizer(modality, backbone, tokenizer_options or {})
            table, target = training_data(data, kind, target)
            if isinstance(table, tuple | Examples):
                targets = without_missing(plain_targets(table.targets if isinstance(table, Examples) else table[1]))
                built = build_head(head, kind, targets, backbone.dim, head_options or {})
                names = field_names(table[0], tokenizer) if isinstance(table, tuple) else []
                return cls(backbone, tokenizer, built, names, adapter=adapter)
            if head is None and claimed(kind, table, target):
                head = kind.default_head
            if head is None or lookup("heads", head).needs_target:
                table = joined_target(table, target)
                target = find_target(table, target)
            # Several to forecast are no column together.
            targets = without_missing(table[target][:]) if target in table.column_names else None
            built = build_head(head, kind, targets, backbone.dim, head_options or {}, table.column_names)
        named = None if inputs is None else column_names(inputs, table.column_names)
        target, columns = built.columns(table, target, named, tokenizer)
        check_inputs(table, columns, target, named=inputs is not None)
        return cls(backbone, tokenizer, built, columns, target, adapter)

    def learn(self, train: Examples, seed: int = 0, skip_bad: bool = False) -> Self:
        """The second half of ``from_data``: statistics and classes of the training split, and initial weights."""
        train = screened(train, self.head, skip_bad)
        with seeded(seed):
            fit_tokenizer(self.tokenizer, train)
            self.head.learn(train.targets if train.targets is not None else [])
        return self.to(self.backbone.device).eval()

    # Training

    def fit(
        self,
        train: Any,
        validation: Any = None,
        *,
        out: str | Path | None = None,
        resume: bool = False,
        skip_bad_samples: bool = False,
        **settings: Any,
    ) -> Self:
        """Train tokenizer, head and what ``tune`` says; with ``validation``, keep the weights of the best epoch.

        Of a task that is trained already, the weights it has are kept where no epoch is better.

        Args:
            train: As in ``from_data``.
            validation: Data to stop and choose by; without it the last weights are kept.
            out: Folder for ``history.csv`` and the checkpoint.
            resume: Go on from the checkpoint in ``out``.
            skip_bad_samples: Leave out samples that cannot be used.
            settings: By name, as in ``TrainingSettings``.

        Raises:
            ValueError: If samples are bad, the loss is not finite, or the checkpoint is of other settings.
        """
        self.settings = TrainingSettings.of(**settings)
        data = self.encode(train, "train", augment=True, skip_bad=skip_bad_samples)
        held = None if validation is None else self.encode(validation, "validation", skip_bad=skip_bad_samples)
        folder = Path(out) if out else None
        columns: dict[str, Any] = {"inputs": self.inputs, "target": self.target}
        outcome = run_training(self.model, data, held, self.settings, out=folder, resume=resume, **columns)
        self.history = outcome.history
        self.kept = outcome.kept
        self.token_warmup = outcome.token_warmup
        return self

    def encode(self, data: Any, split: str, *, augment: bool = False, skip_bad: bool = False) -> EncodedDataset:
        """Labelled data as tensors; what is encoded already stays as it is. Raises ValueError as ``EncodedDataset``."""
        if isinstance(data, EncodedDataset):
            return data
        examples, kept = self.examples(data, split), repr(self.backbone.config) if self.settings.cache else None
        return EncodedDataset(examples, self.tokenizer, self.head, augment=augment, skip_bad=skip_bad, cache_key=kept)

    def examples(self, data: Any, split: str) -> Examples:
        """Labelled data, as in ``from_data``, as examples."""
        return labelled(data, split, self.tokenizer, self.head, self.inputs, self.target, self.reading)

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
        """What a user may ask about, as raw samples."""
        return raw_samples(samples, self.tokenizer, self.head, self.inputs, self.reading)

    # On disk

    def merge(self) -> Self:
        """Copy of the task on a backbone of its own, into which the adapter is folded; this one stays as it is.

        It gives the same answers, without the adapter's cost, and cannot be shared.

        Raises:
            ValueError: If the task has no adapter.
        """
        alone = self._on(self.model.merged())
        alone.metrics = dict(self.metrics)
        alone.about = dict(self.about)
        return alone

    def retune(self, tune: str, adapter_options: Mapping[str, Any] | None = None, seed: int = 0) -> Self:
        """Copy of a frozen task that trains more of the backbone, with the same answers until it does.

        Args:
            tune, adapter_options, seed: As of ``from_data``.

        Raises:
            ValueError: If the task is tuned already, or as ``from_data``.
        """
        return self._on(self.model.retuned(tune, adapter_options, seed))

    def _on(self, model: Model) -> Self:
        """Task around another model, with the columns and settings of this one."""
        made = self.of_model(model, self.inputs, self.target)
        made.settings = self.settings
        made.reading = self.reading
        return made

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the task to ``folder``: config, weights, adapter, model card; whole, or not at all.

        Raises:
            ValueError: If the folder holds something that is no task.
            OSError: If it cannot be written.
        """
        return save(self.model, self._record(), Path(folder))

    def _record(self) -> Record:
        return Record(
            inputs=self.inputs, target=self.target, settings=self.settings, metrics=self.metrics, about=self.about
        )

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
            backbone: The one that the task was trained on.
            revision, token: Of the hub, as ``metatx.storage.hub.task_folder``.

        Raises:
            FileNotFoundError: If there is no such folder, and the hub cannot be reached or has none.
            TaskError: If it is damaged or foreign, or was trained on another backbone.
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
        """The task with other settings for prediction (``batch_size``, ``precision``)."""
        self.settings = replace(self.settings, **changes)
        return self
