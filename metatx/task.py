"""Task: a tokenizer and a head on a backbone; the unit that is trained, saved, shared and deployed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from metatx.adapters.lora import Adapter
from metatx.adapters.tiers import merged_task, tuned
from metatx.backbone.vit import Backbone
from metatx.data.arguments import column_names, joined_target, target_name
from metatx.data.tables import find_target
from metatx.encoding.columns import field_names, fit_tokenizer, labelled, raw_samples, training_data
from metatx.encoding.encoded import EncodedDataset, screened
from metatx.encoding.head_choice import build_head, check_inputs, claimed, takes_stem
from metatx.examples import Examples, known
from metatx.head import Head
from metatx.inference import Piece, ask, decoded, embedded, joined, listed
from metatx.layers.input_norm import input_norm
from metatx.reading.csv_tables import Reading
from metatx.registry import create, lookup
from metatx.sequence import TokenSequence, as_sequence
from metatx.settings import TrainingSettings
from metatx.tokenizer import Tokenizer
from metatx.values import plain_targets

__all__ = ["Task"]


class Task(nn.Module):
    """A tokenizer and a head on a shared, frozen backbone, with an adapter where the task changes it for itself.

    Only tokenizer, head and adapter are submodules: what acts on a whole module (``train``, ``apply``,
    ``load_state_dict``, optimizers, checkpoints) does not reach the backbone, unless it is the task's own.

    Args:
        backbone: The frozen transformer; shared, never copied. A ``trainable_copy`` one becomes the task's own.
        tokenizer: Of the backbone's width.
        head: Of the backbone's width.
        inputs: Columns of a table that make up a sample.
        target: Column of a table that is predicted.
        adapter: What the task changes of the backbone.

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
        super().__init__()
        if 0 < backbone.depth < head.layers:
            raise ValueError(f"The head reads {head.layers} layers; this backbone has {backbone.depth}.")
        if head.dense and tokenizer.crop_warning:
            raise ValueError(
                f"The {head.name} head answers for the whole of a sample, but the {tokenizer.name} tokenizer cuts its "
                f"edges off: {tokenizer.crop_warning}."
            )
        self._shared = (backbone,)
        self.own_backbone = None if backbone.frozen else backbone
        self.tokenizer, self.head, self.adapter = tokenizer, head, adapter
        self.norm = input_norm(backbone, tokenizer)
        self.inputs, self.target = list(inputs), target
        self.metrics: dict[str, Any] = {}
        self.about: dict[str, str] = {}  # for the card, where known: data, dataset (on the hub), split, license
        self.token_warmup: dict[str, float] = {}  # as ``warm_up_tokens`` gives it
        self.settings = TrainingSettings()
        self.reading = Reading()  # how the csv files are written that it is given
        self.kept = ""  # which weights training kept, and why
        self.trained = False  # further training then keeps these weights where no epoch is better

    @property
    def backbone(self) -> Backbone:
        """The shared backbone, or the task's own."""
        return self._shared[0]

    @property
    def tune(self) -> str:
        """What of the backbone is the task's own: one of ``tuning.TIERS``, or ``merged``, as ``merge`` made it."""
        if self.adapter is not None:
            return self.adapter.tune
        if self.own_backbone is None:
            return "frozen"
        return "full" if any(parameter.requires_grad for parameter in self.own_backbone.parameters()) else "merged"

    @property
    def trainable_parameters(self) -> int:
        """Number of weights that training changes, counted over task and backbone."""
        return sum(p.numel() for p in {*self.parameters(), *self.backbone.parameters()} if p.requires_grad)

    @property
    def device(self) -> torch.device:
        """Where the task computes: where its backbone is."""
        return self.backbone.device

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
        options = dict(tokenizer_options or {})
        if takes_stem(kind):
            options["stem"] = backbone.stem
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            tokenizer = create("tokenizers", modality, backbone.dim, **options)
            table, target = training_data(data, kind, target)
            if isinstance(table, tuple | Examples):
                targets = known(plain_targets(table.targets if isinstance(table, Examples) else table[1]))
                built = build_head(head, kind, targets, backbone.dim, head_options or {})
                names = field_names(table[0], tokenizer) if isinstance(table, tuple) else []
                return cls(backbone, tokenizer, built, names, adapter=adapter)
            if head is None and claimed(kind, table, target):
                head = kind.default_head
            if head is None or lookup("heads", head).needs_target:
                table = joined_target(table, target)
                target = find_target(table, target)
            # Several to forecast are no column together.
            targets = known(table[target][:]) if target in table.column_names else None
            built = build_head(head, kind, targets, backbone.dim, head_options or {}, table.column_names)
        named = None if inputs is None else column_names(inputs, table.column_names)
        target, columns = built.columns(table, target, named, tokenizer)
        check_inputs(table, columns, target, named=inputs is not None)
        return cls(backbone, tokenizer, built, columns, target, adapter)

    def learn(self, train: Examples, seed: int = 0, skip_bad: bool = False) -> Self:
        """The second half of ``from_data``: statistics and classes of the training split, and initial weights."""
        train = screened(train, self.head, skip_bad)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            fit_tokenizer(self.tokenizer, train)
            self.head.fit(train.targets if train.targets is not None else [])
        return self.to(self.backbone.device).eval()

    # The model

    def tokens(self, batch: dict[str, Any]) -> TokenSequence:
        """Collated tensors to the sequences that enter the backbone."""
        sequence = as_sequence(self.tokenizer(batch))
        return sequence.with_embeddings(self.norm(sequence.embeddings))

    def features(self, batch: dict[str, Any], layers: int | None = None) -> TokenSequence:
        """Collated tensors to the sequences that leave the backbone, as many layers of them as the head reads."""
        tokens, layers = self.tokens(batch), layers or self.head.layers
        sequence: TokenSequence = self.backbone(tokens, layers=layers, adapter=self.adapter)
        return sequence

    def forward(self, batch: dict[str, Any]) -> Tensor:
        """Collated tensors to the head's output (B, ...)."""
        output: Tensor = self.head(self.head.pool(self.features(batch)))
        return output

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
        from metatx.training.loop import train as run_training

        self.settings = TrainingSettings.of(**settings)
        data = self.encode(train, "train", augment=True, skip_bad=skip_bad_samples)
        held = None if validation is None else self.encode(validation, "validation", skip_bad=skip_bad_samples)
        self.history = run_training(self, data, held, self.settings, out=Path(out) if out else None, resume=resume)
        self.trained = True
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
        from metatx.training.loop import evaluate

        return evaluate(self, self.encode(data, "test", skip_bad=skip_bad_samples), self.settings)

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
        return joined(ask(self, self.queries(samples), embedded, skip_bad=skip_bad_samples))

    def _pieces(self, samples: Any, answer: Callable[..., Any], skip_bad: bool) -> Iterator[Piece]:
        return ask(self, self.queries(samples), decoded(answer), skip_bad=skip_bad)

    def extents(self, queries: Sequence[Any]) -> list[list[tuple[int, ...]]]:
        """The further argument, if any, that the head's ``decode`` and ``records`` take: the samples' extents."""
        return [[self.tokenizer.dense_values(query).shape[:-1] for query in queries]] if self.head.dense else []

    def queries(self, samples: Any) -> Sequence[Any]:
        """What a user may ask about, as raw samples."""
        return raw_samples(samples, self.tokenizer, self.head, self.inputs, self.reading)

    # On disk

    def merge(self) -> Self:
        """A copy of the task on a backbone of its own, into which the adapter is folded; this one stays as it is.

        It gives the same answers, without the adapter's cost, and cannot be shared.

        Raises:
            ValueError: If the task has no adapter.
        """
        return merged_task(self)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the task to ``folder``: config, weights, adapter, model card; whole, or not at all.

        Raises:
            ValueError: If the folder holds something that is no task.
            OSError: If it cannot be written.
        """
        from metatx.storage.folder import save

        return save(self, Path(folder))

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
        from metatx.storage.hub import push

        return push(self, repo_id, private, commit_message, revision, token)

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
        from metatx.storage.folder import read
        from metatx.storage.hub import task_folder

        return read(cls, task_folder(name, revision, token), backbone)

    def set_inference(self, **changes: Any) -> Self:
        """The task with other settings for prediction (``batch_size``, ``precision``)."""
        self.settings = replace(self.settings, **changes)
        return self
