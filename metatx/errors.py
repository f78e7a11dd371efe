"""The few errors of our own; everything else is a ValueError, TypeError or OSError."""

__all__ = ["SampleError", "TaskError"]


class SampleError(ValueError):
    """One sample cannot be used.

    Raised by ``Tokenizer.encode`` and ``Head.encode``; the message names the field, what was found and what was
    expected. Where samples are read in bulk, the core adds the sample's place (file or row).
    """


class TaskError(ValueError):
    """A task folder is damaged, foreign, or belongs to another backbone; nothing of it was loaded."""
