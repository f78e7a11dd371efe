"""Checkpoints from which a killed run goes on exactly: one safetensors file each, replaced as a whole."""

import hashlib
import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from torch import Tensor, nn

from metatx.disk.weight_files import tensors_sha256, unshared
from metatx.errors import short
from metatx.files import written_whole
from metatx.progress import tell
from metatx.training.facts import Facts, differences

if TYPE_CHECKING:
    from metatx.settings import RunSettings

__all__ = ["CHECKPOINT", "Checkpoint", "Progress", "check_checkpoint", "decisive"]

CHECKPOINT = "checkpoint.safetensors"  # in the folder of a run
WRITTEN = (CHECKPOINT, "history.csv")  # files that are rewritten during training
SUM = "sha256"  # key in the header of the checksum of all tensors
STATE_SUM = "state_sha256"  # key in the header of the checksum of the state
MOMENTS = {"step", "exp_avg", "exp_avg_sq"}  # AdamW's state of a parameter
# Settings that a resumed run may change, because they do not change its numbers.
RESUMABLE_CHANGES = (
    "workers",
    "checkpoint_seconds",
    "checkpoint_steps",
    "cache",
    "track",
    "tensorboard",
    "shard",
    "novelty",
)


@dataclass
class Progress:
    """Progress of a run.

    Attributes:
        epoch: Number of finished epochs.
        step: Number of finished steps of the current epoch.
        loss_sum: Sum of the loss over the current epoch's samples so far.
        best: Primary metric and loss of the best epoch, signed so that larger is better; None before the first epoch.
        best_epoch: Number of the best epoch, from 1; 0 for the weights before training.
        alignment: Result of the token warm-up; empty before it.
        history: Rows of the history, one an epoch.
        best_state: Weights of the best epoch, by name.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    best: list[float] | None = None
    best_epoch: int = 0
    alignment: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    best_state: dict[str, Tensor] = field(default_factory=dict)


class Checkpoint:
    """Checkpoint of a run, ``checkpoint.safetensors`` in ``folder``.

    It holds the weights, the best weights and the optimizer's moments as tensors, and all else as JSON in the metadata.
    As one file it is replaced in one step: a process that is killed at any moment leaves the old or the new one. It
    needs no state of a random generator, because all randomness of a run depends on seed, epoch and step.

    Args:
        folder: Folder of the checkpoint; None writes none.
        module: Module that is trained.
        optimizer: Optimizer of the module.
        settings: Settings of the run; a checkpoint with other settings is refused.
        facts: Facts that a resumed run must share, see ``metatx.training.facts``; none by default.
        most: Number of steps of an epoch; no bound by default.
    """

    def __init__(
        self,
        folder: Path | None,
        module: nn.Module,
        optimizer: Any,
        settings: "RunSettings",
        facts: Facts | None = None,
        most: float = math.inf,
    ) -> None:
        self.path = None if folder is None else folder / CHECKPOINT
        self.module = module
        self.optimizer = optimizer
        self.settings = decisive(settings)
        self.facts = facts or {}
        self.most = most
        self.seconds = settings.checkpoint_seconds
        self.every = settings.checkpoint_steps
        self.written = time.perf_counter()
        self.steps = 0

    def due(self) -> bool:
        """Return True if it is time to save; to be called once after each step."""
        self.steps += 1
        return time.perf_counter() - self.written > self.seconds or 0 < self.every <= self.steps

    def save(self, progress: Progress) -> None:
        """Write a new checkpoint, and replace the old one when it is complete."""
        from safetensors.torch import save_file

        self.written = time.perf_counter()
        self.steps = 0
        if self.path is None:
            return
        tensors = {f"task.{name}": tensor for name, tensor in self.module.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in progress.best_state.items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in moments.items()}
        state = {name: value for name, value in vars(progress).items() if name != "best_state"}
        text = json.dumps({"settings": self.settings, "facts": self.facts, **state}, default=str)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = unshared(tensors)
        with written_whole(self.path) as temporary:
            save_file(whole, temporary, metadata={"state": text, SUM: tensors_sha256(whole), STATE_SUM: _sha256(text)})
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())  # the content must reach the disk before the replacement does

    def load(self) -> Progress:
        """Restore weights and optimizer, and return the progress; that of a new run where there is no checkpoint.

        Raises:
            ValueError: If the checkpoint belongs to another run, or is damaged.
        """
        if self.path is None or not self.path.exists():
            return Progress()
        check_checkpoint(self.path, self.settings, self.facts)
        state, tensors = _read(self.path)
        try:
            parts = _parted(tensors)
            moments = _moments(parts["optimizer"])
            self._check(state, parts, moments)
        except ValueError as error:
            raise _damaged(self.path, error) from None
        for name in WRITTEN:
            for leftover in self.path.parent.glob(f".{name}.*"):  # of a process that was killed while it wrote
                leftover.unlink(missing_ok=True)
        self.module.load_state_dict(parts["task"])
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        progress = {name: value for name, value in state.items() if name not in ("settings", "facts")}
        return Progress(**progress, best_state=parts["best"])

    def _check(
        self, state: Mapping[str, Any], parts: Mapping[str, dict[str, Tensor]], moments: dict[int, dict[str, Tensor]]
    ) -> None:
        """Compare a checkpoint with module and optimizer, before either is changed. Raises ValueError."""
        for name, least, most in (("epoch", 0, math.inf), ("step", 0, self.most), ("best_epoch", 0, math.inf)):
            if not least <= state[name] <= most:
                raise ValueError(f"{name} is {state[name]}; expected {least} to {most}")
        if len(state["history"]) != state["epoch"]:
            raise ValueError(f"history has {len(state['history'])} rows of {state['epoch']} epochs")
        expected = {name: _form(tensor) for name, tensor in self.module.state_dict().items()}
        for part in ("task", *(["best"] if parts["best"] else [])):
            stored = {name: _form(tensor) for name, tensor in parts[part].items()}
            for name in {**expected, **stored}:
                if stored.get(name) != expected.get(name):
                    raise ValueError(
                        f"changed, or it is of a task with other weights: {part}.{name} is "
                        f"{stored.get(name, 'nothing')}, not {expected.get(name, 'nothing')}"
                    )
        parameters = [each for group in self.optimizer.param_groups for each in group["params"]]
        for index, state_of in moments.items():
            if index >= len(parameters):
                raise ValueError(f"optimizer.{index} is of no parameter; there are {len(parameters)}")
            if state_of.keys() != MOMENTS:
                raise ValueError(
                    f"optimizer.{index} holds {', '.join(state_of)}; expected {', '.join(sorted(MOMENTS))}"
                )
            for name, tensor in state_of.items():
                shape = () if name == "step" else tuple(parameters[index].shape)
                if tuple(tensor.shape) != shape or not tensor.is_floating_point():
                    raise ValueError(f"optimizer.{index}.{name} is {_form(tensor)}; expected {shape}")


def check_checkpoint(path: Path, settings: Mapping[str, Any], facts: Facts) -> None:
    """Refuse to resume a checkpoint of another run. Nothing is changed, on disk or in memory.

    Args:
        path: Path of the checkpoint; one that does not exist is accepted.
        settings: Settings of the run that resumes, as ``decisive`` returns them.
        facts: Facts of the run that resumes.

    Raises:
        ValueError: If the checkpoint was made with other settings, data or parts, which are named; or if it is damaged.
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
        tell(f"{path} was written by an older metatx, which noted no data and no parts; they are assumed to be equal.")
    if changed or other:
        kind = "another run" if other else "a run with other settings"
        raise ValueError(
            f"{path} is of {kind}: {'; '.join(changed + other)}. Resume with the options and data of that run, or "
            "choose another --out."
        )


