"""The few errors of our own; everything else is a ValueError, TypeError or OSError."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from signal import Signals
from typing import Any, TypeVar

__all__ = [
    *("BoundError", "ChangedError", "DivergedError", "PlacedError", "SampleError", "Stopped", "TaskError"),
    *("cannot_be_used", "decoded", "decoding", "first_named", "short", "read_all"),
]

NAMED = 3  # bad samples that a message names; the rest is counted

Read = TypeVar("Read")
Item = TypeVar("Item")


class SampleError(ValueError):
    """One sample cannot be used.

    Raised by ``Tokenizer.encode`` and ``Head.encode``; the message names the field, what was found and what was
    expected. Where samples are read in bulk, the core adds the sample's place (file or row).

    Example:
        >>> tokenizer = metatx.create("tokenizers", "text", dim=192)
        >>> try:
        ...     tokenizer.encode("")
        ... except metatx.SampleError as error:
        ...     print(error)
        text is empty; expected at least one word
    """


class BoundError(SampleError):
    """A sample holds more than may be read, see ``metatx.reading.bounds``."""


class PlacedError(ValueError):
    """Statistics cannot be learned; the message names samples, whose place (file or row) the core knows.

    Args:
        parts: Of the message, in order: texts, and numbers of training samples, counted from 0.
    """

    def __init__(self, *parts: str | int) -> None:
        self.parts = parts
        super().__init__(self.told(lambda index: f"training row {index + 1}"))

    def told(self, place: Callable[[int], str]) -> str:
        """The message, each sample named by its place."""
        return "".join(place(part) if isinstance(part, int) else part for part in self.parts)


class DivergedError(ValueError):
    """The loss of a training run is not finite."""


class Stopped(KeyboardInterrupt):  # noqa: N818  # no error
    """A signal stopped a run; all that was done is in its checkpoint.

    Attributes:
        signal: Which.
        first: Whether this is the first of the run's processes, all of which stop.
    """

    def __init__(self, message: str, signal: Signals, first: bool) -> None:
        super().__init__(message)
        self.signal, self.first = signal, first


class TaskError(ValueError):
    """A task folder is damaged, foreign, or belongs to another backbone; nothing of it was loaded."""


class ChangedError(TaskError):
    """The files of a task that never change, a version, are gone or others; the message names the task, no place."""


@contextmanager
def decoding(trouble: str) -> Iterator[None]:
    """Turn whatever a library raises on a file into SampleError: ``trouble``, then the library's words in brackets.

    For the calls of a library alone, not for what is done with its answer: there an error is our own. Libraries raise
    what they like on damaged files (KeyError, struct.error, RuntimeError), so that no list of classes is complete.
    A missing package, a lack of memory and a SampleError pass as they are.
    """
    try:
        yield
    except (SampleError, ImportError, MemoryError):
        raise
    except Exception as error:
        # Some put the repr of the object that they were given, or a page of advice, into the message.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise SampleError(f"{trouble} ({lines[0].rpartition('>: ')[2].rstrip('.'):.200})") from error


def decoded(items: Iterable[Item], trouble: str) -> Iterator[Item]:
    """``items`` of a library that reads while it is asked for the next one, as ``decoding``."""
    iterator, end = iter(items), object()
    while True:
        with decoding(trouble):
            item: Any = next(iterator, end)
        if item is end:
            return
        yield item


def read_all(read: Callable[[Any], Read], samples: Iterable[Any]) -> list[Read]:
    """What ``read`` makes of the samples that can be used, for statistics: the core names the others later.

    Raises:
        ValueError: If none can be used; says why the first cannot.
    """
    found, bad = [], None
    for sample in samples:
        try:
            found.append(read(sample))
        except SampleError as error:
            bad = bad or error
    if not found:
        raise ValueError(f"No sample can be used; the first: {bad}.")
    return found


def first_named(bad: Sequence[str]) -> str:
    """The first of some bad samples, the others counted."""
    rest = f"; and {len(bad) - NAMED:,} more" if len(bad) > NAMED else ""
    return "; ".join(bad[:NAMED]) + rest


def cannot_be_used(bad: Sequence[str], count: int) -> ValueError:
    """The error that names the first bad ones of so many samples, and counts the rest.

    Args:
        bad: Of each, its place and what is wrong with it.
        count: Of all samples, good and bad.
    """
    hint = "No other is left."
    if len(bad) < count:
        hint = "Mend them, or leave them out with --skip-bad-samples (in Python: skip_bad_samples=True)."
    return ValueError(f"{len(bad):,} of {count:,} samples cannot be used: {first_named(bad)}. {hint}")


def short(value: Any) -> str:
    """A value as a message shows it, in one line of at most 40 signs."""
    cut = value[:200] if isinstance(value, str | bytes | list) else value  # of which no more than 40 signs are shown
    try:
        text = " ".join(repr(cut).split())
    except RecursionError:
        text = f"a {type(value).__name__} of many levels"
    return text if len(text) <= 40 else f"{text[:37]}..."
