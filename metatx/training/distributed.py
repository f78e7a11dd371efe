"""Processes of a run: one, or those that ``torchrun`` or ``accelerate launch`` started, on one or more machines."""

import atexit
import gc
import os

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import parse_flag_from_env
from torch import nn

from metatx.backbone.base import Backbone
from metatx.backbone.devices import device_of, tell_device

__all__ = ["placed", "processes", "training_device"]

USE_CPU = "ACCELERATE_USE_CPU"  # environment variable of accelerate


def processes() -> PartialState:
    """State of this process and of the others. Without a GPU, or if ACCELERATE_USE_CPU is true, they use gloo.

    Without the argument, accelerate would treat several processes without a GPU as separate runs. A group of processes
    that is made here is ended when the interpreter ends.
    """
    is_made = torch.distributed.is_available() and torch.distributed.is_initialized()
    state = PartialState(cpu=parse_flag_from_env(USE_CPU) or not torch.accelerator.is_available())
    if state.num_processes > 1 and not is_made:
        atexit.register(_end_group, state)
    return state


def training_device(name: str) -> torch.device:
    """Device that a command trains on, by the name that a user gives; one that is no CPU is told.

    With cpu, accelerate is told to leave the GPU alone, for the rest of the process.
    """
    device = tell_device(device_of(name))
    if name == "cpu":
        os.environ[USE_CPU] = "true"
    return device


def placed(module: nn.Module, backbone: Backbone, accelerator: Accelerator) -> None:
    """Move a module and a backbone to the device on which this process trains.

    A process that is alone trains where the backbone lies. Several take a GPU each; so does one whose backbone lies on
    the CPU, unless ACCELERATE_USE_CPU is true.
    """
    stays = accelerator.num_processes == 1 and backbone.device.type != "cpu"
    device = backbone.device if stays else accelerator.device
    module.to(device)
    backbone.to(device)


def _end_group(state: PartialState) -> None:
    """End the threads of gloo: one that frees a tensor while Python shuts down would abort a run that was done."""
    gc.collect()  # a wrapped model that is part of a cycle keeps the group, and so its threads, alive
    state.destroy_process_group()
