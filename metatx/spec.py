"""Choices that make a task, apart from its data and its training: ``TaskSpec``, and ``Input`` for each of several."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from metatx.registry import unknown

__all__ = ["AnySpec", "Input", "Modality", "TaskSpec"]

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")  # names of inputs: they become keys of JSON and names of weights


@dataclass(frozen=True, kw_only=True)
class Input:
    """One input of a task with several.

    Attributes:
        name: Name, a letter followed by letters, digits, ``_`` and ``-``.
        modality: Name of the tokenizer.
        columns: Columns of a table that the input reads, as a sequence or a text with commas. None: the column called
            ``name``, or, where a sample is a row and there is no such column, all columns that no other input reads.
        shares: Name of an input of the same modality whose tokenizer, weights included, this input uses. Options are
            then those of the other input, and so is ``frozen``.
        frozen: True if the tokenizer keeps its first weights, random ones where it has no others, and varies nothing in
            training. Where the fusion leaves the inputs apart, what the backbone makes of it is then computed once and
            cached.
        options: Options of the tokenizer, by name.

    Raises:
        ValueError: If a name cannot be used.

    Example:
        >>> metatx.Input(name="facts", modality="tabular", columns="rooms,area").columns
        ('rooms', 'area')
    """

    name: str
    modality: str
    columns: Sequence[str] | str | None = None
    shares: str | None = None
    frozen: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(
                f"An input is called {self.name!r}; expected a letter followed by letters, digits, _ and -, "
                "such as photo. Columns may have any name: --input photo=image:'my photo'."
            )
        columns = self.columns
        if isinstance(columns, str):
            columns = [part.strip() for part in columns.split(",")]
        object.__setattr__(self, "columns", None if columns is None else tuple(columns))
        object.__setattr__(self, "options", dict(self.options))

    def as_json(self) -> dict[str, Any]:
        """The input as an option that is saved with a task."""
        columns = None if self.columns is None else list(self.columns)
        return {**vars(self), "columns": columns, "options": dict(self.options)}


Modality = str | Mapping[str, str | Input] | Sequence[Input]


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """Choices that make a task: ``Task.from_data``, ``run``, ``compare``, the command line and recipes pass them on.

    Functions that take a spec take the modality's name in its place, and the other choices by keyword.

    Attributes:
        modality: Name of the tokenizer; or, for several inputs, the modality or the ``Input`` of each by its name, or
            a sequence of ``Input``.
        target: Column to predict, or several of 0 and 1, as a sequence or with commas; None: one with a usual name is
            found.
        inputs: Columns to read, as a sequence or a text with commas; None: they are found where there is only one
            sensible reading. Several inputs name their columns themselves.
        head: Name of the head; None: it follows from the target.
        tokenizer_options: Options of the tokenizer, by name; of several inputs, by the name of the input.
        head_options: Options of the head, by name.
        fusion: Name of the fusion of several inputs.
        fusion_options: Options of the fusion, by name.
        main: Name of the input whose tokens a head reads that labels places or steps in time; None: the first.
        tune: Part of the backbone that is trained too: ``"frozen"``, nothing; ``"norm"``, LayerNorms of the task's own;
            ``"lora"``, a low-rank update; ``"full"``, all of a copy, which cannot be shared.
        adapter_options: Options of a LoRA adapter, by name, as in ``LoraOptions``.
        seed: Seed of the initial weights; None: that of the training, or 0 where a task is only built.

    Example:
        >>> spec = metatx.TaskSpec(modality="tabular", target="kind")
        >>> spec.tune, spec.head, spec.seed
        ('frozen', None, None)
        >>> metatx.TaskSpec(modality={"photo": "image", "words": "text"}).several[1].modality
        'text'
    """

    modality: Modality
    target: str | Sequence[str] | None = None
    inputs: str | Sequence[str] | None = None
    head: str | None = None
    tokenizer_options: Mapping[str, Any] = field(default_factory=dict)
    head_options: Mapping[str, Any] = field(default_factory=dict)
    fusion: str = "late"
    fusion_options: Mapping[str, Any] = field(default_factory=dict)
    main: str | None = None
    tune: str = "frozen"
    adapter_options: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("tokenizer_options", "head_options", "fusion_options", "adapter_options"):
            object.__setattr__(self, name, dict(getattr(self, name) or {}))
        if not isinstance(self.modality, str):
            object.__setattr__(self, "modality", _named(self.modality))

    @classmethod
    def of(cls, spec: "Modality | TaskSpec", **choices: Any) -> "TaskSpec":
        """A spec from a modality's name, from several inputs, or a spec, with these choices in the place of its own.

        Raises:
            TypeError: If there is no choice of a name; says the nearest one.
            ValueError: If the inputs do not fit together.
        """
        names = [each.name for each in fields(cls) if each.name != "modality"]
        for name in choices:
            if name not in names:
                raise TypeError(unknown("argument", name, names))
        return replace(spec, **choices) if isinstance(spec, TaskSpec) else cls(modality=spec, **choices)

    @property
    def several(self) -> tuple[Input, ...]:
        """Inputs with the options of ``tokenizer_options``; empty for a task of one modality.

        Raises:
            ValueError: If ``tokenizer_options`` names an unknown input.
        """
        if isinstance(self.modality, str):
            return ()
        inputs: dict[str, Any] = dict(self.modality)  # type: ignore[arg-type]  # ``__post_init__`` made it a dict
        for name, options in self.tokenizer_options.items():
            if name not in inputs:
                raise ValueError(unknown("input in the options of tokenizers", name, list(inputs)))
            inputs[name] = replace(inputs[name], options={**inputs[name].options, **options})
        return tuple(inputs.values())

    @property
    def said(self) -> str:
        """Modality, or the inputs with theirs, for messages."""
        if isinstance(self.modality, str):
            return self.modality
        return ", ".join(f"{input.name} ({input.modality})" for input in self.several)


AnySpec = Modality | TaskSpec


def _named(modality: Any) -> dict[str, Input]:
    """Inputs by name. Raises ValueError if two have the same name but for capitals, or one shares with none."""
    if isinstance(modality, Mapping):
        given = [
            replace(value, name=name) if isinstance(value, Input) else Input(name=name, modality=value)
            for name, value in modality.items()
        ]
    else:
        given = list(modality)
    inputs = {input.name: input for input in given}
    if not given:
        raise ValueError("There is no input; name at least one, such as {'photo': 'image'}.")
    folded: dict[str, str] = {}
    for input in given:
        other = folded.setdefault(input.name.casefold(), input.name)
        if other != input.name or [each.name for each in given].count(input.name) > 1:
            raise ValueError(f"Two inputs are called {other} and {input.name}; give them different names.")
        owner = inputs.get(input.shares or "")
        if input.shares and (owner is None or owner.shares or owner.modality != input.modality or owner is input):
            raise ValueError(
                f"Input {input.name} ({input.modality}) shares the tokenizer of {input.shares!r}; expected another "
                f"input of the modality {input.modality} that has its own."
            )
    return inputs
