"""Tokenizers and heads by name: what ships, what users register, what other packages bring."""

import difflib
import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Literal, TypeVar

from metatx.values import plain_value

__all__ = ["create", "load_plugin", "lookup", "names", "register_head", "register_tokenizer", "unknown"]

Kind = Literal["tokenizers", "heads"]
Class = TypeVar("Class", bound=type)

_REGISTERED: dict[tuple[str, str], Any] = {}


def register_tokenizer(name: str) -> Callable[[Class], Class]:
    """Class decorator: make a ``Tokenizer`` known as modality ``name``.

    Raises:
        ValueError: If the name is taken by another class, so that nobody's tokenizer is replaced by accident.

    Example:
        >>> @metatx.register_tokenizer("pulse")
        ... class PulseTokenizer(metatx.Tokenizer):
        ...     suffixes = (".pulse",)
        >>> metatx.create("tokenizers", "pulse", 192).name
        'pulse'
    """
    return _register("tokenizers", name)


def register_head(name: str) -> Callable[[Class], Class]:
    """Class decorator: make a ``Head`` known as ``name``. Raises as ``register_tokenizer``.

    Example:
        >>> @metatx.register_head("ranking")
        ... class RankingHead(metatx.Head):
        ...     primary_metric = "ndcg"
        >>> metatx.create("heads", "ranking", 192).primary_metric
        'ndcg'
    """
    return _register("heads", name)


def load_plugin(file: str) -> None:
    """Import a user's file that registers, under a name that does not collide with a package's.

    Raises:
        FileNotFoundError, ValueError: If it is no Python file.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; --plugin takes a Python file.")
    spec = spec_from_file_location(f"metatx_plugin_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python file.")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)


def _register(kind: Kind, name: str) -> Callable[[Class], Class]:
    def decorate(cls: Class) -> Class:
        known = _REGISTERED.get((kind, name))
        # A file that is run again (a notebook cell, --plugin) defines its own class anew: that may replace itself.
        again = known is not None and (known.__module__, known.__qualname__) == (cls.__module__, cls.__qualname__)
        # A package may both decorate a class and name it as its entry point.
        own = f"{cls.__module__}:{cls.__qualname__}" in [p.value for p in _entry_points(kind, name)]
        if not again and not own and name in names(kind):
            raise ValueError(f"{kind[:-1]} {name!r} exists already; register yours under another name.")
        cls.name = name  # type: ignore[attr-defined]
        _REGISTERED[kind, name] = cls
        return cls

    return decorate


def _shipped(kind: Kind) -> list[str]:
    return [module.name for module in iter_modules(import_module(f"metatx.{kind}").__path__)]


def _entry_points(kind: Kind, name: str) -> list[EntryPoint]:
    return [point for point in entry_points(group=f"metatx.{kind}") if point.name == name]


def names(kind: Kind) -> list[str]:
    """Sorted names of all tokenizers (modalities) or heads, without importing any of them.

    Example:
        >>> metatx.names("heads")
        ['classification', 'detection', 'embedding', 'forecasting', 'multilabel', 'regression', 'segmentation']
    """
    plugins = [point.name for point in entry_points(group=f"metatx.{kind}")]
    return sorted({*_shipped(kind), *plugins, *(name for k, name in _REGISTERED if k == kind)})


def lookup(kind: Kind, name: str) -> Any:
    """The class called ``name``; imports only the file or the package that defines it.

    Raises:
        ValueError: If there is none of that name; the message lists the choices and the nearest of them.
    """
    if (kind, name) in _REGISTERED:
        return _REGISTERED[kind, name]
    if name in _shipped(kind):
        module = import_module(f"metatx.{kind}.{name}")
        (exported,) = module.__all__
        cls = getattr(module, exported)
    else:
        points = _entry_points(kind, name)
        if not points:
            raise ValueError(unknown(kind[:-1], name, names(kind)))
        cls = points[0].load()
    cls.name = name
    _REGISTERED[kind, name] = cls
    return cls


def create(kind: Kind, name: str, dim: int, **options: Any) -> Any:
    """Build the tokenizer or head called ``name`` for a backbone of width ``dim``.

    Raises:
        ValueError: If the name, or one of the options, is unknown.

    Example:
        >>> tokenizer = metatx.create("tokenizers", "text", dim=192, max_tokens=512)
        >>> tokenizer.name, tokenizer.dim
        ('text', 192)
    """
    cls = lookup(kind, name)
    accepted = [p for p in inspect.signature(cls.__init__).parameters if p not in ("self", "dim")]
    for option in options:
        if option not in accepted:
            raise ValueError(unknown(f"option of the {name} {kind[:-1]}", option, accepted))
    return cls(dim, **{option: plain_value(value) for option, value in options.items()})


def unknown(what: str, name: str, choices: list[str]) -> str:
    """The sentence for a name that is not there: the nearest match first, then every choice."""
    folded = {choice.casefold(): choice for choice in reversed(choices)}
    near = [folded[found] for found in difflib.get_close_matches(name.casefold(), folded, n=1)]
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return f"Unknown {what} {name!r}. {hint}Choices: {', '.join(choices) or 'none'}."


def all_options(component: Any) -> dict[str, Any]:
    """A component's options with the defaults of today, so that a later change of a default does not change it."""
    parameters = inspect.signature(type(component).__init__).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty and p.name != "stem"}
    return {**defaults, **component.options}


def record_options(component: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Keep what a component was built with, so that the core can save and rebuild it (called from ``__new__``)."""
    bound = inspect.signature(type(component).__init__).bind_partial(component, *args, **kwargs)
    options = {k: plain_value(v) for k, v in list(bound.arguments.items())[1:] if k not in ("dim", "stem")}
    object.__setattr__(component, "options", options)
