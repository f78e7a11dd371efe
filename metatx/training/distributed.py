"""Processes of a run: one, or those that ``torchrun`` or ``accelerate launch`` started, on one or more machines."""

import atexit
import gc

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

__all__ = ["processes"]


def processes() -> PartialState:
    """State of this process and of the others. Without a GPU, or if ACCELERATE_USE_CPU is true, they use gloo.

    Without the argument, accelerate would treat several processes without a GPU as separate runs. A group of processes
    that is made here is ended when the interpreter ends.
    """
    is_made = torch.distributed.is_available() and torch.distributed.is_initialized()
    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available())
    if state.num_processes > 1 and not is_made:
        atexit.register(_end_group, state)
    return state


def _end_group(state: PartialState) -> None:
    """End the threads of gloo: one that frees a tensor while Python shuts down would abort a run that was done."""
    gc.collect()  # a wrapped model that is part of a cycle keeps the group, and so its threads, alive
    state.destroy_process_group()
