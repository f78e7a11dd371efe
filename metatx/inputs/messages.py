"""Messages of an input's tokenizer, with the name of the input and its options as the task has them."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from metatx.errors import BoundError, PlacedError, SampleError
from metatx.progress import told_as
from metatx.spec import Input

__all__ = ["learning", "named", "with_options_of"]


def with_options_of(message: str, owner: Input) -> str:
    """Message of a tokenizer, whose options of the command line are those of a task with several inputs.

    Args:
        message: Message as in a task of the tokenizer alone.
        owner: Input that the tokenizer belongs to.

    Example:
        >>> facts = Input(name="facts", modality="tabular")
        >>> with_options_of("Leave it out, as in --inputs a,b; or ignore it: --tokenizer.columns", facts)
        'Leave it out, as in --input facts=tabular:a,b; or ignore it: --tokenizer.facts.columns'
    """
    message = message.replace("--tokenizer.", f"--tokenizer.{owner.name}.")
    return re.sub(
        r"--inputs\b( (?=\S))?",
        lambda option: f"--input {owner.name}={owner.modality}:" + ("" if option[1] else "COLUMN,..."),
        message,
    )


@contextmanager
def named(name: str, owner: Input) -> Iterator[None]:
    """Put the name of an input before the message of a SampleError; ``owner`` has the tokenizer."""
    try:
        yield
    except SampleError as error:
        kind = BoundError if isinstance(error, BoundError) else SampleError
        raise kind(f"input {name}: {with_options_of(str(error), owner)}") from error


@contextmanager
def learning(owner: Input, places: Sequence[int] = ()) -> Iterator[None]:
    """Put the name of an input before what is told, and before the message of a ValueError.

    Args:
        owner: Input that has the tokenizer.
        places: Number among all training samples of each sample that the tokenizer is fitted to.
    """

    def said(message: str) -> str:
        return f"Input {owner.name}: {with_options_of(message, owner)}"

    try:
        with told_as(said):
            yield
    except PlacedError as error:
        parts = [places[part] if isinstance(part, int) else with_options_of(part, owner) for part in error.parts]
        raise PlacedError(f"Input {owner.name}: ", *parts) from None
    except ValueError as error:
        raise ValueError(said(str(error))) from error
