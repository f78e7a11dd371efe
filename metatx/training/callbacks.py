"""Callbacks of a run: objects with the methods of ``transformers.TrainerCallback``, or with some of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from metatx.errors import short
from metatx.settings import TrainingSettings

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState

__all__ = ["Callbacks"]

EVENTS = ("on_train_begin", "on_log", "on_epoch_end", "on_train_end")


class Callbacks:
    """Calls of methods ``on_train_begin``, ``on_log`` (with ``logs``), ``on_epoch_end`` and ``on_train_end``.

    Each is called as ``method(settings, state, control, ...)``, with a ``TrainerState`` that counts steps and epochs
    and holds the history, and a ``TrainerControl`` whose ``should_training_stop`` ends the run after the epoch.

    Args:
        callbacks: Objects with one or more of these methods.
        settings: Settings of the run.
        steps: Number of steps of an epoch.

    Raises:
        TypeError: If an object has none of the methods.
    """

    def __init__(self, callbacks: Sequence[Any], settings: TrainingSettings, steps: int) -> None:
        for callback in callbacks:
            if not any(callable(getattr(callback, event, None)) for event in EVENTS) or isinstance(callback, type):
                raise TypeError(
                    f"{short(callback)} is no callback; expected an object with a method {', '.join(EVENTS[:-1])} or "
                    f"{EVENTS[-1]}."
                )
        self.callbacks = callbacks
        self.settings = settings
        self.steps = steps
        self.stopped = False

    def __call__(self, event: str, history: Sequence[dict[str, float]], **facts: Any) -> None:
        """Call a method of all callbacks that have it; remember whether one ends the run."""
        if not self.callbacks:
            return
        state, control = self._state(history)
        for callback in self.callbacks:
            method = getattr(callback, event, None)
            if callable(method):
                method(self.settings, state, control, **facts)
        self.stopped = self.stopped or control.should_training_stop

    def after_epoch(self, history: Sequence[dict[str, float]]) -> None:
        """Call ``on_log`` with the last row of the history, and ``on_epoch_end``."""
        self("on_log", history, logs=dict(history[-1]))
        self("on_epoch_end", history)

    def _state(self, history: Sequence[dict[str, float]]) -> "tuple[TrainerState, TrainerControl]":
        # Imported here: it takes seconds, and most runs have no callbacks.
        from transformers import TrainerControl, TrainerState

        epochs = self.settings.epochs or 0
        state = TrainerState(
            epoch=len(history),
            global_step=len(history) * self.steps,
            max_steps=epochs * self.steps,
            num_train_epochs=epochs,
            train_batch_size=self.settings.batch_size,
            log_history=[dict(row) for row in history],
        )
        return state, TrainerControl(should_training_stop=self.stopped)
