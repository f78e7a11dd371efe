"""Settings of a training run."""

import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, Self

from metatx.annotations import annotated_types, check_types
from metatx.registry import unknown
from metatx.values import plain_value

if TYPE_CHECKING:
    import torch

__all__ = ["RunSettings", "TrainingSettings"]

EPOCHS = 3, 100  # least and most epochs where the number of steps decides
FEWEST_STEPS = 16  # steps that an epoch of small data has, if batches do not become smaller than SMALLEST_BATCH
SMALLEST_BATCH = 8


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Settings that the training of a task and the pretraining of a backbone share.

    Args:
        epochs: Number of passes over the training data.
        batch_size: Number of samples in one step, over all processes.
        lr: Peak learning rate of AdamW, which rises linearly during the warm-up and then falls to zero as a cosine.
        weight_decay: Weight decay of matrices; biases, norms and other vectors have none.
        warmup: Share of all steps in which the learning rate rises.
        clip: Largest norm of the gradient; longer gradients are scaled down to it.
        precision: Number format of the computation: fp32, bf16 (autocast), or auto, which is bf16 where the hardware
            supports it (CUDA, AMX), else fp32.
        seed: Seed of initial weights, splits, order, dropout and augmentation.
        workers: Number of processes that encode and augment samples; 0 uses the main process.
        checkpoint_seconds: Seconds between checkpoints. A checkpoint is also written at SIGTERM, SIGINT and the end.
        checkpoint_steps: Number of steps between checkpoints, in addition to checkpoint_seconds; 0 for no limit.
        track: Trackers of experiments that show the history, separated by commas: tensorboard, wandb, mlflow, trackio
            and the others that accelerate knows.
        tensorboard: Write the history as TensorBoard events, as track=tensorboard does.
    """

    epochs: int | None = None
    batch_size: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.05
    clip: float = 1.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: int = 0
    workers: int = 0
    checkpoint_seconds: float = 30.0
    checkpoint_steps: int = 0
    track: str | None = None
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):  # convert numpy's numbers to Python's
            object.__setattr__(self, field.name, plain_value(getattr(self, field.name)))
        check_types(vars(self), annotated_types(type(self)))
        for name in ("epochs", "batch_size"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.checkpoint_steps < 0:
            raise ValueError(f"checkpoint_steps is {self.checkpoint_steps}; it must be at least 0.")

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of step ``step`` (from 0) of ``steps`` in all."""
        rising = max(1, round(self.warmup * steps))
        if step < rising:
            return self.lr * (step + 1) / rising
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))

    def autocast(self, device: "torch.device") -> "torch.autocast":
        """Return the autocast context in which the model runs on ``device``."""
        import torch

        hardware = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        hardware = hardware or (device.type == "cpu" and torch.cpu._is_amx_tile_supported())
        wanted = self.precision == "bf16" or (self.precision == "auto" and hardware)
        return torch.autocast(device.type, torch.bfloat16, enabled=wanted)

    def is_half(self, device: "torch.device") -> bool:
        """Return True if ``autocast`` computes in bfloat16 on ``device``."""
        import torch

        with self.autocast(device):
            return torch.is_autocast_enabled(device.type)


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(RunSettings):
    """Settings of the training of a task.

    Args:
        epochs: Number of passes over the training split; by default, steps decides it, between 3 and 100.
        steps: Number of optimizer steps, if epochs is not given.
        batch_size: Number of samples in one step, over all processes. If epochs is not given, small data are read in
            smaller batches, of at least 8 samples.
        layer_decay: Learning rate of each block relative to the next block, in a backbone tuned in full (ELECTRA, Clark
            et al. 2020).
        token_warmup_steps: Number of steps before training that bring the tokenizer's tokens to the distribution of the
            stem's tokens, without labels (ORCA, Shen et al. 2023). In "metatx compare" a row of its own uses it.
        metric: Validation metric that chooses the epoch whose weights are kept, or loss; by default the head's primary
            metric. Of equal epochs, the one with the lowest validation loss is kept.
        patience: Number of epochs without improvement after which training stops; 0 never stops early.
        sampling: Order of samples in an epoch: plain draws each sample once, balanced draws each class equally often
            (for heads whose targets are class numbers).
        novelty: Measure of how unusual samples are, which is fitted when training is over and told in the answers, as
            the share of the validation split that was less unusual: mahalanobis, the distance of features to those of
            the training split; or energy, of the outputs of a head of classes. By default there is none.
        cache: Keep features of frozen layers, and samples that take long to encode, on disk between runs.
        shard: Divide the weights of the frozen blocks among several processes (PyTorch's FSDP); each process gathers a
            block while it runs.

    Example:
        >>> settings = metatx.TrainingSettings(steps=500, batch_size=64)
        >>> fitted = settings.for_samples(320)
        >>> fitted.epochs, fitted.batch_size
        (25, 16)
    """

    steps: int = 500
    layer_decay: float = 0.75
    token_warmup_steps: int = 0
    metric: str | None = None
    patience: int = 0
    sampling: Literal["plain", "balanced"] = "plain"
    novelty: Literal["mahalanobis", "energy"] | None = None
    cache: bool = True
    shard: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; it must be at least 1.")
        if self.token_warmup_steps < 0:
            raise ValueError(f"token_warmup_steps is {self.token_warmup_steps}; it must be at least 0.")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay is {self.layer_decay}; it must be above 0 and at most 1.")

    @classmethod
    def of(cls, **values: Any) -> "TrainingSettings":
        """Build settings from keyword arguments. Raises ValueError, with the nearest match, for an unknown name."""
        names = [field.name for field in fields(cls)]
        for name in values:
            if name not in names:
                raise ValueError(unknown("training setting", name, names))
        return cls(**values)

    def for_samples(self, count: int) -> Self:
        """Return the settings for a training split of ``count`` samples, with a number of epochs.

        If ``epochs`` is None, it is chosen from 3 to 100 so that training takes ``steps`` steps. The batches of small
        data become smaller, of at least 8 samples, so that an epoch has 16 steps.
        """
        if self.epochs is not None:
            return self
        small = max(SMALLEST_BATCH, 2 ** int(math.log2(max(1, count // FEWEST_STEPS))))
        batch_size = min(self.batch_size, small)
        passes = math.ceil(self.steps / math.ceil(count / batch_size))
        return replace(self, epochs=min(max(passes, EPOCHS[0]), EPOCHS[1]), batch_size=batch_size)
