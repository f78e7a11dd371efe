"""Contrastive pretraining: modalities through one backbone, which is trained with them or stays frozen."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from metatx.encoding.collate import to_device
from metatx.pretraining.alignment import Alignment
from metatx.pretraining.batch import Batch
from metatx.pretraining.contrastive import matches, over_graph
from metatx.pretraining.distillation import Distillation, is_image
from metatx.pretraining.mixture import TaskMixture
from metatx.pretraining.negatives import Compared
from metatx.pretraining.objective_sum import ObjectiveSum
from metatx.pretraining.pair_sets import NoPairs, PairSets
from metatx.pretraining.paired_data import PairedDataset, drop_tokens
from metatx.pretraining.settings import PretrainingSettings
from metatx.pretraining.towers import FEATURES, Tower
from metatx.pretraining.transport import pass_with_transport_cost
from metatx.progress import bar
from metatx.seeding import seeded
from metatx.sequence import TokenSequence, concatenate, divide
from metatx.training.batches import loader
from metatx.training.checkpoint import Checkpoint, Progress
from metatx.training.distributed import processes
from metatx.training.facts import data_fact
from metatx.training.history import History
from metatx.training.interrupts import CheckpointSchedule

__all__ = ["PretrainingSettings", "pretrain"]

BETAS = (0.9, 0.98)  # AdamW's, as for CLIP


def pretrain(
    alignment: Alignment,
    pairs: PairedDataset | Sequence[PairedDataset] | NoPairs,
    settings: PretrainingSettings,
    *,
    distillation: Distillation | None = None,
    tasks: TaskMixture | None = None,
    measure: Callable[[Alignment], dict[str, float]] | None = None,
    out: Path | None = None,
    resume: bool = False,
) -> list[dict[str, float]]:
    """Train the towers of an alignment on pairs, and its backbone too where that is a ``trainable_copy``.

    Args:
        alignment: Alignment to train, in place. Parameters that take no gradient stay as they are.
        pairs: Pairs of the training split; or several sets of pairs, each step of one of them, in turn; or ``NoPairs``.
        settings: Settings of the run.
        distillation: Teacher whose loss is added; by default none.
        tasks: Labelled tasks, a few of which join each step; by default none. Where there are no pairs (``NoPairs``),
            a step is of tasks alone.
        measure: Function that is called after each epoch; its numbers stand in the row of the epoch.
        out: Folder for ``history.csv`` and the checkpoint; by default nothing is written.
        resume: True goes on from the checkpoint in ``out``.

    Returns:
        One row an epoch: training loss, the numbers of ``measure``, scale of the logits, learning rate, seconds.

    Raises:
        Stopped: If SIGTERM or SIGINT came; the checkpoint in ``out`` is up to date then.
        ValueError: If there are fewer pairs than a batch needs, the loss is not finite, a teacher has no images to see,
            or the checkpoint in ``out`` is that of other settings.

    Example:
        >>> alignment = metatx.Alignment.from_pretrained("nano").anchor("image")  # doctest: +SKIP
        >>> sets = [  # doctest: +SKIP
        ...     PairedDataset(alignment, {"image": pictures, "text": captions}),
        ...     PairedDataset(alignment, {"image": filmed, "audio": sounds}),
        ... ]
        >>> history = pretrain(alignment, sets, PretrainingSettings(epochs=5))  # doctest: +SKIP
    """
    return Pretraining(alignment, pairs, settings, distillation, measure, out, tasks).run(resume)


class Pretraining:
    """One run of pretraining. Every process holds the whole model, gets its share of each batch, sums the gradients."""

    def __init__(
        self,
        alignment: Alignment,
        pairs: PairedDataset | Sequence[PairedDataset] | NoPairs,
        settings: PretrainingSettings,
        distillation: Distillation | None,
        measure: Callable[[Alignment], dict[str, float]] | None,
        out: Path | None,
        tasks: TaskMixture | None = None,
    ) -> None:
        self.accelerator = Accelerator(cpu=processes().device.type == "cpu")
        self.rank = self.accelerator.process_index
        self.world = self.accelerator.num_processes
        self.alignment = alignment
        if isinstance(pairs, NoPairs):
            self.sets: PairSets = pairs
        else:
            several = [pairs] if isinstance(pairs, PairedDataset) else pairs
            self.sets = PairSets(several, settings.batch_size, settings.pair_weights)
        self.settings = settings
        self.distillation = distillation
        self.tasks = tasks
        self.measure = measure
        self.out = out
        if tasks is None and not self.sets.sets:
            raise ValueError("There are neither pairs nor tasks to train on; give either.")
        if tasks is not None and 0 < settings.micro_batch < settings.batch_size // self.world:
            raise ValueError(
                f"micro_batch is {settings.micro_batch}; tasks join whole batches only. Set it to 0, or batch_size to "
                "less."
            )
        first = self.sets.sets[:1]
        self.images = [name for pairs in first for name in pairs.sides if is_image(pairs.encoded(name, 0))][:1]
        if distillation and not self.images:
            given = " and ".join(self.sets.modalities) or "there"
            raise ValueError(f"A teacher needs images of three channels; {given} are none.")
        if distillation and len(self.sets.sets) > 1:
            raise ValueError(f"A teacher goes with one set of pairs; there are {len(self.sets.sets)}.")
        if settings.transport_weight and alignment.backbone.frozen:
            raise ValueError(
                "transport_weight changes the backbone, which is frozen here; set it to 0, or train the backbone."
            )
        self.steps = sum(self.sets.steps)  # of an epoch
        if settings.batch_size % self.world:
            raise ValueError(f"{self.world} processes cannot share a batch of {settings.batch_size} evenly.")
        modules: dict[str, nn.Module] = {"alignment": alignment}
        modules |= {} if alignment.backbone.frozen else {"backbone": alignment.backbone}
        modules |= {"distillation": distillation} if distillation else {}
        modules |= {"tasks": tasks} if tasks else {}
        self.module = nn.ModuleDict(modules).to(self.accelerator.device)
        alignment.backbone.to(self.accelerator.device)
        weights = {"contrastive": 1.0} if settings.objectives is None else settings.objectives
        shown = [to_device(pairs.batch([0])[0], self.accelerator.device) for pairs in self.sets.sets]
        self.objectives = ObjectiveSum(alignment, shown, weights, settings.objective_options or {}, settings.seed)
        self.module["objectives"] = self.objectives
        # Weight decay would change the towers of modalities that these pairs do not show.
        absent = [tower for modality, tower in alignment.towers.items() if modality not in self.sets.modalities]
        kept = {id(parameter) for tower in absent for parameter in tower.parameters()}
        trained = [each for each in self.module.parameters() if each.requires_grad and id(each) not in kept]
        decay = [parameter for parameter in trained if parameter.ndim > 1]
        plain = [parameter for parameter in trained if parameter.ndim < 2]
        groups = [{"params": decay, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=settings.lr, betas=BETAS)
        self.trained = [*decay, *plain]
        folder = out if self.accelerator.is_main_process else None
        facts = {
            f"the {modality} samples{f' of set {number + 1}' if number else ''}": data_fact(side)
            for number, shown in enumerate(self.sets.sets)
            for modality, side in shown.sides.items()
        }
        facts |= self.objectives.facts() | (tasks.facts() if tasks else {})
        self.schedule = CheckpointSchedule(
            self.accelerator, Checkpoint(out, self.module, self.optimizer, settings, facts, self.steps)
        )
        self.history = History(folder, settings)

    @property
    def pairs(self) -> PairedDataset:
        """First set of pairs."""
        return self.sets.sets[0]

    def run(self, resume: bool) -> list[dict[str, float]]:
        progress = self.schedule.load() if resume else Progress()
        self.history.rows = progress.history
        self._cache_targets()
        with self.schedule, torch.random.fork_rng(devices=[]):
            while progress.epoch < self.settings.epochs:
                self._epoch(progress)
            self.schedule.finish(progress)
            self.history.finish()
        if self.distillation and self.distillation.kept:
            self.distillation.kept.remove()
        self.module.eval()
        return progress.history

    def _cache_targets(self) -> None:
        """Run the teacher over all images, before the first step."""
        if self.distillation is None:
            return
        (modality,) = self.images
        path = None
        if self.out:
            digest = hashlib.sha256(self.distillation.teacher.fingerprint.encode() + self.pairs.keys.numpy().tobytes())
            path = self.out / "teacher" / digest.hexdigest()[:16]
        with self.settings.autocast(self.accelerator.device):
            self.distillation.cache_targets(
                lambda position: self.pairs.encoded(modality, position)["image"],
                len(self.pairs),
                path,
                (self.rank, self.world),
            )
        self.accelerator.wait_for_everyone()

    def _epoch(self, progress: Progress) -> None:
        started = time.perf_counter()
        self.module.train()
        settings = self.settings
        whole = progress.epoch >= settings.epochs - settings.whole_epochs
        self.sets.start(settings.seed, progress.epoch)
        batches = [batch[self.rank :: self.world] for batch in self.sets.batches(settings.seed, progress.epoch)]
        steps = loader(self.sets, batches[progress.step :], settings.workers)
        name = f"epoch {progress.epoch + 1}/{settings.epochs}"
        for loaded in bar(steps, name) if self.accelerator.is_main_process else steps:
            sides, keys, positions = to_device(list(loaded), self.accelerator.device)
            number = progress.epoch * self.steps + progress.step
            edges = self.sets.edges(batches[progress.step])
            batch = Batch(sides, keys, positions, number, 0.0 if whole else settings.patch_dropout, edges)
            loss = self._step(batch)
            if not math.isfinite(loss):
                raise ValueError(
                    f"The loss became {loss} in epoch {progress.epoch + 1}, step {progress.step + 1}; "
                    f"try a lower learning rate than {settings.lr:g}."
                )
            progress.loss_sum += loss
            progress.step += 1
            self.schedule.after_step(progress)
        row = {"epoch": progress.epoch + 1, "train_loss": progress.loss_sum / self.steps}
        if self.measure is not None:
            self.module.eval()
            row |= self.measure(self.alignment)
        rate = settings.rate(progress.epoch * self.steps + progress.step - 1, self.steps * settings.epochs)
        row |= {"scale": self.alignment.contrast.logit_scale.exp().item(), "lr": rate}
        progress.history.append(row | {"seconds": time.perf_counter() - started})
        progress.epoch += 1
        progress.step = 0
        progress.loss_sum = 0.0
        self.history.write()

    def _step(self, batch: Batch) -> float:
        """Take one step of the optimizer; return the loss over all processes."""
        settings = self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = settings.rate(batch.number, self.steps * settings.epochs)
        parts = batch.split(settings.micro_batch or len(batch.positions))
        groups = [parts] if settings.negatives == "batch" else [[part] for part in parts]
        if self.tasks:
            self.tasks.forget(batch.number, self.optimizer)
        if batch.sides:
            loss = math.fsum(self._contrast(group, len(batch.positions)) for group in groups)
        else:
            loss = self._of_tasks(batch)
        self._sum_gradients()
        torch.nn.utils.clip_grad_norm_(self.trained, settings.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.alignment.contrast.clamp()
        return loss

    def _contrast(self, parts: list[Batch], size: int) -> float:
        """Add the gradients of the loss of some pairs, the only negatives of each other; return the loss.

        First the gradient of the loss with respect to the vectors of all processes is computed; then each process takes
        the part of its own vectors back through the model. So no graph crosses processes, and none holds more than one
        micro-batch; where there are several, each passes through the model twice.

        Args:
            parts: Micro-batches whose pairs are compared.
            size: Pairs of this process in the whole step.
        """
        once = len(parts) == 1
        passes = [self._pass(part, graph=once) for part in parts]
        local = [torch.cat(side) for side in zip(*(vectors for vectors, _ in passes), strict=True)]
        leaves = [self.accelerator.gather(side.detach()).requires_grad_() for side in local]
        keys = self.accelerator.gather(torch.cat([part.keys for part in parts], 1).T.contiguous()).T
        compare = partial(self.objectives.compare, self.alignment)
        loss = over_graph(compare, leaves, keys, parts[0].edges) * len(local[0]) / size
        weights = [*self.alignment.contrast.parameters(), *self.objectives.comparing.parameters()]
        learned = [parameter for parameter in weights if parameter.requires_grad]
        gradients = torch.autograd.grad(loss, [*leaves, *learned])
        for parameter, gradient in zip(learned, gradients[len(leaves) :], strict=True):
            # Every process computes the same gradient here, and they are summed later: each adds its share.
            torch.autograd.backward(parameter, gradient / self.world)
        total: float = loss.item()
        compared = self._compared(parts, leaves, matches(keys)) if self.objectives.others else None
        at = self.rank * len(local[0])
        for part, first in zip(parts, passes, strict=True):
            vectors, extra = first if once else self._pass(part, graph=True)
            if compared is not None:
                extra = extra + self._others(part, compared)
            rows = slice(at, at := at + len(part.positions))
            share = len(part.positions) / (size * self.world)
            into = [gradient[rows] for gradient in gradients[: len(leaves)]]
            ways = zip([*vectors, share * extra], [*into, None], strict=True)
            tensors, arriving = zip(*(way for way in ways if way[0].requires_grad), strict=True)
            torch.autograd.backward(tensors, arriving)
            total += self.accelerator.reduce(share * extra.detach(), reduction="sum").item()
        return total

    def _of_tasks(self, batch: Batch) -> float:
        """Add the gradients of the tasks of a step without pairs; return their loss over all processes."""
        _, loss = self._pass(batch, graph=True)
        share = loss / self.world
        share.backward()
        total: float = self.accelerator.reduce(share.detach(), reduction="sum").item()
        return total

    def _compared(self, parts: list[Batch], vectors: list[Tensor], same: Tensor) -> Compared:
        """Return the pairs that are compared, of all processes, for objectives that read more than vectors."""
        left, right = (side.detach() for side in vectors)
        logits = self.alignment.contrast.logit_scale.exp() * left @ right.T
        positions = self.accelerator.gather(torch.cat([part.positions for part in parts]))
        return Compared.of(parts, positions, logits, same, samples=self.objectives.reads_negatives)

    def _others(self, batch: Batch, compared: Compared) -> Tensor:
        """Return the loss of the objectives of tokens for a micro-batch, a scalar."""
        drawn = seeded(self.settings.seed, batch.number, int(batch.positions[0]), 1)
        with drawn, self.settings.autocast(batch.positions.device):
            loss: Tensor = self.objectives(self.alignment, batch, compared)
        return loss

    def _pass(self, batch: Batch, graph: bool) -> tuple[list[Tensor], Tensor]:
        """Return unit vectors (b, E) of both sides, and the other losses (teacher, transport), 0 without ``graph``."""
        # Dropout depends on this seed alone, so it is the same in both passes and in a run that was resumed.
        start = int(batch.positions[0])
        with seeded(self.settings.seed, batch.number, start):
            return self._passed(batch, graph)

    def _passed(self, batch: Batch, graph: bool) -> tuple[list[Tensor], Tensor]:
        device = batch.positions.device
        extra = torch.zeros((), device=device, requires_grad=graph)
        leaving: dict[str, TokenSequence] = {}
        with torch.set_grad_enabled(graph), self.settings.autocast(device):
            entering = {
                modality: drop_tokens(self.alignment.tower(modality).tokens(side), batch.dropout)
                for modality, side in batch.sides.items()
                if FEATURES not in side
            }
            joined = self.tasks.enter(batch.number, self.rank, device) if self.tasks and graph else []
            sequences = [*(sequence for sequence, _ in entering.values()), *(sequence for _, sequence, _ in joined)]
            if sequences:
                left, transport_cost = self._through_backbone(concatenate(sequences), graph)
                extra = extra if transport_cost is None else extra + self.settings.transport_weight * transport_cost
                parts = divide(left, sequences)
                leaving = dict(zip(entering, parts[: len(entering)], strict=True))
                if self.tasks and joined:
                    extra = extra + self.tasks.loss(joined, parts[len(entering) :], self.accelerator)
            vectors = []
            for modality, side in batch.sides.items():
                tower = self.alignment.aligned(modality)
                features = side.get(FEATURES)
                if isinstance(tower, Tower) and features is None:
                    features = tower.pool(leaving[modality])
                vectors.append(tower.project(self._dropped(features) if tower.maps else features))
            if self.distillation and graph:
                (images,) = self.images
                distance = self._distance(leaving[images], entering[images][1], batch)
                extra = extra + self.settings.distillation * distance
        return vectors, extra

    def _through_backbone(self, entered: TokenSequence, graph: bool) -> tuple[TokenSequence, Tensor | None]:
        """Tokens that leave the backbone, and the transport cost of its blocks where that is trained."""
        if self.settings.transport_weight and graph:
            return pass_with_transport_cost(self.alignment.backbone, entered)
        return self.alignment.backbone(entered), None

    def _dropped(self, features: Tensor) -> Tensor:
        """Features with a random part of their numbers set to 0."""
        share = self.settings.feature_dropout
        return F.dropout(features, share) if share else features

    def _distance(self, images: TokenSequence, chosen: Tensor | None, batch: Batch) -> Tensor:
        """Return the teacher's loss for the images of a batch, a scalar."""
        assert self.distillation is not None
        views = batch.sides[self.images[0]].get("view")
        if views is None and self.pairs.sides[self.images[0]].augmented:
            raise ValueError(
                "A teacher must know which part of an image an augmentation shows, and this one does not say; "
                "choose a weaker one."
            )
        distance: Tensor = self.distillation(images, views, chosen, batch.positions)
        return distance

    def _sum_gradients(self) -> None:
        """Sum the gradients over all processes, as one vector."""
        for parameter in self.trained:
            if parameter.grad is None:  # it took no part in this step, in this process
                parameter.grad = torch.zeros_like(parameter)
        if self.world == 1:
            return
        flat = torch.cat([gradient.flatten() for gradient in self._gradients()])
        flat = self.accelerator.reduce(flat, reduction="sum")
        for gradient, summed in zip(self._gradients(), flat.split([p.numel() for p in self.trained]), strict=True):
            gradient.copy_(summed.view_as(gradient))

    def _gradients(self) -> Iterator[Tensor]:
        for parameter in self.trained:
            assert parameter.grad is not None
            yield parameter.grad