def decisive(settings: "RunSettings") -> dict[str, Any]:
    """Settings that decide a run's numbers, by name."""
    settled = {name: value for name, value in asdict(settings).items() if name not in RESUMABLE_CHANGES}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settled.items()}


def _read(path: Path, *, weights: bool = True) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            header = file.metadata()
            names = file.keys() if weights else ()
            tensors = {name: file.get_tensor(name) for name in names}
        state = json.loads(header["state"])
        if header.get(STATE_SUM) not in (None, _sha256(header["state"])):  # older checkpoints have no checksum
            raise ValueError("its numbers are others than were written")
        if weights and header.get(SUM) not in (None, tensors_sha256(tensors)):
            raise ValueError("its weights have other bytes than were written")
        _check_types(state)
    except KeyError as error:
        raise _damaged(path, f"it lacks {error}") from None
    except (OSError, ValueError, TypeError, RecursionError, SafetensorError) as error:
        raise _damaged(path, error) from None
    return state, tensors


def _check_types(state: Any) -> None:
    """Refuse a state that does not hold exactly the fields of ``Progress``, settings and facts. Raises ValueError."""
    if not isinstance(state, dict):
        raise ValueError("its state is no object")  # noqa: TRY004 - a value of a file
    hints = {name: kind for name, kind in get_type_hints(Progress).items() if name != "best_state"}
    kinds = {**hints, "settings": dict[str, Any], "facts": dict[str, Any]}
    state = {"facts": {}, **state}  # older ones have none
    for name in {**kinds, **state}:
        if name not in kinds:
            raise ValueError(f"{name:.40} is not known here; perhaps a newer metatx wrote it")
        if name not in state:
            raise ValueError(f"it lacks {name}")
        if not _fits(state[name], kinds[name]):
            raise ValueError(f"{name} is {short(state[name])}")


def _fits(value: Any, kind: Any) -> bool:
    """Return True if a value from JSON fits an annotation."""
    parts = get_args(kind)
    if isinstance(kind, UnionType):
        return any(_fits(value, part) for part in parts)
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_fits(each, parts[0]) for each in value)
    if get_origin(kind) is dict:
        return isinstance(value, dict) and all(_fits(each, parts[1]) for each in value.values())
    return kind is Any or type(value) is kind or (kind is float and type(value) is int)


def _parted(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Tensors by part, and by name within the part. Raises ValueError for an unknown part."""
    parts: dict[str, dict[str, Tensor]] = {"task": {}, "best": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        part, _, key = name.partition(".")
        if part not in parts or not key:
            raise ValueError(f"tensor {name:.60} is not known here")
        parts[part][key] = tensor
    return parts


def _moments(tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """Tensors of the optimizer, by number of the parameter and by name. Raises ValueError for other names."""
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, moment = name.partition(".")
        if not (index.isascii() and index.isdigit() and len(index) < 10 and str(int(index)) == index):
            raise ValueError(f"tensor optimizer.{name:.60} is not known here")
        moments.setdefault(int(index), {})[moment] = tensor
    return moments


def _form(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _damaged(path: Path, why: Any) -> ValueError:
    return ValueError(f"{path} is damaged ({why}); remove it to start anew.")
