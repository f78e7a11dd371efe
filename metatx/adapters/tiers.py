"""What of the backbone a task trains, and at which rates."""

import copy
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from metatx.adapters.lora import LoraOptions, lora_adapter, norm_adapter
from metatx.registry import unknown

if TYPE_CHECKING:
    from metatx.adapters.lora import Adapter
    from metatx.backbone.base import Backbone
    from metatx.settings import TrainingSettings
    from metatx.task import Task

__all__ = ["TIERS", "merged", "merged_task", "own_copy", "parameter_groups", "retuned", "tuned"]

Kind = TypeVar("Kind", bound="Task")
TIERS = ("frozen", "norm", "lora", "full")


def tuned(
    backbone: "Backbone", tune: str, options: Mapping[str, Any] | None, seed: int
) -> tuple["Backbone", "Adapter | None"]:
    """What a task with this ``tune`` stands on: the shared backbone, alone or with an adapter, or a copy of its own.

    Args:
        backbone: Shared; never changed.
        tune: One of ``TIERS``.
        options: Of a LoRA adapter, by name; the others have none.
        seed: Of its initial weights.

    Raises:
        ValueError: If the tier or an option is unknown, or a value cannot be used.
    """
    if tune not in TIERS:
        raise ValueError(unknown("tune", tune, list(TIERS)))
    if options and tune != "lora":
        raise ValueError(f"tune={tune!r} takes no adapter options; {', '.join(options)} would need tune='lora'.")
    if tune == "full":
        return own_copy(backbone), None
    if tune == "frozen":
        return backbone, None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        lora = tune == "lora" and LoraOptions.of(options or {})
        made = lora_adapter(backbone, lora) if lora else norm_adapter(backbone)
    return backbone, made.to(backbone.device)


def own_copy(backbone: "Backbone") -> "Backbone":
    """A copy of all weights that a task may train; but for the stem, of which tokenizers train copies themselves."""
    own = backbone.trainable_copy()
    if own.stem is not None:
        own.stem.requires_grad_(False)
    return own


@torch.no_grad()
def merged(backbone: "Backbone", adapter: "Adapter") -> "Backbone":
    """A copy of the backbone, with the adapter folded into its weights, that takes no gradient."""
    own = own_copy(backbone).requires_grad_(False)
    for name, weight in adapter.merged(backbone).items():
        own.get_parameter(name).copy_(weight)
    return own


def merged_task(task: Kind) -> Kind:
    """A copy of a task on a backbone of its own; see ``Task.merge``."""
    if task.adapter is None:
        raise ValueError(f"There is no adapter to merge: the task's tune is {task.tune!r}, not 'norm' or 'lora'.")
    alone = _copy(task, merged(task.backbone, task.adapter), None)
    alone.metrics, alone.about, alone.settings = dict(task.metrics), dict(task.about), task.settings
    return alone.eval()


def retuned(task: Kind, tune: str, options: Mapping[str, Any] | None = None, seed: int = 0) -> Kind:
    """A copy of a frozen task that trains more of the backbone, with the same answers until it does.

    Head first, then what lies below it: so the random head of the first steps does not harm features that are good
    already (LP-FT, Kumar et al. 2022, arXiv 2202.10054).

    Args:
        task: Trained; stays as it is.
        tune, options, seed: As ``tuned``.

    Raises:
        ValueError: If the task is tuned already, or as ``tuned``.
    """
    if task.tune != "frozen":
        raise ValueError(f"The task to start from is tuned already ({task.tune}); start from a frozen one.")
    return _copy(task, *tuned(task.backbone, tune, options, seed)).eval()


def _copy(task: Kind, backbone: "Backbone", adapter: "Adapter | None") -> Kind:
    """A task with copies of another's tokenizer and head, on this backbone with this adapter."""
    known = {id(task.backbone.stem): backbone.stem}  # a tokenizer may hold the stem that it shares
    tokenizer, head = copy.deepcopy(task.tokenizer, known), copy.deepcopy(task.head)
    made = type(task)(backbone, tokenizer, head, task.inputs, task.target, adapter)
    made.norm.load_state_dict(task.norm.state_dict())
    made.trained, made.settings = task.trained, task.settings
    return made


def parameter_groups(module: nn.Module, settings: "TrainingSettings", depth: int) -> list[dict[str, Any]]:
    """AdamW's groups: matrices with weight decay, vectors without; ``scale`` is each one's share of the rate.

    Layer-wise decay (Clark et al. 2020, ELECTRA): of a backbone tuned in full, each block learns at ``layer_decay``
    times the rate of the next. All else, tokenizer, head and adapters, has the whole rate.

    Args:
        module: What is trained; ``own_backbone.`` begins the names of such a backbone.
        settings: Of the training.
        depth: The backbone's blocks.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            scale = settings.layer_decay ** _below_the_end(name, depth)
            groups.setdefault((scale, parameter.ndim > 1), []).append(parameter)
    return [
        {"params": groups[key], "weight_decay": settings.weight_decay if key[1] else 0.0, "scale": key[0]}
        for key in sorted(groups, reverse=True)
    ]


def _below_the_end(name: str, depth: int) -> int:
    """Blocks from a parameter to the head, its own counted."""
    if not name.startswith("own_backbone.") or name.startswith("own_backbone.norm."):
        return 0
    block = re.match(r"own_backbone\.blocks\.(\d+)\.", name)
    return depth - int(block[1]) if block else depth + 1
