"""The training loop: one for all tasks, on one process or many."""

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, DistributedType, parse_flag_from_env, patch_environment
from torch import Tensor, nn
from torch.utils.data import DataLoader

from metatx.adapters.tiers import parameter_groups
from metatx.encoding.collate import collate, to_device, widened
from metatx.encoding.encoded import EncodedDataset, FeatureDataset
from metatx.encoding.sampling import balanced_order, class_numbers
from metatx.errors import DivergedError
from metatx.metrics.evaluator import Measures
from metatx.progress import bar, tell
from metatx.registry import unknown
from metatx.training.checkpoint import Checkpoint, Progress
from metatx.training.distributed import processes
from metatx.training.facts import facts_of
from metatx.training.frozen_features import cacheable, frozen_features
from metatx.training.history import History
from metatx.training.interrupts import CheckpointSchedule
from metatx.training.token_warmup import warm_up_tokens, warmup_parameters

if TYPE_CHECKING:
    from metatx.settings import TrainingSettings
    from metatx.task import Task
    from metatx.training.sharding import Shards

__all__ = ["evaluate", "loader", "measure", "train"]

LINES = 20  # about epochs, at most, of a run
FSDP = "ACCELERATE_USE_FSDP"  # by which accelerate launch tells its processes that it is configured for it
SHARDING = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)


def train(
    task: "Task",
    data: EncodedDataset,
    validation: EncodedDataset | None,
    settings: "TrainingSettings",
    *,
    out: Path | None = None,
    resume: bool = False,
) -> list[dict[str, float]]:
    """Train a task's tokenizer, head and what it tunes; keep the weights of the best epoch on ``validation``.

    Returns:
        One row an epoch: losses, validation metrics, learning rate, seconds.

    Raises:
        DivergedError: If the loss is not finite.
        Stopped: If SIGTERM or SIGINT came; the checkpoint in ``out`` is up to date then.
        ValueError: If ``resume`` finds the checkpoint of other settings, the blocks of a backbone of the task's own are
            to be divided among processes, or as ``warmup_parameters``.
    """
    return Training(task, data, validation, settings, out).run(resume)


