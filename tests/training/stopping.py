"""Runs that end in the middle of an epoch, as those do that a user stops."""

from contextlib import contextmanager

import pytest

from metatx.training.loop import Training


@contextmanager
def stopped_after(steps, monkeypatch):
    """Context in which a training ends by KeyboardInterrupt after a number of steps."""
    step = Training.step
    done = iter(range(steps + 1))

    def counted(*arguments):
        if next(done) == steps:
            raise KeyboardInterrupt
        return step(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Training, "step", counted)
        yield
