"""Contract of the dataclass that says the shape of a backbone."""

from typing import Any, Protocol

__all__ = ["Config"]

OUTPUT = "lm_head"  # name of a language model's output layer


class Config(Protocol):
    """Dataclass that a kind of backbone is built from."""

    @property
    def dim(self) -> int:
        """Width of the tokens, D."""
        ...

    @property
    def depth(self) -> int:
        """Number of blocks."""
        ...

    @property
    def class_token(self) -> bool:
        """True if the first prefix token is a class token."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; the fingerprint is computed from them and the weights."""
        ...