class Training:
    """One run: the module that trains (the task, or its head on cached features), its data and its optimizer.

    Args:
        task, data, validation, settings, out: As of ``train``.
        quiet: Say nothing of epochs, as a trial does.
    """

    def __init__(
        self,
        task: "Task",
        data: EncodedDataset,
        validation: EncodedDataset | None,
        settings: "TrainingSettings",
        out: Path | None,
        *,
        quiet: bool = False,
    ) -> None:
        self.quiet = quiet
        # A batch may leave parameters unused (the token of a missing value, where nothing is missing).
        unused = DistributedDataParallelKwargs(find_unused_parameters=True)
        with patch_environment(**{FSDP: "false"}):  # accelerate would divide what is trained; we divide what is not
            self.accelerator = Accelerator(cpu=processes().device.type == "cpu", kwargs_handlers=[unused])
        if self.accelerator.distributed_type in SHARDING:
            raise ValueError(
                f"This launch is configured for {self.accelerator.distributed_type.value}, which divides what is "
                "trained; metatx divides the frozen backbone alone. Launch without, by torchrun or accelerate launch "
                "--multi_gpu, with shard set to true (--shard)."
            )
        self.task, self.settings = task.to(self.accelerator.device), settings.for_samples(len(data))
        settings = self.settings
        assert settings.epochs is not None
        self.epochs = settings.epochs
        self.metric = settings.metric or task.head.primary_metric  # that chooses the epoch
        _check_metric(task, self.metric)
        task.backbone.to(self.accelerator.device)
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
        self.module: nn.Module = task
        if settings.token_warmup_steps:
            warmup_parameters(task)
        self.encoded = data
        self.data: EncodedDataset | FeatureDataset = data
        self.validation: EncodedDataset | FeatureDataset | None = validation
        data.seed = settings.seed
        self.classes = class_numbers(data) if settings.sampling == "balanced" else None
        if settings.cache and cacheable(task):
            self.module = task.head
            with self.accelerator.main_process_first():
                self.data = frozen_features(task, data, settings, self._bar)
                self.validation = validation and frozen_features(task, validation, settings, self._bar)
        self.shards = self._shards()
        groups = parameter_groups(self.module, settings, task.backbone.depth)
        self.optimizer = torch.optim.AdamW(groups, lr=settings.lr)
        self.model, self.optimizer = self.accelerator.prepare(self.module, self.optimizer)
        self.steps = -(-len(self.data) // settings.batch_size)  # of an epoch
        folder = out if self.accelerator.is_main_process else None
        facts = facts_of(task, data, validation) if out else {}
        checkpoint = Checkpoint(out, task, self.optimizer, settings, facts, self.steps)
        self.keeper = CheckpointSchedule(self.accelerator, checkpoint)
        self.history = History(folder, settings.tensorboard)

    def run(self, resume: bool) -> list[dict[str, float]]:
        progress = self.keeper.load() if resume else Progress()
        self.history.rows = progress.history
        with self.shards or nullcontext(), self.keeper, torch.random.fork_rng(devices=[]):
            if self.settings.token_warmup_steps and not progress.alignment:
                progress.alignment = warm_up_tokens(self.task, self.encoded, self.settings, self._bar)
                self.keeper.save(progress)
            if self.task.trained and self.validation is not None and progress.best is None:
                self._keep_best(self.measure(self.validation, progress), progress, epoch=0)
            while progress.epoch < self.epochs and not self._is_over(progress):
                self._epoch(progress)
            self.keeper.finish(progress)
        if progress.best_state:
            self.task.load_state_dict(progress.best_state)
        self.task.kept = self._kept(progress)
        self.task.token_warmup = progress.alignment
        self.task.eval()
        self._calibrate()
        return progress.history

    def _kept(self, progress: Progress) -> str:
        """Which weights are kept, and why, in words."""
        if progress.best is None:
            return f"Kept: the weights of the last epoch, {progress.epoch}; there is no validation split to choose by."
        if progress.best_epoch == 0:
            return f"Kept: the weights it started from; no epoch was better by validation {self.metric}."
        value = progress.best[0] * (1 if self._is_higher_better() else -1)
        return (
            f"Kept: the weights of epoch {progress.best_epoch} of {progress.epoch}, the best validation {self.metric} "
            f"({value:.4f}) and of equal ones the lowest loss."
        )

    def _is_higher_better(self) -> bool:
        return self.metric != "loss" and bool(self.task.head.metrics()[self.metric].higher_is_better)

    def _shards(self) -> "Shards | None":
        """The blocks divided, where settings or launch ask for it; cached features do not pass through them."""
        wanted = self.settings.shard or parse_flag_from_env(FSDP)
        if not wanted or self.world == 1 or self.module is not self.task:
            return None
        if self.task.own_backbone is not None:
            raise ValueError(
                f"shard divides a backbone that is frozen and shared; with tune {self.task.tune!r} the task has one of "
                "its own. Leave shard at false (and FSDP out of the launch), or choose tune frozen, norm or lora."
            )
        from metatx.training.sharding import Shards

        with self.settings.autocast(self.task.device):
            half = torch.is_autocast_enabled(self.task.device.type)
        # DoRA takes the norms of whole matrices in full precision.
        dora = self.task.adapter is not None and self.task.adapter.options.get("use_dora", False)
        return Shards(self.task.backbone, half and not dora)

    @torch.no_grad()
    def _calibrate(self) -> None:
        """Show the head the whole validation split; every process by itself, so that all learn the same."""
        head = self.task.head
        if self.validation is None or not head.calibrates:
            return
        size, count = self.settings.batch_size, len(self.validation)
        outputs, targets = [], []
        batches = [list(range(i, min(i + size, count))) for i in range(0, count, size)]
        for inputs, target in self._loader(self.validation, batches):
            with self.settings.autocast(self.task.device):
                outputs.append(widened(self.module(to_device(inputs, self.task.device))))
            targets += to_device(target, self.task.device)
        known = collate([{"target": target} for target in targets])["target"]
        head.calibrate(torch.cat(outputs), known)

    def _is_over(self, progress: Progress) -> bool:
        patience = self.settings.patience
        return bool(patience) and self.validation is not None and progress.epoch - progress.best_epoch > patience

    def _epoch(self, progress: Progress) -> None:
        self.data.epoch = progress.epoch
        self.task.train()
        started = time.perf_counter()
        batches = self._loader(self.data, self._batches(progress.epoch)[progress.step :])
        steps = self._bar(batches, f"epoch {progress.epoch + 1}/{self.epochs}")
        for inputs, targets in steps:
            progress.loss_sum += self._step(inputs, targets, progress)
            progress.step += 1
            self.keeper.after_step(progress)
        row = {"epoch": progress.epoch + 1, "train_loss": progress.loss_sum / len(self.data)}
        if self.validation is not None:
            metrics = self.measure(self.validation, progress)
            row |= {f"validation_{name}": value for name, value in metrics.items()}
            self._keep_best(metrics, progress, progress.epoch + 1)
        rate = self._rate(progress.epoch * self.steps + progress.step - 1)
        row |= {"lr": rate, "seconds": time.perf_counter() - started}
        progress.history.append(row)
        progress.epoch, progress.step, progress.loss_sum = progress.epoch + 1, 0, 0.0
        self.history.write()
        self._tell(row)

    def _tell(self, row: dict[str, float]) -> None:
        """A line about an epoch, of long runs now and then; on a terminal the bar is drawn anew below it."""
        number, last = int(row["epoch"]), self.epochs
        every = math.ceil(last / LINES)
        if self.quiet or not self.accelerator.is_main_process or (number % every and number != last):
            return
        shown = {"loss": row["train_loss"]}
        for name in (f"validation_{self.metric}", "validation_loss"):
            if name in row:
                shown[name.replace("_", " ", 1)] = row[name]
        numbers = ", ".join(f"{name} {value:.4f}" for name, value in shown.items())
        tell(f"epoch {number}/{last}: {numbers} ({row['seconds']:.1f} s)")

    def _keep_best(self, metrics: dict[str, float], progress: Progress, epoch: int) -> None:
        """Keep the weights if they are the best so far: by the metric that chooses, of equals by the loss."""
        rank = self._rank(metrics)
        if progress.best is None or rank > tuple(progress.best):
            progress.best, progress.best_epoch = list(rank), epoch
            progress.best_state = {name: tensor.clone() for name, tensor in self.task.state_dict().items()}

    def _rank(self, metrics: dict[str, float]) -> tuple[float, float]:
        """What is larger for better weights; a metric that is not defined on the validation split is the worst."""
        value = metrics[self.metric] * (1 if self._is_higher_better() else -1)
        first, second = (-math.inf if math.isnan(number) else number for number in (value, -metrics["loss"]))
        return first, second

    def _step(self, inputs: Any, targets: Any, progress: Progress) -> float:
        """One step on this process's share of a batch; the loss summed over the samples of all processes."""
        step = progress.epoch * self.steps + progress.step
        # What dropout does depends on (seed, step, process) alone, so a resumed run needs no generator's state.
        torch.manual_seed(hash((self.settings.seed, step, self.rank)) & 0x7FFFFFFF)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(step) * group["scale"]
        total = min(self.settings.batch_size, len(self.data) - progress.step * self.settings.batch_size)
        share = len(range(self.rank, total, self.world))
        inputs, targets = to_device(inputs, self.task.device), to_device(targets, self.task.device)
        # Where processes have samples of weight zero, statistics of the batch would count some twice.
        self.task.head.train(total >= self.world)
        with self.settings.autocast(self.task.device):
            output = self.model(inputs)
        loss = self.task.head.loss(widened(output), targets)
        # DDP averages gradients over processes: weighted so, they are those of the mean over the whole batch.
        self.accelerator.backward(loss * (share * self.world / total))
        self.accelerator.unscale_gradients()  # and not its clip_grad_norm_, which takes other ways in a launch for FSDP
        nn.utils.clip_grad_norm_(self.module.parameters(), self.settings.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        summed: Tensor = self.accelerator.reduce(loss.detach() * share, reduction="sum")
        if not torch.isfinite(summed):
            raise DivergedError(
                f"The loss became {summed.item()} in epoch {progress.epoch + 1}, step {progress.step + 1}; "
                f"try a lower learning rate than {self.settings.lr:g}."
            )
        return summed.item()

    def _rate(self, step: int) -> float:
        return self.settings.rate(step, self.steps * self.epochs)

    def _batches(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch, by its number alone; of each, the share of this process.

        A last batch smaller than the number of processes gives the others a sample of weight zero, for DDP waits
        for all.
        """
        rng = np.random.default_rng((self.settings.seed, epoch))
        drawn = rng.permutation(len(self.data)) if self.classes is None else balanced_order(self.classes, rng)
        order, size = drawn.tolist(), self.settings.batch_size
        batches = [order[i : i + size] for i in range(0, len(order), size)]
        return [batch[self.rank :: self.world] or batch[:1] for batch in batches]

    def _loader(self, data: EncodedDataset | FeatureDataset, batches: list[list[int]]) -> DataLoader[Any]:
        return loader(data, batches, self.settings.workers)

    def measure(self, data: EncodedDataset | FeatureDataset, progress: Progress) -> dict[str, float]:
        """Metrics on ``data``, each process taking its share."""
        batches = self.keeper.interruptible(self._bar(self._joined(data), "validation"), progress)
        return measure(self.task, self.module, batches, self.settings).values()

    def _joined(self, data: EncodedDataset | FeatureDataset) -> Iterator[Any]:
        """This process's batches; behind them, where blocks are divided, its part in the passes of one with more."""
        first, own = (shares(len(data), self.settings.batch_size, rank, self.world) for rank in (0, self.rank))
        yield from self._loader(data, own)
        if self.shards:
            for _ in range(len(first) - len(own)):
                self.shards.join()

    def _bar(self, items: Any, what: str) -> Any:
        return bar(items, what) if self.accelerator.is_main_process else items


@torch.no_grad()
def measure(task: "Task", module: nn.Module, batches: Any, settings: "TrainingSettings") -> Measures:
    """The head's metrics, and ``loss``, over batches of (inputs, targets), of all processes together."""
    task.eval()
    measures = Measures(task.head, task.device, shared=processes().num_processes > 1)
    for inputs, targets in batches:
        targets = to_device(targets, task.device)
        with settings.autocast(task.device):
            output = widened(module(to_device(inputs, task.device)))
        measures.add(output, targets, task.head.loss(output, targets))
    return measures


def evaluate(task: "Task", data: EncodedDataset, settings: "TrainingSettings") -> dict[str, float]:
    """The head's metrics, and ``loss``, on ``data``; on cached features where all below the head is frozen.

    A metric that is not defined on ``data`` is nan, and told. Where there are several processes, all of them must take
    part; each takes its share.
    """
    module: nn.Module = task
    items: EncodedDataset | FeatureDataset = data
    if settings.cache and cacheable(task):
        module, items = task.head, frozen_features(task, data, settings, bar)
    state = processes()
    positions = shares(len(items), settings.batch_size, state.process_index, state.num_processes)
    interruptible = bar(positions, "measuring") if state.is_main_process else positions
    measures = measure(task, module, (items.__getitems__(batch) for batch in interruptible), settings)
    values = measures.values()
    if measures.undefined and state.is_main_process:
        samples = "1 sample" if len(items) == 1 else f"{len(items)} samples"
        tell(f"Not defined on the split of {samples}: {measures.undefined}.")
    return values


def _check_metric(task: "Task", name: str) -> None:
    """Refuse a metric that the head does not measure, before anything is trained."""
    known = ["loss", *task.head.metrics()]
    if name not in known:
        raise ValueError(unknown("metric", name, known))


def shares(count: int, batch_size: int, rank: int, world: int) -> list[list[int]]:
    """Positions of one process's share of so many samples, in batches.

    Shares follow on each other, so that what processes gather is in the order of one; the first are the larger ones.
    """
    least, more = divmod(count, world)
    start = rank * least + min(rank, more)
    mine = list(range(start, start + least + (rank < more)))
    return [mine[i : i + batch_size] for i in range(0, len(mine), batch_size)]


def loader(data: Any, batches: list[list[int]], workers: int) -> DataLoader[Any]:
    """What ``data.__getitems__`` gives for each of the batches, read by so many processes."""
    return DataLoader(
        data,
        batch_sampler=batches,
        collate_fn=_as_it_is,
        num_workers=workers,
        generator=torch.Generator(),  # else each loader would draw from the global one
    )


def _as_it_is(batch: Any) -> Any:
    return batch
