"""Processes of a run: one, or those that ``torchrun`` or ``accelerate launch`` started, on one or more machines."""

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

__all__ = ["processes"]


def processes() -> PartialState:
    """State of this process and of the others. Without a GPU, or if ACCELERATE_USE_CPU is true, they use gloo.

    Without the argument, accelerate would treat several processes without a GPU as separate runs.
    """
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available())
