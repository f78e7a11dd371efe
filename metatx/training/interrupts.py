"""When a run is saved, and how it stops: by the clock, by steps, at signals; all processes together."""

import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any, Self, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from metatx.errors import Stopped
from metatx.training.checkpoint import Checkpoint, Progress

__all__ = ["CheckpointSchedule"]

SIGNALS = (signal.SIGTERM, signal.SIGINT)
Item = TypeVar("Item")


class CheckpointSchedule:
    """Keeps a run's checkpoint up to date, and stops the run behind one when SIGTERM or SIGINT asks for it.

    It is a context; in it a signal waits for the end of the step at hand. What the main process's clock says, and a
    signal to any process, counts in all of them after the same step, so that none waits for one that has stopped.
    A run without a checkpoint, or outside the main thread, leaves signals alone.
    """

    def __init__(self, accelerator: Accelerator, checkpoint: Checkpoint) -> None:
        self.accelerator, self.checkpoint = accelerator, checkpoint
        self.asked: signal.Signals | None = None
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if self.checkpoint.path is not None and threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = signal.Signals(number)

    def load(self) -> Progress:
        """What the checkpoint says. Raises ValueError as ``Checkpoint.load``, or if not all processes found it."""
        progress = self.checkpoint.load()
        found = gather_object([(progress.epoch, progress.step)])
        if len(set(found)) > 1:
            raise ValueError(
                f"Not all processes found the checkpoint {self.checkpoint.path}; to go on, it must lie in a folder "
                "that all machines share."
            )
        return progress

    def after_step(self, progress: Progress) -> None:
        """Save where it is time to. Raises Stopped, saved, where a signal asked for it."""
        due, asked = self._anywhere(self.checkpoint.due(), self.asked is not None)
        if due or asked:
            self.save(progress)
        if asked:
            self._stop(progress)

    def finish(self, progress: Progress) -> None:
        """Save the whole run. Raises Stopped, saved, where a signal asked for it."""
        self.save(progress)
        if any(self._anywhere(self.asked is not None)):
            self._stop(progress)

    def interruptible(self, batches: Iterable[Item], progress: Progress) -> Iterator[Item]:
        """The batches of a validation. Raises Stopped, saved, where a signal asked for it and no process waits."""
        for batch in batches:
            if self.asked and self.accelerator.num_processes == 1:
                self.save(progress)
                self._stop(progress)
            yield batch

    def save(self, progress: Progress) -> None:
        """Write the checkpoint, in the main process."""
        if self.accelerator.is_main_process:
            self.checkpoint.save(progress)

    def _anywhere(self, *flags: bool) -> list[bool]:
        """Whether each flag is set in some process."""
        found: torch.Tensor = self.accelerator.reduce(torch.tensor(flags, dtype=torch.float32).to(self._device))
        return [bool(flag) for flag in found.tolist()]

    @property
    def _device(self) -> torch.device:
        device: torch.device = self.accelerator.device
        return device

    def _stop(self, progress: Progress) -> None:
        number, path = self.asked or signal.SIGTERM, self.checkpoint.path
        assert path is not None
        raise Stopped(
            f"Stopped by {number.name} after {progress.epoch} epochs and {progress.step} steps, which are kept. Go on "
            f"with --out {path.parent} --resume (in Python: out={str(path.parent)!r}, resume=True).",
            number,
            self.accelerator.is_main_process,
        )
