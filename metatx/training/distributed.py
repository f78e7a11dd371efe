"""The processes of a run: one, or those that ``torchrun`` or ``accelerate launch`` started, on one machine or more."""

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

__all__ = ["processes"]


def processes() -> PartialState:
    """This process among them. Where there is no GPU, or ACCELERATE_USE_CPU is true, they talk over gloo.

    Left to itself, accelerate takes several processes without a GPU for so many runs of one process each.
    """
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available())
