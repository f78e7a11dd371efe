"""Checkpoints that a killed run goes on from, exactly: one file of safetensors each, swapped in whole."""

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
WRITTEN = (CHECKPOINT, "history.csv")  # again and again while it trains
SUM, STATE_SUM = "sha256", "state_sha256"  # names in its header of the checksums of its tensors and of the rest
MOMENTS = {"step", "exp_avg", "exp_avg_sq"}  # of a parameter, as AdamW keeps them
# What may differ between a run and the one that resumes it, without a change of its numbers.
RESUMABLE_CHANGES = ("workers", "checkpoint_seconds", "checkpoint_steps", "cache", "tensorboard", "shard")


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
        facts: What else a run must share with the one that it resumes, see ``metatx.training.facts``.
        most: Steps of an epoch.
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
        self.module, self.optimizer = module, optimizer
        self.settings = decisive(settings)
        self.facts, self.most = facts or {}, most
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
        whole = unshared(tensors)
        with written_whole(self.path) as temporary:
            save_file(whole, temporary, metadata={"state": text, SUM: tensors_sha256(whole), STATE_SUM: _sha256(text)})
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
        state, tensors = _read(self.path)
        try:
            parts = _parted(tensors)
            moments = _moments(parts["optimizer"])
            self._check(state, parts, moments)
        except ValueError as error:
            raise _damaged(self.path, error) from None
        for name in WRITTEN:
            for left in self.path.parent.glob(f".{name}.*"):  # by a process that was killed while it wrote
                left.unlink(missing_ok=True)
        self.module.load_state_dict(parts["task"])
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        progress = {name: value for name, value in state.items() if name not in ("settings", "facts")}
        return Progress(**progress, best_state=parts["best"])

    def _check(
        self, state: Mapping[str, Any], parts: Mapping[str, dict[str, Tensor]], moments: dict[int, dict[str, Tensor]]
    ) -> None:
        """Compare what was read with module and optimizer, before either is changed. Raises ValueError."""
        for name, least, most in (("epoch", 0, math.inf), ("step", 0, self.most), ("best_epoch", 0, math.inf)):
            if not least <= state[name] <= most:
                raise ValueError(f"{name} is {state[name]}; expected {least} to {most}")
        if len(state["history"]) != state["epoch"]:
            raise ValueError(f"history has {len(state['history'])} rows of {state['epoch']} epochs")
        wanted = {name: _form(tensor) for name, tensor in self.module.state_dict().items()}
        for part in ("task", *(["best"] if parts["best"] else [])):
            found = {name: _form(tensor) for name, tensor in parts[part].items()}
            for name in {**wanted, **found}:
                if found.get(name) != wanted.get(name):
                    there, expected = (forms.get(name, "nothing") for forms in (found, wanted))
                    raise ValueError(
                        f"changed, or it is of a task with other weights: {part}.{name} is {there}, not {expected}"
                    )
        parameters = [each for group in self.optimizer.param_groups for each in group["params"]]
        for index, held in moments.items():
            if index >= len(parameters):
                raise ValueError(f"optimizer.{index} is of no parameter; there are {len(parameters)}")
            if held.keys() != MOMENTS:
                raise ValueError(f"optimizer.{index} holds {', '.join(held)}; expected {', '.join(sorted(MOMENTS))}")
            for name, tensor in held.items():
                shape = () if name == "step" else tuple(parameters[index].shape)
                if tuple(tensor.shape) != shape or not tensor.is_floating_point():
                    raise ValueError(f"optimizer.{index}.{name} is {_form(tensor)}; expected {shape}")


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


def decisive(settings: "RunSettings") -> dict[str, Any]:
    """The settings that decide a run's numbers, by name."""
    return {name: value for name, value in asdict(settings).items() if name not in RESUMABLE_CHANGES}


def _read(path: Path, *, weights: bool = True) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            header = file.metadata()
            names = file.keys() if weights else ()
            tensors = {name: file.get_tensor(name) for name in names}
        state = json.loads(header["state"])
        if header.get(STATE_SUM) not in (None, _sha256(header["state"])):  # which older ones lack
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
    """Refuse what does not hold exactly the fields of ``Progress``, settings and facts. Raises ValueError."""
    if not isinstance(state, dict):
        raise ValueError("its state is no object")  # noqa: TRY004 - a value of a file
    hints = {name: kind for name, kind in get_type_hints(Progress).items() if name != "best_state"}
    kinds = {**hints, "settings": dict[str, Any], "facts": dict[str, Any]}
    state = {"facts": {}, **state}  # older ones have none
    for name in {**kinds, **state}:
        if name not in kinds:
            raise ValueError(f"{name:.40} is not known here: perhaps of a newer metatx")
        if name not in state:
            raise ValueError(f"it lacks {name}")
        if not _fits(state[name], kinds[name]):
            raise ValueError(f"{name} is {short(state[name])}")


def _fits(value: Any, kind: Any) -> bool:
    """Whether what JSON holds is of an annotated type."""
    parts = get_args(kind)
    if isinstance(kind, UnionType):
        return any(_fits(value, part) for part in parts)
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_fits(each, parts[0]) for each in value)
    if get_origin(kind) is dict:
        return isinstance(value, dict) and all(_fits(each, parts[1]) for each in value.values())
    return kind is Any or type(value) is kind or (kind is float and type(value) is int)


def _parted(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Tensors by part and name in it. Raises ValueError for those of no part."""
    parts: dict[str, dict[str, Tensor]] = {"task": {}, "best": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        part, _, key = name.partition(".")
        if part not in parts or not key:
            raise ValueError(f"tensor {name:.60} is not known here")
        parts[part][key] = tensor
    return parts


def _moments(tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """The optimizer's tensors by number of the parameter, and name. Raises ValueError for other names."""
    found: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, moment = name.partition(".")
        if not (index.isascii() and index.isdigit() and len(index) < 10 and str(int(index)) == index):
            raise ValueError(f"tensor optimizer.{name:.60} is not known here")
        found.setdefault(int(index), {})[moment] = tensor
    return found


def _form(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _damaged(path: Path, why: Any) -> ValueError:
    return ValueError(f"{path} is damaged ({why}); remove it to start anew.")
