"""Reference to a module that its holder does not register."""

from typing import Generic, TypeVar

from torch import nn

__all__ = ["Unregistered"]

Kind = TypeVar("Kind", bound=nn.Module)


class Unregistered(Generic[Kind]):
    """Hides a shared module from the ``nn.Module`` that holds it.

    ``parameters``, ``state_dict``, ``train``, ``to`` and ``apply`` of the holder do not reach it. ``copy.deepcopy`` of
    the holder copies it, as it does any attribute.

    Attributes:
        module: The shared module.
    """

    def __init__(self, module: Kind) -> None:
        self.module = module
