"""Errors of metatx; all other faults raise ValueError, TypeError or OSError."""

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
    """A sample is larger than a bound of ``metatx.reading.bounds``."""


class PlacedError(ValueError):
    """Statistics cannot be learned; the message names training samples, whose place (file or row) only the core knows.

    Args:
        parts: Parts of the message in order: texts, and numbers of training samples, counted from 0.
    """

    def __init__(self, *parts: str | int) -> None:
        self.parts = parts
        super().__init__(self.with_places(lambda index: f"training row {index + 1}"))

    def with_places(self, place: Callable[[int], str]) -> str:
        """Return the message with each sample's number replaced by its place."""
        return "".join(place(part) if isinstance(part, int) else part for part in self.parts)


class DivergedError(ValueError):
    """The loss of a training run is not finite."""


class Stopped(KeyboardInterrupt):  # noqa: N818  # no error
    """A signal stopped a run; all work done is in its checkpoint.

    Attributes:
        signal: Signal that was received.
        first: True in the first of the run's processes, all of which stop.
    """

    def __init__(self, message: str, signal: Signals, first: bool) -> None:
        super().__init__(message)
        self.signal = signal
        self.first = first


class TaskError(ValueError):
    """A task folder is damaged, foreign, or belongs to another backbone; nothing of it was loaded.

    The message is one line, whatever the texts of the folder hold.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(" ".join(str(message).splitlines()))


class ChangedError(TaskError):
    """A version of a task, whose files must not change, was changed or removed; the message names no path."""


@contextmanager
def decoding(trouble: str) -> Iterator[None]:
    """Turn an exception of a library into SampleError: ``trouble``, then the library's message in brackets.

    Wrap only the calls of the library, so that faults of the code around them stay visible. Libraries raise many kinds
    of exceptions on damaged files (KeyError, struct.error, RuntimeError), so that no list of classes is complete.
    ImportError, MemoryError and SampleError pass unchanged.
    """
    try:
        yield
    except (SampleError, ImportError, MemoryError):
        raise
    except Exception as error:
        # Some messages hold the repr of the object that was given, or many lines of advice.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise SampleError(f"{trouble} ({lines[0].rpartition('>: ')[2].rstrip('.'):.200})") from error


def decoded(items: Iterable[Item], trouble: str) -> Iterator[Item]:
    """Iterate over items that a library decodes on demand, with its exceptions turned as in ``decoding``."""
    iterator = iter(items)
    end = object()
    while True:
        with decoding(trouble):
            item: Any = next(iterator, end)
        if item is end:
            return
        yield item


def read_all(read: Callable[[Any], Read], samples: Iterable[Any]) -> list[Read]:
    """Results of ``read`` for the samples that can be used; the core reports the others when it encodes them.

    Raises:
        ValueError: If no sample can be used; the message says why the first cannot.
    """
    results = []
    bad = None
    for sample in samples:
        try:
            results.append(read(sample))
        except SampleError as error:
            bad = bad or error
    if not results:
        raise ValueError(f"No sample can be used; the first: {bad}.")
    return results


def first_named(bad: Sequence[str]) -> str:
    """List the first bad samples, and count the others."""
    rest = f"; and {len(bad) - NAMED:,} more" if len(bad) > NAMED else ""
    return "; ".join(bad[:NAMED]) + rest


def cannot_be_used(bad: Sequence[str], count: int) -> ValueError:
    """Error that lists the first bad samples, and counts the others.

    Args:
        bad: Place and fault of each bad sample.
        count: Number of all samples, good and bad.
    """
    hint = "No other is left."
    if len(bad) < count:
        hint = "Correct them, or leave them out with --skip-bad-samples (in Python: skip_bad_samples=True)."
    return ValueError(f"{len(bad):,} of {count:,} samples cannot be used: {first_named(bad)}. {hint}")


def short(value: Any) -> str:
    """Text of a value for messages, one line of at most 40 characters."""
    cut = value[:200] if isinstance(value, str | bytes | list) else value  # the repr of a long value takes long
    try:
        text = " ".join(repr(cut).split())
    except RecursionError:
        text = f"a {type(value).__name__} of many levels"
    return text if len(text) <= 40 else f"{text[:37]}..."
