"""Training loop for all tasks, on one process or many."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, DistributedType, parse_flag_from_env, patch_environment
from torch import Tensor, nn
from torch.utils.data import DataLoader

from metatx.encoding.collate import collate, to_device, widened
from metatx.encoding.encoded import EncodedDataset, FeatureDataset, PooledDataset
from metatx.encoding.sampling import class_numbers
from metatx.encoding.trainable import nothing_to_train
from metatx.errors import DivergedError
from metatx.model import Model
from metatx.progress import bar, tell
from metatx.seeding import seeded
from metatx.settings import TrainingSettings
from metatx.training.batches import epoch_batches, loader, shares
from metatx.training.callbacks import Callbacks
from metatx.training.checkpoint import Checkpoint, Progress
from metatx.training.distributed import placed, processes
from metatx.training.facts import facts_of
from metatx.training.frozen_features import Batches, cached
from metatx.training.history import History, shown_numbers
from metatx.training.interrupts import CheckpointSchedule
from metatx.training.measuring import check_metric, measure
from metatx.training.novelty import check_novelty, fit_novelty
from metatx.training.optimizer import parameter_groups
from metatx.training.sharding import Shards
from metatx.training.token_warmup import warm_up_tokens, warmup_parameters

__all__ = ["Outcome", "Training", "train"]

LINES = 20  # most lines about epochs that a run prints
FSDP = "ACCELERATE_USE_FSDP"  # environment variable that accelerate launch sets if it is configured for FSDP
SHARDING = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)


@dataclass(frozen=True)
class Outcome:
    """Record of a finished training run; the weights are in the model.

    Attributes:
        history: Rows of losses, validation metrics, learning rate and seconds, one an epoch.
        kept: Sentence that says which weights were kept, and why.
        token_warmup: Steps of the token warm-up, and the distance before and after; empty where there was none.
    """

    history: list[dict[str, float]]
    kept: str
    token_warmup: dict[str, float]


def train(
    model: Model,
    data: EncodedDataset,
    validation: EncodedDataset | None,
    settings: TrainingSettings,
    columns: Mapping[str, Any] | None = None,
    *,
    out: Path | None = None,
    resume: bool = False,
    callbacks: Sequence[Any] = (),
) -> Outcome:
    """Train a model's tokenizer, head and what it tunes; keep the weights of the best epoch on ``validation``.

    Args:
        model: Model to train, in place.
        data: Training split.
        validation: Validation split; None keeps the last weights.
        settings: Settings of the training: epochs, rates and the like.
        columns: Columns that make up samples and targets, which a resumed run must share.
        out: Folder of ``history.csv`` and the checkpoint; None writes neither.
        resume: Go on from the checkpoint in ``out``.
        callbacks: Objects that are called after each epoch, see ``Callbacks``.

    Raises:
        DivergedError: If the loss is not finite.
        Stopped: If SIGTERM or SIGINT came; the checkpoint in ``out`` is up to date then.
        ValueError: If ``resume`` finds the checkpoint of another run; if ``shard`` is set for a model that has its own
            backbone; or as ``warmup_parameters``.
    """
    check_novelty(model, validation, settings)
    outcome = Training(model, data, validation, settings, columns, out, callbacks=callbacks).run(resume)
    model.trained = True
    model.novelty = fit_novelty(model, data, validation, settings)
    return outcome


class Training:
    """One run: the module that is trained (the model, or its head on cached features), its data and its optimizer.

    Args:
        model, data, validation, settings, columns, out, callbacks: The arguments of ``train``.
        quiet: Print no lines about epochs.
    """

    schedule: CheckpointSchedule
    optimizer: Any
    wrapped: nn.Module  # the module, wrapped for several processes

    def __init__(
        self,
        model: Model,
        data: EncodedDataset,
        validation: EncodedDataset | None,
        settings: TrainingSettings,
        columns: Mapping[str, Any] | None = None,
        out: Path | None = None,
        *,
        callbacks: Sequence[Any] = (),
        quiet: bool = False,
    ) -> None:
        self.accelerator = _accelerator()
        self.rank = self.accelerator.process_index
        self.world = self.accelerator.num_processes
        self.model = model
        self.settings = settings.for_samples(len(data))
        assert self.settings.epochs is not None
        self.epochs = self.settings.epochs
        self.metric = settings.metric or model.head.primary_metric  # chooses the epoch whose weights are kept
        check_metric(model, self.metric)
        if not model.trainable_parameters:
            raise nothing_to_train(model.head.name)
        if settings.token_warmup_steps:
            warmup_parameters(model)
        self.encoded = data
        self.encoded_validation = validation
        self.data: Batches = data
        self.validation: Batches | None = validation
        self.module: nn.Module = model
        self.classes: np.ndarray | None = None  # class of each sample, for balanced sampling
        self.shards: Shards | None = None
        self.steps = -(-len(data) // self.settings.batch_size)  # steps of an epoch
        self.out = out
        self.columns = columns
        self.quiet = quiet
        self.history = History(out if self.accelerator.is_main_process else None, settings)
        self.callbacks = Callbacks(callbacks, self.settings, self.steps)

    def run(self, resume: bool) -> Outcome:
        """Train to the end. Raises the errors of ``train``."""
        self._prepare()
        progress = self.schedule.load() if resume else Progress()
        self.history.rows = progress.history
        with self.shards or nullcontext(), self.schedule, torch.random.fork_rng(devices=[]):
            if self.settings.token_warmup_steps and not progress.alignment:
                progress.alignment = warm_up_tokens(self.model, self.encoded, self.settings, self._bar)
                self.schedule.save(progress)
            if self.model.trained and self.validation is not None and progress.best is None:
                self._keep_best(self.measure(self.validation, progress), progress, epoch=0)
            self.callbacks("on_train_begin", progress.history)
            while progress.epoch < self.epochs and not self._is_over(progress):
                self._epoch(progress)
            self.schedule.finish(progress)
            self.history.finish()
            self.callbacks("on_train_end", progress.history)
        if progress.best_state:
            self.model.load_state_dict(progress.best_state)
        self.model.eval()
        self._calibrate()
        return Outcome(progress.history, self._kept(progress), progress.alignment)

    def _prepare(self) -> None:
        """Move the model to its device, compute features that can be cached, make optimizer and checkpoint."""
        settings = self.settings
        placed(self.model, self.model.backbone, self.accelerator)
        self.encoded.seed = settings.seed
        if settings.sampling == "balanced":
            self.classes = class_numbers(self.encoded)
        self._cache()
        self.shards = self._shards()
        groups = parameter_groups(self.module, settings, self.model.backbone.depth)
        on_gpu = self.model.device.type == "cuda"
        optimizer = torch.optim.AdamW(groups, lr=settings.lr, fused=on_gpu or None)
        self.wrapped, self.optimizer = self.accelerator.prepare(self.module, optimizer)
        facts = facts_of(self.model, self.encoded, self.encoded_validation, self.columns) if self.out else {}
        checkpoint = Checkpoint(self.out, self.model, self.optimizer, settings, facts, self.steps)
        self.schedule = CheckpointSchedule(self.accelerator, checkpoint)

    def _cache(self) -> None:
        """Replace the data by features of what is frozen, and the module by what is left to compute."""
        if not self.settings.cache:
            return
        # In divided blocks all processes take part in each pass, which a batch of cached inputs alone would leave out.
        partly = not self._divides()
        with self.accelerator.main_process_first():
            self.module, self.data = cached(self.model, self.encoded, self.settings, self._bar, partly=partly)
            if self.encoded_validation is not None:
                held = self.encoded_validation
                _, self.validation = cached(self.model, held, self.settings, self._bar, partly=partly)

    def _kept(self, progress: Progress) -> str:
        """Sentence that says which weights are kept, and why."""
        if progress.best is None:
            return f"Kept: the weights of the last epoch, {progress.epoch}; there is no validation split to choose by."
        if progress.best_epoch == 0:
            return f"Kept: the weights before training; no epoch was better by validation {self.metric}."
        value = progress.best[0] * (1 if self._is_higher_better() else -1)
        return (
            f"Kept: the weights of epoch {progress.best_epoch} of {progress.epoch}, with the best validation "
            f"{self.metric} ({value:.4f}); of equal epochs the one with the lowest loss is kept."
        )

    def _is_higher_better(self) -> bool:
        return self.metric != "loss" and bool(self.model.head.metrics()[self.metric].higher_is_better)

    def _divides(self) -> bool:
        """Return True if settings or launch ask that blocks are divided among processes."""
        return self.world > 1 and bool(self.settings.shard or parse_flag_from_env(FSDP))

    def _shards(self) -> Shards | None:
        """Blocks divided among processes, if settings or launch ask for it; None where features are cached."""
        if not self._divides() or isinstance(self.data, FeatureDataset | PooledDataset):
            return None
        if self.model.own_backbone is not None:
            raise ValueError(
                f"shard divides a backbone that is frozen and shared; with tune {self.model.tune!r} the task has its "
                "own. Leave shard at false (and FSDP out of the launch), or choose tune frozen, norm or lora."
            )
        half = self.settings.is_half(self.model.device)
        # DoRA needs the norms of whole matrices in full precision.
        dora = self.model.adapter is not None and self.model.adapter.options.get("use_dora", False)
        return Shards(self.model.backbone, half and not dora)

    @torch.no_grad()
    def _calibrate(self) -> None:
        """Calibrate the head on the whole validation split; every process computes the same."""
        head = self.model.head
        if self.validation is None or not head.calibrates:
            return
        batches = shares(len(self.validation), self.settings.batch_size, 0, 1)
        outputs = []
        targets = []
        for inputs, target in self._loader(self.validation, batches):
            with self.settings.autocast(self.model.device):
                outputs.append(widened(self.module(to_device(inputs, self.model.device))))
            targets += to_device(target, self.model.device)
        collated = collate([{"target": target} for target in targets])["target"]
        head.calibrate(torch.cat(outputs), collated)

    def _is_over(self, progress: Progress) -> bool:
        patience = self.settings.patience
        patient = bool(patience) and self.validation is not None
        return self.callbacks.stopped or (patient and progress.epoch - progress.best_epoch > patience)

    def _epoch(self, progress: Progress) -> None:
        self.data.epoch = progress.epoch
        self.model.train()
        started = time.perf_counter()
        batches = self._loader(self.data, self._batches(progress.epoch)[progress.step :])
        for inputs, targets in self._bar(batches, f"epoch {progress.epoch + 1}/{self.epochs}"):
            progress.loss_sum += self.step(inputs, targets, progress)
            progress.step += 1
            self.schedule.after_step(progress)
        row = {"epoch": progress.epoch + 1, "train_loss": progress.loss_sum / len(self.data)}
        if self.validation is not None:
            metrics = self.measure(self.validation, progress)
            row |= {f"validation_{name}": value for name, value in metrics.items()}
            self._keep_best(metrics, progress, progress.epoch + 1)
        rate = self._rate(progress.epoch * self.steps + progress.step - 1)
        row |= {"lr": rate, "seconds": time.perf_counter() - started}
        progress.history.append(row)
        progress.epoch += 1
        progress.step = 0
        progress.loss_sum = 0.0
        self.history.write()
        self._tell(row)
        self.callbacks.after_epoch(progress.history)

    def _tell(self, row: dict[str, float]) -> None:
        """Print a line about an epoch; long runs print at most ``LINES`` of them."""
        number = int(row["epoch"])
        last = self.epochs
        every = math.ceil(last / LINES)
        if self.quiet or not self.accelerator.is_main_process or (number % every and number != last):
            return
        tell(f"epoch {number}/{last}: {shown_numbers(row, self.metric)} ({row['seconds']:.1f} s)")

    def _keep_best(self, metrics: dict[str, float], progress: Progress, epoch: int) -> None:
        """Keep the weights if they are the best so far by the metric; of equal ones by the loss."""
        rank = self._rank(metrics)
        if progress.best is None or rank > tuple(progress.best):
            progress.best = list(rank)
            progress.best_epoch = epoch
            progress.best_state = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}

    def _rank(self, metrics: dict[str, float]) -> tuple[float, float]:
        """Metric and loss, signed so that larger is better; a value that is not defined is the worst."""
        value = metrics[self.metric] * (1 if self._is_higher_better() else -1)
        return _worst_if_nan(value), _worst_if_nan(-metrics["loss"])

    def step(self, inputs: Any, targets: Any, progress: Progress) -> float:
        """Train on this process's share of a batch; return the loss, summed over the samples of all processes."""
        step = progress.epoch * self.steps + progress.step
        # Dropout depends on (seed, step, process) only, so a resumed run needs no generator's state.
        with seeded(self.settings.seed, step, self.rank):
            loss = self._update(inputs, targets, step, progress.step * self.settings.batch_size)
        if not math.isfinite(loss):
            raise DivergedError(
                f"The loss became {loss} in epoch {progress.epoch + 1}, step {progress.step + 1}; "
                f"try a lower learning rate than {self.settings.lr:g}."
            )
        return loss

    def _update(self, inputs: Any, targets: Any, step: int, done: int) -> float:
        """Update the weights, ``done`` samples into the epoch; return the loss, summed over all processes."""
        rate = self._rate(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        total = min(self.settings.batch_size, len(self.data) - done)
        share = len(range(self.rank, total, self.world))
        inputs = to_device(inputs, self.model.device)
        targets = to_device(targets, self.model.device)
        # If some processes have samples of weight zero, the batch's statistics would count some samples twice.
        for part in (self.model.head, self.model.fusion):
            if part is not None:
                part.train(total >= self.world)
        with self.settings.autocast(self.model.device):
            output = self.wrapped(inputs, targets) if self.model.head.continues else self.wrapped(inputs)
        loss = self.model.head.loss(widened(output), targets)
        # DDP averages gradients over processes; with this weight the result is the gradient of the batch's mean loss.
        self.accelerator.backward(loss * (share * self.world / total))
        self.accelerator.unscale_gradients()  # accelerate's clip_grad_norm_ behaves differently under FSDP
        nn.utils.clip_grad_norm_(self.module.parameters(), self.settings.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        summed: Tensor = self.accelerator.reduce(loss.detach() * share, reduction="sum")
        return summed.item()

    def _rate(self, step: int) -> float:
        return self.settings.rate(step, self.steps * self.epochs)

    def _batches(self, epoch: int) -> list[list[int]]:
        return epoch_batches(
            len(self.data),
            self.settings.batch_size,
            self.settings.seed,
            epoch,
            classes=self.classes,
            rank=self.rank,
            world=self.world,
        )

    def _loader(self, data: Batches, batches: list[list[int]]) -> DataLoader[Any]:
        return loader(data, batches, self.settings.workers, self.model.device)

    def measure(self, data: Batches, progress: Progress) -> dict[str, float]:
        """Metrics on ``data``; each process measures its share."""
        batches = self.schedule.interruptible(self._bar(self._joined(data), "validation"), progress)
        return measure(self.model, self.module, batches, self.settings).values()

    def _joined(self, data: Batches) -> Iterator[Any]:
        """Iterate over this process's batches; with divided blocks, then join the passes of processes with more."""
        size = self.settings.batch_size
        largest_share = shares(len(data), size, 0, self.world)
        share = shares(len(data), size, self.rank, self.world)
        yield from self._loader(data, share)
        if self.shards:
            for _ in range(len(largest_share) - len(share)):
                self.shards.join()

    def _bar(self, items: Any, what: str) -> Any:
        return bar(items, what) if self.accelerator.is_main_process else items


def _accelerator() -> Accelerator:
    """Accelerator of this process. Raises ValueError if the launch is configured to divide trained weights."""
    # A batch may leave parameters unused, such as the token of a missing value where no value is missing.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    with patch_environment(**{FSDP: "false"}):  # accelerate would divide trained weights; metatx divides frozen ones
        on_cpu = processes().device.type == "cpu"
        # ``placed`` moves the model; accelerate would move it to its own choice of a GPU.
        accelerator = Accelerator(cpu=on_cpu, device_placement=False, kwargs_handlers=[unused])
    if accelerator.distributed_type in SHARDING:
        raise ValueError(
            f"This launch is configured for {accelerator.distributed_type.value}, which divides trained weights; "
            "metatx divides the frozen backbone only. Launch with torchrun or accelerate launch --multi_gpu, and set "
            "shard to true (--shard)."
        )
    return accelerator


def _worst_if_nan(value: float) -> float:
    return -math.inf if math.isnan(value) else value
