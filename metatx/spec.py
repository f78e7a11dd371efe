"""TaskSpec: what makes a task, apart from its data and its training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from metatx.annotations import annotated_types, check_types
from metatx.errors import short
from metatx.registry import names, unknown
from metatx.values import plain_value

__all__ = ["TaskSpec"]


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """Choices that make a task: ``Task.from_data``, ``run``, ``compare``, the command line and recipes pass them on.

    Functions that take a spec take the modality's name in its place, and the other choices by keyword.

    Attributes:
        modality: Name of the tokenizer.
        target: Column to predict, or several of 0 and 1, as a sequence or with commas; None: one with a usual name is
            found.
        inputs: Columns to read, as a sequence or a text with commas; None: they are found where there is only one
            sensible reading.
        head: Name of the head; None: it follows from the target.
        tokenizer_options: Options of the tokenizer, by name.
        head_options: Options of the head, by name.
        tune: Part of the backbone that is trained too: ``"frozen"``, nothing; ``"norm"``, LayerNorms of the task's own;
            ``"lora"``, a low-rank update; ``"full"``, all of a copy, which cannot be shared.
        adapter_options: Options of a LoRA adapter, by name, as in ``LoraOptions``.
        seed: Seed of the initial weights; None: that of the training, or 0 where a task is only built.

    Raises:
        ValueError: If modality, head, tune, seed or options have a wrong type.

    Example:
        >>> spec = metatx.TaskSpec(modality="tabular", target="kind")
        >>> spec.tune, spec.head, spec.seed
        ('frozen', None, None)
    """

    modality: str
    target: str | Sequence[str] | None = None
    inputs: str | Sequence[str] | None = None
    head: str | None = None
    tokenizer_options: Mapping[str, Any] = field(default_factory=dict)
    head_options: Mapping[str, Any] = field(default_factory=dict)
    tune: str = "frozen"
    adapter_options: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.modality, str):
            choices = ", ".join(names("tokenizers"))
            raise ValueError(f"modality is {short(self.modality)}; expected a TaskSpec, or one of {choices}.")
        for name in ("tokenizer_options", "head_options", "adapter_options"):
            given = getattr(self, name)
            if given is not None and not isinstance(given, Mapping):
                raise ValueError(f"{name} is {short(given)}; expected options by name, such as {{'patch_size': 16}}.")
            object.__setattr__(self, name, dict(given or {}))
        object.__setattr__(self, "seed", plain_value(self.seed))
        # Target and inputs may also be arrays and other sequences.
        check_types({name: getattr(self, name) for name in ("head", "tune", "seed")}, annotated_types(type(self)))

    @classmethod
    def of(cls, spec: "str | TaskSpec", **choices: Any) -> "TaskSpec":
        """A spec from a modality's name, or a spec, with these choices in the place of its own.

        Raises:
            TypeError: If there is no choice of a name; says the nearest one.
        """
        accepted = [each.name for each in fields(cls) if each.name != "modality"]
        for name in choices:
            if name not in accepted:
                raise TypeError(unknown("argument", name, accepted))
        return replace(spec, **choices) if isinstance(spec, TaskSpec) else cls(modality=spec, **choices)
