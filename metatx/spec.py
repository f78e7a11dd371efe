"""TaskSpec: what makes a task, apart from its data and its training."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["TaskSpec"]


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """The choices that make a task: ``Task.from_data``, ``run``, ``compare``, the command line and recipes pass it on.

    Attributes:
        modality: Name of the tokenizer.
        target: Column to predict, or several of 0 and 1, with commas; None: one with a usual name is found.
        inputs: Columns to read; None: they are found where there is only one sensible reading.
        head: Name of the head; None: it follows from the target.
        tokenizer_options: Options of the tokenizer, by name.
        head_options: Options of the head, by name.
        tune: Part of the backbone that is trained too, one of ``metatx.adapters.tiers.TIERS``.
        adapter_options: Options of a LoRA adapter, by name.
        seed: Seed of the initial weights.

    Example:
        >>> spec = metatx.TaskSpec(modality="tabular", target="kind")
        >>> spec.tune, spec.head, spec.seed
        ('frozen', None, 0)
    """

    modality: str
    target: str | None = None
    inputs: tuple[str, ...] | None = None
    head: str | None = None
    tokenizer_options: Mapping[str, Any] = field(default_factory=dict)
    head_options: Mapping[str, Any] = field(default_factory=dict)
    tune: str = "frozen"
    adapter_options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
