"""Choices that make a task, apart from its data and its training: ``TaskSpec``, and ``Input`` for each of several."""

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from metatx.annotations import annotated_types, check_types
from metatx.errors import short
from metatx.registry import COMPOSITE, names, unknown
from metatx.values import plain_value

__all__ = ["AnySpec", "Input", "Modality", "TaskSpec", "check_readers"]

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")  # names of inputs: they become keys of JSON and names of weights
OPTIONS = ("tokenizer_options", "head_options", "fusion_options", "adapter_options")
WAY = {"checkpoint": str | None, "pretrained": bool, "fingerprint": str}  # keys of ``Input.through``
CHECKED = ("head", "fusion", "main", "tune", "seed")  # target and inputs may also be arrays and other sequences


@dataclass(frozen=True, kw_only=True)
class Input:
    """One input of a task with several.

    Attributes:
        name: Name, a letter or ``_`` followed by letters, digits, ``_`` and ``-``.
        modality: Name of the tokenizer.
        columns: Columns of a table that the input reads, as a sequence or a text with commas. None: the column called
            ``name``, or, where a sample is a row and there is no such column, all columns that no other input reads.
        shares: Name of an input of the same modality whose tokenizer, options and weights included, this input uses,
            and so ``through`` and ``frozen``.
        through: Another frozen backbone that reads the input first, and the bridge from its output to tokens of the
            task's backbone: ``backbone``, its name as in ``load_backbone``; ``bridge``, the name of the bridge, by
            default ``"linear"``; options of the bridge by their names. ``checkpoint`` and ``pretrained`` are the
            arguments of ``load_backbone``; the checkpoint's place is not saved with the task. The tokenizer then starts
            from the stem of that backbone. None: the task's backbone alone reads the input.
        frozen: True if the tokenizer keeps its first weights, random ones where it has no others, and varies nothing in
            training. Where the fusion leaves the inputs apart, what the backbone makes of it is then computed once and
            cached.
        options: Options of the tokenizer, by name; none where the tokenizer is shared.

    Raises:
        ValueError: If a name, a column, ``through`` or the options cannot be used.

    Example:
        >>> metatx.Input(name="facts", modality="tabular", columns="rooms,area").columns
        ('rooms', 'area')
    """

    name: str
    modality: str
    columns: Sequence[str] | str | None = None
    shares: str | None = None
    through: Mapping[str, Any] | None = None
    frozen: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise ValueError(
                f"An input is called {self.name!r}; expected a letter followed by letters, digits, _ and -, "
                "such as photo. Columns may have any name: --input photo=image:'my photo'."
            )
        _check_modality(self.modality, f"input {self.name}")
        object.__setattr__(self, "columns", _columns(self.name, self.columns))
        object.__setattr__(self, "options", _options(self.options, f"options of input {self.name}"))
        if not isinstance(self.frozen, bool):
            raise ValueError(f"frozen of input {self.name} is {short(self.frozen)}; expected true or false.")
        if self.shares is not None and self.options:
            raise ValueError(
                f"Input {self.name} has options, but shares the tokenizer of {self.shares}; give them to {self.shares}."
            )
        if self.through is not None:
            object.__setattr__(self, "through", _way(self.name, self.through, self.shares))

    def as_json(self) -> dict[str, Any]:
        """The input as an option that is saved with a task."""
        columns = None if self.columns is None else list(self.columns)
        return {**vars(self), "columns": columns, "options": dict(self.options)}


def _way(name: str, through: Any, shares: str | None) -> dict[str, Any]:
    """``through`` with the default bridge. Raises ValueError if it names no backbone, or the tokenizer is shared."""
    texts = ("backbone", "bridge")
    way = {"bridge": "linear", **through} if isinstance(through, Mapping) else {}
    way = {key: str(value) if isinstance(value, Path) else value for key, value in way.items()}
    if not all(isinstance(way.get(key), str) for key in texts):
        raise ValueError(
            f"through of input {name} is {short(through)}; expected the name of a backbone and of a bridge, such as "
            f'{{"backbone": "nano", "bridge": "linear"}}, or --through.{name}.backbone nano.'
        )
    check_types(way, WAY, f"through of input {name}: ")
    _options(way, f"through of input {name}")
    if shares is not None:
        raise ValueError(f"Input {name} shares the tokenizer of {shares}; give through to {shares}, for both.")
    return way


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
        fusion: Name of the fusion of several inputs; like its options and ``main``, no choice for one modality.
        fusion_options: Options of the fusion, by name.
        others: Backbones that read some of several inputs first, by the names that ``Input.through`` has or by
            fingerprint; or a sequence of them, or one. Those that are not given are loaded.
        main: Name of the input whose tokens a head reads that labels places or steps in time; None: the first.
        tune: Part of the backbone that is trained too: ``"frozen"``, nothing; ``"scale"``, a gain of each block's
            attention and MLP; ``"norm"``, LayerNorms of the task's own; ``"lora"``, a low-rank update; ``"full"``, all
            of a copy, which cannot be shared.
        adapter_options: Options of the adapter, by name, as in ``LoraOptions`` or ``ScaleOptions``.
        seed: Seed of the initial weights; None: that of the training, or 0 where a task is only built.

    Raises:
        ValueError: If modality, head, fusion, main, tune, seed or options have a wrong type.

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
    others: Any = None
    main: str | None = None
    tune: str = "frozen"
    adapter_options: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None

    def __post_init__(self) -> None:
        for name in OPTIONS:
            object.__setattr__(self, name, _options(getattr(self, name) or {}, name))
        object.__setattr__(self, "seed", plain_value(self.seed))
        if not isinstance(self.modality, str):
            object.__setattr__(self, "modality", _named(self.modality))
        else:
            _check_modality(self.modality, "the task")
        check_types({name: getattr(self, name) for name in CHECKED}, annotated_types(type(self)))

    @classmethod
    def of(cls, spec: "Modality | TaskSpec", **choices: Any) -> "TaskSpec":
        """A spec from a modality's name, from several inputs, or a spec, with these choices in the place of its own.

        Raises:
            TypeError: If there is no choice of a name; says the nearest one.
            ValueError: If the inputs do not fit together.
        """
        accepted = [each.name for each in fields(cls) if each.name != "modality"]
        for name in choices:
            if name not in accepted:
                raise TypeError(unknown("argument", name, accepted))
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
            added = _options(options, f"options of input {name}")
            inputs[name] = replace(inputs[name], options={**inputs[name].options, **added})
        return tuple(inputs.values())

    @property
    def said(self) -> str:
        """Modality, or the inputs with theirs, for messages."""
        if isinstance(self.modality, str):
            return self.modality
        return ", ".join(f"{input.name} ({input.modality})" for input in self.several)


