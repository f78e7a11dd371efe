"""Checkpoints that a killed run goes on from, exactly: safetensors and JSON, written whole."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from metatx.files import folder_written_whole

if TYPE_CHECKING:
    from metatx.settings import TrainingSettings

__all__ = ["Checkpoint", "Progress"]

# What may differ between a run and the one that resumes it, without a change of its numbers.
FREE = ("workers", "checkpoint_seconds", "cache", "tensorboard")


@dataclass
class Progress:
    """How far a run is."""

    epoch: int = 0
    step: int = 0  # of the epoch
    loss_sum: float = 0.0  # over the epoch's samples so far
    best: float | None = None
    best_epoch: int = 0
    alignment: dict[str, float] = field(default_factory=dict)  # of tokens, once it is done
    history: list[dict[str, float]] = field(default_factory=list)
    best_state: dict[str, Tensor] = field(default_factory=dict)


class Checkpoint:
    """The one checkpoint of a run, in ``folder``; None keeps none.

    Weights, the best weights and the optimizer's moments lie in ``tensors.safetensors``, the rest in ``state.json``.
    No generator's state is needed: all randomness of a run depends on seed, epoch and step.

    Args:
        folder: Its place.
        module: All that is trained.
        optimizer: Of it.
        settings: Of the run; a checkpoint of others is refused.
        options: What else a run must share with the one that it resumes.
    """

    def __init__(
        self,
        folder: Path | None,
        module: nn.Module,
        optimizer: Any,
        settings: "TrainingSettings",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder, self.module, self.optimizer = folder, module, optimizer
        self.settings = {name: value for name, value in asdict(settings).items() if name not in FREE}
        self.settings |= options or {}
        self.written = time.perf_counter()

    def save(self, progress: Progress) -> None:
        """Write a new checkpoint, and only then drop the old one."""
        from safetensors.torch import save_file

        self.written = time.perf_counter()
        if self.folder is None:
            return
        tensors = {f"task.{name}": tensor for name, tensor in self.module.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in progress.best_state.items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in moments.items()}
        state = {name: value for name, value in vars(progress).items() if name != "best_state"}
        with folder_written_whole(self.folder) as temporary:
            save_file(
                {name: tensor.contiguous() for name, tensor in tensors.items()}, temporary / "tensors.safetensors"
            )
            (temporary / "state.json").write_text(json.dumps({"settings": self.settings, **state}))

    def load(self) -> Progress:
        """Restore weights and optimizer. A run without a checkpoint starts anew.

        Raises:
            ValueError: If the checkpoint was made with other settings, or is damaged.
        """
        if self.folder is None or not self.folder.exists():
            return Progress()
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            state = json.loads((self.folder / "state.json").read_text())
            tensors = load_file(self.folder / "tensors.safetensors")
        except (OSError, ValueError, SafetensorError) as error:
            raise ValueError(f"{self.folder} is damaged ({error}); remove it to start anew.") from None
        saved = state.pop("settings")
        changed = [
            f"{name} {saved.get(name)} -> {value}" for name, value in self.settings.items() if saved.get(name) != value
        ]
        if changed:
            raise ValueError(f"{self.folder} is of a run with other settings: {', '.join(changed)}.")
        parts: dict[str, dict[str, Tensor]] = {"task": {}, "best": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            part, key = name.split(".", 1)
            parts[part][key] = tensor
        self.module.load_state_dict(parts["task"])
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in parts["optimizer"].items():
            index, moment = name.split(".")
            moments.setdefault(int(index), {})[moment] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        return Progress(**state, best_state=parts["best"])
