"""Checkpoints that a killed run goes on from, exactly: one file of safetensors each, swapped in whole."""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from metatx.facts import Facts, differences
from metatx.files import written_whole
from metatx.progress import tell
from metatx.tensors import apart, tensors_sha256

if TYPE_CHECKING:
    from metatx.settings import TrainingSettings

__all__ = ["CHECKPOINT", "Checkpoint", "Progress", "check_checkpoint", "decisive"]

CHECKPOINT = "checkpoint.safetensors"  # in the folder of a run
WRITTEN = (CHECKPOINT, "history.csv")  # again and again while it trains
SUM = "sha256"  # by this name the checksum of its tensors stands in its header
# What may differ between a run and the one that resumes it, without a change of its numbers.
FREE = ("workers", "checkpoint_seconds", "checkpoint_steps", "cache", "tensorboard", "shard")


@dataclass
class Progress:
    """How far a run is."""

    epoch: int = 0
    step: int = 0  # of the epoch
    loss_sum: float = 0.0  # over the epoch's samples so far
    best: list[float] | None = None  # the metric that chooses and the loss, each the larger the better
    best_epoch: int = 0
    alignment: dict[str, float] = field(default_factory=dict)  # of tokens, once it is done
    history: list[dict[str, float]] = field(default_factory=list)
    best_state: dict[str, Tensor] = field(default_factory=dict)


class Checkpoint:
    """The one checkpoint of a run, ``checkpoint.safetensors`` in ``folder``; None keeps none.

    It holds weights, the best weights and the optimizer's moments, and the rest as JSON in its metadata: one file, so
    that it is replaced in one step, and a process killed at any moment leaves the old one or the new one.
    No generator's state is needed: all randomness of a run depends on seed, epoch and step.

    Args:
        folder: Its place.
        module: All that is trained.
        optimizer: Of it.
        settings: Of the run; a checkpoint of others is refused.
        facts: What else a run must share with the one that it resumes, see ``metatx.facts``.
    """

    def __init__(
        self,
        folder: Path | None,
        module: nn.Module,
        optimizer: Any,
        settings: "TrainingSettings",
        facts: Facts | None = None,
    ) -> None:
        self.path = None if folder is None else folder / CHECKPOINT
        self.module, self.optimizer = module, optimizer
        self.settings = decisive(settings)
        self.facts = facts or {}
        self.seconds, self.every = settings.checkpoint_seconds, settings.checkpoint_steps
        self.written, self.steps = time.perf_counter(), 0

    def due(self) -> bool:
        """Whether a new one is to be written; asked once after each step."""
        self.steps += 1
        return time.perf_counter() - self.written > self.seconds or 0 < self.every <= self.steps

    def save(self, progress: Progress) -> None:
        """Write a new checkpoint beside the old one, and only then put it in its place."""
        from safetensors.torch import save_file

        self.written, self.steps = time.perf_counter(), 0
        if self.path is None:
            return
        tensors = {f"task.{name}": tensor for name, tensor in self.module.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in progress.best_state.items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in moments.items()}
        state = {name: value for name, value in vars(progress).items() if name != "best_state"}
        text = json.dumps({"settings": self.settings, "facts": self.facts, **state}, default=str)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = apart(tensors)
        with written_whole(self.path) as temporary:
            save_file(whole, temporary, metadata={"state": text, SUM: tensors_sha256(whole)})
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())  # the swap must not reach the disk before what it brings

    def load(self) -> Progress:
        """Restore weights and optimizer. A run without a checkpoint starts anew.

        Raises:
            ValueError: If the checkpoint is of another run, or is damaged.
        """
        if self.path is None or not self.path.exists():
            return Progress()
        check_checkpoint(self.path, self.settings, self.facts)
        for name in WRITTEN:
            for left in self.path.parent.glob(f".{name}.*"):  # by a process that was killed while it wrote
                left.unlink(missing_ok=True)
        state, tensors = _read(self.path)
        progress = {name: value for name, value in state.items() if name not in ("settings", "facts")}
        parts: dict[str, dict[str, Tensor]] = {"task": {}, "best": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            part, key = name.split(".", 1)
            parts[part][key] = tensor
        try:
            self.module.load_state_dict(parts["task"])
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"{self.path} is of a task with other weights: {reason}") from None
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in parts["optimizer"].items():
            index, moment = name.split(".")
            moments.setdefault(int(index), {})[moment] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        return Progress(**progress, best_state=parts["best"])


def check_checkpoint(path: Path, settings: Mapping[str, Any], facts: Facts) -> None:
    """Refuse to resume another run; no file is no other run. Nothing is changed, on disk or in memory.

    Args:
        path: The checkpoint's.
        settings: Of the run that resumes, as ``decisive`` gives them.
        facts: Of the same.

    Raises:
        ValueError: If the checkpoint was made with other settings, data or parts, which are named; or is damaged.
    """
    if not path.exists():
        return
    state, _ = _read(path, weights=False)
    changed = [
        f"{name} {state['settings'].get(name)} -> {value}"
        for name, value in settings.items()
        if state["settings"].get(name) != value
    ]
    other = differences(state["facts"], facts) if "facts" in state else []
    if "facts" not in state and not changed:
        tell(f"{path} was written by an older metatx, which noted no data and no parts; they are taken to be the same.")
    if changed or other:
        kind = "another run" if other else "a run with other settings"
        raise ValueError(
            f"{path} is of {kind}: {'; '.join(changed + other)}. Resume with what that run was begun with, or choose "
            "another --out."
        )


def decisive(settings: "TrainingSettings") -> dict[str, Any]:
    """The settings that decide a run's numbers, by name."""
    return {name: value for name, value in asdict(settings).items() if name not in FREE}


def _read(path: Path, *, weights: bool = True) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            state = json.loads(file.metadata()["state"])
            names = file.keys() if weights else ()
            tensors = {name: file.get_tensor(name) for name in names}
            expected = file.metadata().get(SUM)  # which older ones lack
        state["settings"].keys()
        if weights and expected not in (None, tensors_sha256(tensors)):
            raise ValueError("its weights have other bytes than were written")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise ValueError(f"{path} is damaged ({error}); remove it to start anew.") from None
    return state, tensors
