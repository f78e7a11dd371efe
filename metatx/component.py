"""Base class of tokenizers and heads: options of the user, facts learned from data, buffers of float64."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from metatx.disk.task_files import BOUNDS, DEEPEST, PART_DEPTH, check_json, within_bounds
from metatx.errors import short
from metatx.exact import keep_float64
from metatx.registry import all_options, check_facts, checked_options
from metatx.values import plain_value

__all__ = ["Component"]


class Component(nn.Module):
    """Part of a task that is built from options, and learns facts from data.

    A component is made in two steps. ``__init__`` takes options: JSON values that the user chooses, each with a
    default. ``build`` takes facts: JSON values that the training split determines (classes, columns, a vocabulary),
    and makes the layers and buffers whose shape depends on them. The core calls ``fit`` and then ``build`` before
    training, and ``build`` alone when a task is loaded. A component that learns nothing needs neither.

    Statistics are tensors: ``fit`` returns them with the facts, by the names of the buffers (or weights) that hold
    them. ``fit`` changes nothing itself.

    Attributes:
        name: Name in the registry.
        stem: Name of the backbone's stem that ``__init__`` takes as its argument ``stem``, such as "image"; "backbone"
            for the backbone itself; None for no stem.
        stacks: True if a pool may call the components of many tasks at once, as ``Tokenizer`` and ``Head`` say. It is
            not inherited, as a subclass may compute otherwise.
        not_exported: Reason why no graph can be made of it (``metatx export``), for a message; empty if one can.
        tunable: Options that a search for settings varies, each with the values to try; the default is tried too.
        options: Options that the user gave, read-only; defaults are not among them.
        fitted: Facts that ``build`` took, read-only; empty before ``build``.
    """

    name: ClassVar[str] = ""
    stem: ClassVar[str | None] = None
    stacks: ClassVar[bool] = False
    not_exported: str = ""
    tunable: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    options: Mapping[str, Any]
    fitted: Mapping[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Record the options, so that a subclass need not. Raises ValueError if one has a wrong type or value."""
        self = super().__new__(cls)
        options = checked_options(cls, args, kwargs)
        object.__setattr__(self, "options", _ReadOnly("options", options))
        object.__setattr__(self, "fitted", _ReadOnly("fitted", {}))
        return self

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.stacks = vars(cls).get("stacks", False)

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    @classmethod
    def trains(cls, options: Mapping[str, Any]) -> bool:
        """Return False if there are no weights to train with these options, where the backbone has the stem."""
        return True

    def fit(self, samples: Any) -> dict[str, Any]:
        """Learn from the training split: raw samples for a tokenizer, raw targets for a head. ``learn`` calls it.

        Returns:
            Facts and statistics by name: JSON values for ``build``, and tensors for buffers or weights of their names.
        """
        return {}

    def build(self, *args: Any, **fitted: Any) -> None:
        """Make the layers and buffers whose shape depends on what ``fit`` learned; by default there are none.

        A subclass names the facts that it takes, as in ``def build(self, classes: list[str]) -> None``.
        """
        if fitted:
            raise TypeError(f"The {self.name or type(self).__name__} has no build, but was given {', '.join(fitted)}.")

    def learn(self, samples: Any) -> Self:
        """Fit to the training split, build, and fill the buffers; called once, before training.

        Raises:
            ValueError: If ``fit`` raises it; if a fact is missing, unknown or of another type than ``build`` says; if
                a saved task could not hold an option, a fact or a statistic, such as a number beyond its bounds.
            TypeError: If an option or a fact is no JSON value, so that the task could not be saved; if ``fit`` does not
                return a dict, or one of its tensors has no buffer.
        """
        facts, statistics = self.learned(samples)
        self.restore(facts)
        holders = {**dict(self.named_buffers()), **dict(self.named_parameters())}
        for name, value in statistics.items():
            if name not in holders:
                raise TypeError(f"{type(self).__name__}.fit returned the tensor {name!r}, which is no buffer.")
            if value.isnan().any():
                raise ValueError(f"{type(self).__name__}.fit returned the tensor {name!r} with NaN; expected numbers.")
            with torch.no_grad():
                holders[name].copy_(value)
        return self

    def learned(self, samples: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Facts, as a saved task gives them back, and statistics that ``fit`` returns; nothing is built.

        Raises:
            ValueError, TypeError: If ``learn`` raises it.
        """
        self._as_saved("option", all_options(self))
        result = self.fit(samples)
        if not isinstance(result, dict):
            raise TypeError(
                f"{type(self).__name__}.fit returned a {type(result).__name__}; it must return a dict: JSON values "
                "for build, and tensors for the buffers of their names; {} if there is neither."
            )
        statistics = {name: value for name, value in result.items() if isinstance(value, Tensor)}
        facts = {name: value for name, value in result.items() if name not in statistics}
        return self._as_saved("fact", facts), statistics

    def record_options(self, **options: Any) -> None:
        """Replace recorded options, by a component that completes what the user gave."""
        object.__setattr__(self, "options", _ReadOnly("options", {**self.options, **options}))

    def restore(self, fitted: Mapping[str, Any]) -> Self:
        """Build from the facts of a saved task, or from those that the model knows.

        Raises:
            ValueError: If a fact is missing, unknown or of another type, or a saved task could not hold an option.
        """
        self._as_saved("option", all_options(self))
        facts = {name: plain_value(value) for name, value in fitted.items()}
        check_facts(type(self), facts)
        self.build(**facts)
        object.__setattr__(self, "fitted", _ReadOnly("fitted", facts))
        return self

    def _as_saved(self, what: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values as a saved task gives them back, so that a component is the same before and after loading."""
        saved = {}
        for name, value in values.items():
            plain = _with_lists(plain_value(value))
            try:
                saved[name] = json.loads(json.dumps(plain, allow_nan=False))
            except (TypeError, ValueError) as error:
                saved[name] = error
            if saved[name] != plain:
                raise TypeError(
                    f"{type(self).__name__}: the {what} {name!r} is {short(value)}; expected a JSON value: texts, "
                    "finite numbers, true, false, null, lists, objects whose keys are texts. Keep arrays in buffers."
                )
            if not within_bounds(saved[name], nested=what == "option"):  # lists of facts are the data's, such as labels
                raise ValueError(f"{type(self).__name__}: the {what} {name!r} is {short(value)}; expected {BOUNDS}.")
            try:
                check_json(saved[name], DEEPEST - PART_DEPTH)
            except ValueError as error:
                raise ValueError(f"{type(self).__name__}: the {what} {name!r} cannot be saved: {error}.") from None
        return saved

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move or cast the module as ``nn.Module`` does; buffers of float64 are moved, not cast."""
        super()._apply(keep_float64(self, fn), recurse)  # type: ignore[no-untyped-call]
        return self


def _with_lists(value: Any) -> Any:
    """The value with lists for its tuples."""
    if isinstance(value, dict):
        return {key: _with_lists(part) for key, part in value.items()}
    return [_with_lists(part) for part in value] if isinstance(value, list | tuple) else value


class _ReadOnly(Mapping[str, Any]):
    """Read-only mapping; writing to it raises a TypeError that says what to do instead."""

    def __init__(self, name: str, values: dict[str, Any]) -> None:
        self._name = name
        self._values = values

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(self._values)

    def __setitem__(self, key: str, value: Any) -> None:
        raise TypeError(
            f"{self._name} is read-only, so {key!r} cannot be set; fit must return what it learns, and build takes it."
        )
