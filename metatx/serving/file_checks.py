"""Checks of files that strangers send: the suffix of the name, and the first bytes of the content."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from metatx.errors import BoundError, SampleError
from metatx.inputs.inputs import Inputs
from metatx.serving.limits import RefusedError
from metatx.tokenizer import Tokenizer

__all__ = ["accepted_suffixes", "check_file", "of_input", "suffix_of"]

HEAD = 512  # bytes of a file that a signature sees


def accepted_suffixes(tokenizer: Tokenizer) -> list[str]:
    """Return the suffixes of files that a server takes for a tokenizer: those that it reads and has a signature for."""
    if isinstance(tokenizer, Inputs):
        parts = (accepted_suffixes(tokenizer.tokenizer(name)) for name in tokenizer.inputs)
        return list(dict.fromkeys(chain.from_iterable(parts)))
    return [suffix for suffix in _readable(tokenizer) if suffix in tokenizer.signatures]


def suffix_of(name: str, tokenizer: Tokenizer) -> str:
    """Return the suffix, in lower case, of the name of a sent file.

    Raises:
        RefusedError: 415 if the tokenizer reads no such files, or has no signature to check them by.
    """
    suffix = Path(name).suffix.lower()
    accepted = accepted_suffixes(tokenizer)
    if suffix in accepted:
        return suffix
    if suffix in tokenizer.external_refs:
        raise RefusedError(415, f"A {suffix} file may name other files, which are not here; convert it.")
    if suffix in _readable(tokenizer):
        raise RefusedError(
            415,
            f"A {suffix} file cannot be checked before it is read, so this server does not take it: "
            f"the {tokenizer.name} tokenizer declares no signature of {suffix} (Tokenizer.signatures).",
        )
    taken = ", ".join(accepted) or "no files: send JSON"
    raise RefusedError(415, f"The file is {suffix or 'without a suffix'}; this task takes {taken}.")


def check_file(path: Path, tokenizer: Tokenizer) -> None:
    """Refuse a file whose first bytes are not those of its format.

    Raises:
        RefusedError: 415 if they are not, or if the tokenizer has no signature of that suffix.
    """
    signature = tokenizer.signatures.get(path.suffix)
    with path.open("rb") as file:
        head = file.read(HEAD)
    if signature is None or not signature(head):
        raise RefusedError(415, f"The content is not that of a {path.suffix} file.")


@contextmanager
def of_input(name: str) -> Iterator[None]:
    """Put the name of an input before the message of an error about its file."""
    try:
        yield
    except RefusedError as error:
        raise RefusedError(error.status, f"input {name}: {error}") from error
    except ValueError as error:
        kind = BoundError if isinstance(error, BoundError) else SampleError
        raise kind(f"input {name}: {error}") from error


def _readable(tokenizer: Tokenizer) -> list[str]:
    """Suffixes of files that a tokenizer reads and that lead to no other files."""
    suffixes = dict.fromkeys((*tokenizer.suffixes, *tokenizer.readers))
    return [suffix for suffix in suffixes if suffix.startswith(".") and suffix not in tokenizer.external_refs]