AnySpec = Modality | TaskSpec


def _check_modality(modality: Any, what: str) -> None:
    """Refuse what is no name. Raises ValueError; a name that is not known is refused where its class is looked up."""
    if not isinstance(modality, str) or modality == COMPOSITE:
        choices = ", ".join(names("tokenizers"))
        raise ValueError(f"The modality of {what} is {short(modality)}; expected the name of one: {choices}.")


def _options(options: Any, what: str) -> dict[str, Any]:
    """Options as a dict. Raises ValueError if they are none."""
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise ValueError(f"{what} is {short(options)}; expected options by name, such as {{'patch_size': 16}}.")
    return dict(options)


def _columns(name: str, columns: Any) -> tuple[str, ...] | None:
    """Names of the columns of an input. Raises ValueError if they cannot be used."""
    if columns is None:
        return None
    parts = [part.strip() for part in columns.split(",")] if isinstance(columns, str) else columns
    if isinstance(parts, Mapping | Set) or not isinstance(parts, Iterable):  # a set has no order
        raise ValueError(f"columns of input {name} is {short(columns)}; expected names of columns.")
    found = tuple(parts)
    if not found or not all(isinstance(part, str) and part for part in found) or len(set(found)) < len(found):
        raise ValueError(f"columns of input {name} is {short(columns)}; expected names of columns, each once.")
    return found


def _named(modality: Any) -> dict[str, Input]:
    """Inputs by name.

    Raises:
        ValueError: If there is none, one is not named as its key, two have the same name but for capitals, one shares
            with none, or one reads what another does.
    """
    if isinstance(modality, Mapping):
        given = [each if isinstance(each, Input) else Input(name=key, modality=each) for key, each in modality.items()]
        keys = list(modality)
    elif isinstance(modality, Sequence) and all(isinstance(each, Input) for each in modality):
        given = list(modality)
        keys = [each.name for each in given]
    else:
        choices = ", ".join(names("tokenizers"))
        raise ValueError(
            f"modality is {short(modality)}; expected a TaskSpec, inputs by name as in {{'photo': 'image'}}, a "
            f"sequence of metatx.Input, or one of {choices}."
        )
    if not given:
        raise ValueError("There is no input; name at least one, such as {'photo': 'image'}.")
    folded: dict[str, str] = {}
    for key, input in zip(keys, given, strict=True):
        if key != input.name:
            raise ValueError(f"The input given as {key!r} is called {input.name}; give it one name.")
        other = folded.setdefault(input.name.casefold(), input.name)
        if other != input.name or keys.count(key) > 1:
            raise ValueError(f"Two inputs are called {other} and {input.name}; give them different names.")
    inputs = {input.name: input for input in given}
    for input in given:
        _check_shares(input, inputs)
    check_readers(inputs.values())
    return inputs


def _check_shares(input: Input, inputs: Mapping[str, Input]) -> None:
    """Refuse an input that shares with none of the inputs. Raises ValueError."""
    if input.shares is None:
        return
    owner = inputs.get(input.shares) if isinstance(input.shares, str) else None
    if owner is None or owner.shares or owner.modality != input.modality or owner is input:
        raise ValueError(
            f"Input {input.name} ({input.modality}) shares the tokenizer of {input.shares!r}; expected another "
            f"input of the modality {input.modality} that has its own."
        )


def check_readers(inputs: Iterable[Input]) -> None:
    """Refuse inputs that read the same column, or of which one is called as a column of another: a row names both.

    Raises:
        ValueError: If there are such inputs.
    """
    readers: dict[str, str] = {}
    inputs = list(inputs)
    for input in inputs:
        for column in input.columns or (input.name,):
            if column in readers:
                raise ValueError(
                    f"Column {column} is read by {readers[column]} and by {input.name}; give it to one of them."
                )
            readers[column] = input.name
    for input in inputs:
        reader = readers.get(input.name, input.name)
        if reader != input.name:
            raise ValueError(
                f"Input {input.name} is called as the column {input.name}, which {reader} reads; call it otherwise."
            )
