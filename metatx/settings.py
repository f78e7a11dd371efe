"""Settings of a training run."""

import math
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self

import torch

from metatx.registry import unknown
from metatx.values import plain_value

__all__ = ["RunSettings", "TrainingSettings"]

EPOCHS = 3, 100  # least and most, where the number of steps decides
FEWEST_STEPS = 16  # of an epoch of small data
SMALLEST_BATCH = 8


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Settings that the training of a task and the pretraining of a backbone share.

    Args:
        epochs: Passes over the training data.
        batch_size: Samples of one step, over all processes.
        lr: Peak learning rate of AdamW (Loshchilov & Hutter 2019), after a linear warm-up and before a cosine to zero.
        weight_decay: Weight decay of matrices; biases, norms and other vectors have none.
        warmup: Share of all steps in which the learning rate rises.
        clip: Largest norm of the gradient.
        precision: ``"auto"`` is bf16 autocast where the hardware computes in it (CUDA, AMX) and fp32 elsewhere.
        seed: Seed of initial weights, splits, order, dropout and augmentation.
        workers: Number of processes that encode and augment; 0 does it in the main one.
        checkpoint_seconds: Age of the last checkpoint, in seconds, at which the next is written; one is also written at
            SIGTERM and SIGINT, and at the end.
        checkpoint_steps: Steps after which a checkpoint is written in any case; 0 goes by the clock alone.
        tensorboard: True writes TensorBoard events beside ``history.csv``.
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
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):  # numbers of numpy as Python's
            object.__setattr__(self, field.name, plain_value(getattr(self, field.name)))
        for name in ("epochs", "batch_size"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.checkpoint_steps < 0:
            raise ValueError(f"checkpoint_steps is {self.checkpoint_steps}; it must be at least 0.")
        if self.precision not in ("auto", "fp32", "bf16"):
            raise ValueError(f"precision is {self.precision!r}; choose auto, fp32 or bf16.")

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of step ``step`` (from 0) of ``steps`` in all."""
        rising = max(1, round(self.warmup * steps))
        if step < rising:
            return self.lr * (step + 1) / rising
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))

    def autocast(self, device: torch.device) -> torch.autocast:
        """Return the autocast context in which the model runs on ``device``."""
        hardware = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        hardware = hardware or (device.type == "cpu" and torch.cpu._is_amx_tile_supported())
        wanted = self.precision == "bf16" or (self.precision == "auto" and hardware)
        return torch.autocast(device.type, torch.bfloat16, enabled=wanted)


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(RunSettings):
    """Settings of the training of a task.

    Args:
        epochs: Passes over the training split; by default as many as take ``steps``, from 3 to 100.
        steps: Steps of the optimizer where the number of epochs is not given.
        batch_size: Samples of one step, over all processes. Where the number of epochs is not given, small data are
            read in smaller batches, of at least 8.
        layer_decay: Learning rate of a block as a share of the next block's, in a backbone tuned in full (Clark et al.
            2020).
        token_warmup_steps: Steps before the training in which what makes tokens learns, alone and without labels, to
            distribute them like those of the backbone's stem (ORCA, Shen et al. 2023); 0: none. ``metatx compare``
            gives it a row of its own and changes no other.
        metric: Validation metric that chooses the epoch to keep, or ``"loss"``; by default the head's primary one. Of
            epochs that are equal in it, the one of the lowest validation loss is kept.
        patience: Epochs without a better one until training stops; 0 never stops early.
        sampling: ``"balanced"`` draws each class equally often in an epoch of as many samples, rare ones again and
            again; for heads whose targets are class numbers.
        cache: True keeps features of a wholly frozen path, and samples that take long to encode, on disk.
        shard: True divides the frozen blocks' weights among several processes while they train; each gathers a block
            while it runs (PyTorch's FSDP). A launch that is configured for FSDP asks for it too.

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
        if self.sampling not in ("plain", "balanced"):
            raise ValueError(f"sampling is {self.sampling!r}; choose plain or balanced.")

    @classmethod
    def of(cls, **values: Any) -> "TrainingSettings":
        """Settings by name. Raises ValueError, with the near match, for a name that is none of them."""
        names = [field.name for field in fields(cls)]
        for name in values:
            if name not in names:
                raise ValueError(unknown("training setting", name, names))
        return cls(**values)

    def for_samples(self, count: int) -> Self:
        """The settings for a training split of ``count`` samples: with a number of epochs.

        Where ``epochs`` is None, small data are read in small batches (of at least 8 samples, so that an epoch has 16
        steps if it can) and often (at most 100 times), large data at least 3 times.
        """
        if self.epochs is not None:
            return self
        small = max(SMALLEST_BATCH, 2 ** int(math.log2(max(1, count // FEWEST_STEPS))))
        batch_size = min(self.batch_size, small)
        passes = math.ceil(self.steps / math.ceil(count / batch_size))
        return replace(self, epochs=min(max(passes, EPOCHS[0]), EPOCHS[1]), batch_size=batch_size)
