"""Contrastive pretraining: two modalities through one backbone, which is trained with them or stays frozen."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from metatx.encoding.collate import to_device
from metatx.pretraining.alignment import Alignment
from metatx.pretraining.batch import Batch
from metatx.pretraining.contrastive import matches
from metatx.pretraining.distillation import Distillation, is_image
from metatx.pretraining.negatives import Compared
from metatx.pretraining.objective_sum import ObjectiveSum
from metatx.pretraining.paired_data import PairedDataset, drop_tokens
from metatx.pretraining.transport import pass_with_transport_cost
from metatx.progress import bar
from metatx.seeding import seeded
from metatx.sequence import TokenSequence, concatenate, divide
from metatx.settings import RunSettings
from metatx.training.batches import loader
from metatx.training.checkpoint import Checkpoint, Progress
from metatx.training.distributed import processes
from metatx.training.facts import data_fact
from metatx.training.history import History
from metatx.training.interrupts import CheckpointSchedule

__all__ = ["PretrainingSettings", "pretrain"]

BETAS = (0.9, 0.98)  # AdamW's, as for CLIP


@dataclass(frozen=True, kw_only=True)
class PretrainingSettings(RunSettings):
    """Settings of contrastive pretraining. The last, incomplete batch of an epoch is left out.

    Args:
        epochs: Passes over the pairs.
        batch_size: Pairs of one step, over all processes.
        micro_batch: Pairs that pass through the model at once, in each process; 0: its whole share of a batch.
        negatives: Negatives of a pair where a batch is cut into micro-batches. ``"batch"``: all other pairs of the
            batch, at the cost of a second pass through the model for the gradients (GradCache, Gao et al. 2021, arXiv
            2101.06983); ``"micro_batch"``: only those that pass together with it (plain accumulation).
        patch_dropout: Share of an image's patches that are left out (FLIP, Li et al. 2023, arXiv 2212.00794).
        whole_epochs: Number of final epochs without patch dropout.
        distillation: Weight of the teacher's loss, where there is a teacher.
        transport_weight: Weight of the transport cost of the blocks, see ``pass_with_transport_cost``; 0: none.
        objectives: Weight of each objective, by name: ``{"contrastive": 1, "matching": 0.5}``, see "metatx list
            objectives"; None: contrastive alone.
        objective_options: Options of objectives, by name.
    """

    epochs: int = 20
    micro_batch: int = 0
    negatives: Literal["batch", "micro_batch"] = "batch"
    patch_dropout: float = 0.0
    whole_epochs: int = 0
    distillation: float = 5.0
    transport_weight: float = 0.0
    objectives: dict[str, float] | None = None
    objective_options: dict[str, dict[str, Any]] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("micro_batch", "whole_epochs"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0.")
        if not 0 <= self.patch_dropout < 1:
            raise ValueError(f"patch_dropout is {self.patch_dropout:g}; it must be a share below 1.")


def pretrain(
    alignment: Alignment,
    pairs: PairedDataset,
    settings: PretrainingSettings,
    *,
    distillation: Distillation | None = None,
    measure: Callable[[Alignment], dict[str, float]] | None = None,
    out: Path | None = None,
    resume: bool = False,
) -> list[dict[str, float]]:
    """Train the towers of an alignment on pairs, and its backbone too where that is a ``trainable_copy``.

    Args:
        alignment: Alignment to train, in place. Parameters that take no gradient stay as they are.
        pairs: Pairs of the training split.
        settings: Settings of the run.
        distillation: Teacher whose loss is added; by default none.
        measure: Function that is called after each epoch; its numbers stand in the row of the epoch.
        out: Folder for ``history.csv`` and the checkpoint; by default nothing is written.
        resume: True goes on from the checkpoint in ``out``.

    Returns:
        One row an epoch: training loss, the numbers of ``measure``, scale of the logits, learning rate, seconds.

    Raises:
        Stopped: If SIGTERM or SIGINT came; the checkpoint in ``out`` is up to date then.
        ValueError: If there are fewer pairs than a batch needs, the loss is not finite, a teacher has no images to see,
            or the checkpoint in ``out`` is that of other settings.
    """
    return Pretraining(alignment, pairs, settings, distillation, measure, out).run(resume)


class Pretraining:
    """One run of pretraining. Every process holds the whole model, gets its share of each batch, sums the gradients."""

    def __init__(
        self,
        alignment: Alignment,
        pairs: PairedDataset,
        settings: PretrainingSettings,
        distillation: Distillation | None,
        measure: Callable[[Alignment], dict[str, float]] | None,
        out: Path | None,
    ) -> None:
        self.accelerator = Accelerator(cpu=processes().device.type == "cpu")
        self.rank = self.accelerator.process_index
        self.world = self.accelerator.num_processes
        self.alignment = alignment
        self.pairs = pairs
        self.settings = settings
        self.distillation = distillation
        self.measure = measure
        self.out = out
        self.images = [modality for modality in pairs.sides if is_image(pairs.encoded(modality, 0))][:1]
        if distillation and not self.images:
            raise ValueError(f"A teacher needs images of three channels; {' and '.join(pairs.sides)} are none.")
        if settings.transport_weight and alignment.backbone.frozen:
            raise ValueError(
                "transport_weight changes the backbone, which is frozen here; set it to 0, or train the backbone."
            )
        self.steps = len(pairs) // settings.batch_size  # of an epoch
        if not self.steps:
            raise ValueError(f"A batch of {settings.batch_size} needs as many pairs; there are {len(pairs)}.")
        if settings.batch_size % self.world:
            raise ValueError(f"{self.world} processes cannot share a batch of {settings.batch_size} evenly.")
        modules: dict[str, nn.Module] = {"alignment": alignment}
        modules |= {} if alignment.backbone.frozen else {"backbone": alignment.backbone}
        modules |= {"distillation": distillation} if distillation else {}
        self.module = nn.ModuleDict(modules).to(self.accelerator.device)
        alignment.backbone.to(self.accelerator.device)
        weights = {"contrastive": 1.0} if settings.objectives is None else settings.objectives
        shown = [to_device(pairs.batch([0])[0], self.accelerator.device)]
        self.objectives = ObjectiveSum(alignment, shown, weights, settings.objective_options or {}, settings.seed)
        self.module["objectives"] = self.objectives
        trained = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        decay = [parameter for parameter in trained if parameter.ndim > 1]
        plain = [parameter for parameter in trained if parameter.ndim < 2]
        groups = [{"params": decay, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=settings.lr, betas=BETAS)
        self.trained = [*decay, *plain]
        folder = out if self.accelerator.is_main_process else None
        facts = {f"the {modality} samples": data_fact(side) for modality, side in pairs.sides.items()}
        facts |= self.objectives.facts()
        self.schedule = CheckpointSchedule(
            self.accelerator, Checkpoint(out, self.module, self.optimizer, settings, facts, self.steps)
        )
        self.history = History(folder, settings.tensorboard)

    def run(self, resume: bool) -> list[dict[str, float]]:
        progress = self.schedule.load() if resume else Progress()
        self.history.rows = progress.history
        self._cache_targets()
        with self.schedule, torch.random.fork_rng(devices=[]):
            while progress.epoch < self.settings.epochs:
                self._epoch(progress)
            self.schedule.finish(progress)
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
        self.pairs.start(settings.seed, progress.epoch)
        rng = np.random.default_rng((settings.seed, progress.epoch))
        order = rng.permutation(len(self.pairs)).tolist()
        size = settings.batch_size
        batches = [order[step * size : (step + 1) * size][self.rank :: self.world] for step in range(self.steps)]
        steps = loader(self.pairs, batches[progress.step :], settings.workers)
        name = f"epoch {progress.epoch + 1}/{settings.epochs}"
        for loaded in bar(steps, name) if self.accelerator.is_main_process else steps:
            sides, keys, positions = to_device(list(loaded), self.accelerator.device)
            number = progress.epoch * self.steps + progress.step
            batch = Batch(sides, keys, positions, number, 0.0 if whole else settings.patch_dropout)
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
        loss = math.fsum(self._contrast(group, len(batch.positions)) for group in groups)
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
        same = matches(keys)
        loss = self.objectives.compare(self.alignment, leaves[0], leaves[1], same) * len(local[0]) / size
        weights = [*self.alignment.contrast.parameters(), *self.objectives.comparing.parameters()]
        learned = [parameter for parameter in weights if parameter.requires_grad]
        left, right, *others = torch.autograd.grad(loss, [*leaves, *learned])
        for parameter, gradient in zip(learned, others, strict=True):
            # Every process computes the same gradient here, and they are summed later: each adds its share.
            torch.autograd.backward(parameter, gradient / self.world)
        total: float = loss.item()
        compared = self._compared(parts, leaves, same) if self.objectives.others else None
        at = self.rank * len(local[0])
        for part, first in zip(parts, passes, strict=True):
            vectors, extra = first if once else self._pass(part, graph=True)
            if compared is not None:
                extra = extra + self._others(part, compared)
            rows = slice(at, at := at + len(part.positions))
            share = len(part.positions) / (size * self.world)
            ways = zip([*vectors, share * extra], [left[rows], right[rows], None], strict=True)
            tensors, gradients = zip(*(way for way in ways if way[0].requires_grad), strict=True)
            torch.autograd.backward(tensors, gradients)
            total += self.accelerator.reduce(share * extra.detach(), reduction="sum").item()
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
        towers = [self.alignment.tower(modality) for modality in batch.sides]
        device = batch.positions.device
        extra = torch.zeros((), device=device, requires_grad=graph)
        with torch.set_grad_enabled(graph), self.settings.autocast(device):
            entering = [
                drop_tokens(tower.tokens(side), batch.dropout)
                for tower, side in zip(towers, batch.sides.values(), strict=True)
            ]
            sequences = [sequence for sequence, _ in entering]
            entered = concatenate(sequences)
            if self.settings.transport_weight and graph:
                left, transport_cost = pass_with_transport_cost(self.alignment.backbone, entered)
                extra = extra + self.settings.transport_weight * transport_cost
            else:
                left = self.alignment.backbone(entered)
            leaving = divide(left, sequences)
            vectors = [tower.vectors(sequence) for tower, sequence in zip(towers, leaving, strict=True)]
            if self.distillation and graph:
                at = list(batch.sides).index(self.images[0])
                distance = self._distance(leaving[at], entering[at][1], batch)
                extra = extra + self.settings.distillation * distance
        return vectors, extra

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
