"""Checkpoint schedule and signal handling of a run; all processes save and stop together."""

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
    """Context in which a run's checkpoint is saved on time, and SIGTERM or SIGINT stops the run after a save.

    A signal takes effect at the end of the current step. The schedule of the main process, and a signal to any
    process, take effect in all processes after the same step, so that none waits for one that has stopped. A run
    without a checkpoint, or outside the main thread, does not handle signals.

    Args:
        accelerator: Accelerator of this process.
        checkpoint: Checkpoint of the run.
    """

    def __init__(self, accelerator: Accelerator, checkpoint: Checkpoint) -> None:
        self.accelerator = accelerator
        self.checkpoint = checkpoint
        self.received: signal.Signals | None = None
        self.previous_handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if self.checkpoint.path is not None and threading.current_thread() is threading.main_thread():
            self.previous_handlers = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous_handlers.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)

    def load(self) -> Progress:
        """Load the checkpoint. Raises ValueError as ``Checkpoint.load``, or if not all processes found it."""
        progress = self.checkpoint.load()
        steps = gather_object([(progress.epoch, progress.step)])
        if len(set(steps)) > 1:
            raise ValueError(
                f"Not all processes found the checkpoint {self.checkpoint.path}; to resume, put it into a folder that "
                "all machines share."
            )
        return progress

    def after_step(self, progress: Progress) -> None:
        """Save if it is time to. After a signal, save and raise Stopped."""
        due, signalled = self._anywhere(self.checkpoint.due(), self.received is not None)
        if due or signalled:
            self.save(progress)
        if signalled:
            self._stop(progress)

    def finish(self, progress: Progress) -> None:
        """Save the finished run. After a signal, raise Stopped then."""
        self.save(progress)
        if any(self._anywhere(self.received is not None)):
            self._stop(progress)

    def interruptible(self, batches: Iterable[Item], progress: Progress) -> Iterator[Item]:
        """Iterate over batches of a validation. After a signal to a run of one process, save and raise Stopped."""
        for batch in batches:
            if self.received and self.accelerator.num_processes == 1:
                self.save(progress)
                self._stop(progress)
            yield batch

    def save(self, progress: Progress) -> None:
        """Write the checkpoint, in the main process."""
        if self.accelerator.is_main_process:
            self.checkpoint.save(progress)

    def _anywhere(self, *flags: bool) -> list[bool]:
        """Return for each flag whether it is set in any process."""
        counts: torch.Tensor = self.accelerator.reduce(torch.tensor(flags, dtype=torch.float32).to(self._device))
        return [bool(count) for count in counts.tolist()]

    @property
    def _device(self) -> torch.device:
        device: torch.device = self.accelerator.device
        return device

    def _stop(self, progress: Progress) -> None:
        number = self.received or signal.SIGTERM
        path = self.checkpoint.path
        assert path is not None
        raise Stopped(
            f"Stopped by {number.name} after {progress.epoch} epochs and {progress.step} steps, which are kept. Go on "
            f"with --out {path.parent} --resume (in Python: out={str(path.parent)!r}, resume=True).",
            number,
            self.accelerator.is_main_process,
        )
