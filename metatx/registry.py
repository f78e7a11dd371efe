"""Registry of tokenizers, heads, fusions, bridges and objectives by name: shipped, users' own, other packages'."""

import ast
import difflib
import inspect
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Literal, TypeVar

from metatx.annotations import annotated_types, check_types
from metatx.values import plain_value

__all__ = [
    *("COMPOSITE", "all_options", "called", "check_facts", "checked_options", "create", "fact_names", "load_plugin"),
    *("lookup", "names", "option_defaults", "option_names", "register_bridge", "register_fusion", "register_head"),
    *("register_objective", "register_tokenizer", "summary", "unknown"),
]

Kind = Literal["tokenizers", "heads", "fusions", "bridges", "objectives"]
Class = TypeVar("Class", bound=type)

UNNAMED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)

COMPOSITE = "inputs"  # tokenizer of several inputs, which is no modality, so that ``names`` does not list it

GIVEN = ("dim", "stem", "other_backbones")  # arguments of components that the core gives: no options

REGISTERED: dict[tuple[str, str], Any] = {}


def register_tokenizer(name: str) -> Callable[[Class], Class]:
    """Return a class decorator that registers a ``Tokenizer`` as modality ``name``.

    Raises:
        TypeError: If the name is no text, as in ``@metatx.register_tokenizer`` without brackets.
        ValueError: If another class has the name.

    Example:
        >>> @metatx.register_tokenizer("pulse")
        ... class PulseTokenizer(metatx.Tokenizer):
        ...     suffixes = (".pulse",)
        >>> metatx.create("tokenizers", "pulse", 192).name
        'pulse'
    """
    return _register("tokenizers", name)


def register_head(name: str) -> Callable[[Class], Class]:
    """Return a class decorator that registers a ``Head`` as ``name``; raises the errors of ``register_tokenizer``.

    Example:
        >>> @metatx.register_head("ranking")
        ... class RankingHead(metatx.Head):
        ...     primary_metric = "ndcg"
        >>> metatx.create("heads", "ranking", 192).primary_metric
        'ndcg'
    """
    return _register("heads", name)


def register_fusion(name: str) -> Callable[[Class], Class]:
    """Return a class decorator that registers a ``Fusion`` as ``name``; raises the errors of ``register_tokenizer``.

    Example:
        >>> @metatx.register_fusion("last_block")
        ... class LastBlockFusion(metatx.Fusion):
        ...     joins = True
        ...     fuse_at = 5
        >>> metatx.create("fusions", "last_block", 192).fuse_at
        5
    """
    return _register("fusions", name)


def register_objective(name: str) -> Callable[[Class], Class]:
    """Return a class decorator that registers an ``Objective`` as ``name``; raises those of ``register_tokenizer``.

    Example:
        >>> @metatx.register_objective("alignment")
        ... class AlignmentObjective(metatx.Objective):
        ...     compares = True
        ...     def compare(self, alignment, left, right, same):
        ...         return (left - right).square().sum(1).mean()
        >>> metatx.create("objectives", "alignment", 192).compares
        True
    """
    return _register("objectives", name)


def register_bridge(name: str) -> Callable[[Class], Class]:
    """Return a class decorator that registers a ``Bridge`` as ``name``; raises the errors of ``register_tokenizer``.

    Example:
        >>> @metatx.register_bridge("first_token")
        ... class FirstTokenBridge(metatx.Bridge):
        ...     token_rms_factor = 0.5
        >>> metatx.create("bridges", "first_token", 192).token_rms_factor
        0.5
    """
    return _register("bridges", name)


def load_plugin(file: str) -> None:
    """Import a user's file that registers classes, as a module whose name cannot be that of a package.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is no Python file.
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
    if not isinstance(name, str) or not name:
        decorator = f"@metatx.register_{kind[:-1]}"
        raise TypeError(f'{decorator} takes the name of the {kind[:-1]}, a text, as in {decorator}("mine").')

    def decorate(cls: Class) -> Class:
        parameters = inspect.signature(cls.__init__).parameters.values()  # type: ignore[misc]
        unnamed = [str(p) for p in parameters if p.kind in UNNAMED]
        if unnamed:
            raise TypeError(f"{cls.__name__} takes {' and '.join(unnamed)}; name each option, so that it can be saved.")
        before = REGISTERED.get((kind, name))
        # A file that runs again (a notebook cell, --plugin) defines its class again, which may replace the former one.
        again = before is not None and (before.__module__, before.__qualname__) == (cls.__module__, cls.__qualname__)
        # A package may decorate a class and also declare it as entry point.
        declared = f"{cls.__module__}:{cls.__qualname__}" in [p.value for p in _entry_points(kind, name)]
        if not again and not declared and name in (*names(kind), COMPOSITE):
            raise ValueError(f"{kind[:-1]} {name!r} exists already; register yours under another name.")
        cls.name = name  # type: ignore[attr-defined]
        REGISTERED[kind, name] = cls
        return cls

    return decorate


def _shipped(kind: Kind) -> list[str]:
    return [module.name for module in iter_modules(import_module(f"metatx.{kind}").__path__)]


def _entry_points(kind: Kind, name: str) -> list[EntryPoint]:
    return [point for point in entry_points(group=f"metatx.{kind}") if point.name == name]


def names(kind: Kind) -> list[str]:
    """Sorted names of all tokenizers (modalities) or heads, without importing any of them.

    Example:
        >>> metatx.names("heads")[:5]
        ['classification', 'detection', 'embedding', 'forecasting', 'generation']
    """
    plugins = [point.name for point in entry_points(group=f"metatx.{kind}")]
    return sorted({*_shipped(kind), *plugins, *(name for k, name in REGISTERED if k == kind)} - {COMPOSITE})


def lookup(kind: Kind, name: str) -> Any:
    """Return the class called ``name``; only the file or the package that defines it is imported.

    Raises:
        ValueError: If there is no such class; names the nearest match and lists the choices.
    """
    if (kind, name) in REGISTERED:
        return REGISTERED[kind, name]
    composite = (kind, name) == ("tokenizers", COMPOSITE)
    if composite or name in _shipped(kind):
        module = import_module(f"metatx.inputs.{COMPOSITE}" if composite else f"metatx.{kind}.{name}")
        exported = module.__all__[0]
        cls = getattr(module, exported)
    else:
        points = _entry_points(kind, name)
        if not points:
            raise ValueError(unknown(kind[:-1], name, names(kind)))
        cls = points[0].load()
    cls.name = name
    REGISTERED[kind, name] = cls
    return cls


def summary(kind: Kind, name: str) -> str:
    """First line of the docstring of the class called ``name``, read from its file where it ships, without an import.

    Example:
        >>> from metatx.registry import summary
        >>> summary("heads", "regression")
        'Head of one or several numbers, which it learns on a standard scale.'
    """
    if (kind, name) in REGISTERED or name not in _shipped(kind):
        text = lookup(kind, name).__doc__
    else:
        spec = find_spec(f"metatx.{kind}.{name}")
        assert spec is not None and spec.origin is not None, "a name that ships is a module's"
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
        assigned = {ast.unparse(node.targets[0]): node.value for node in tree.body if isinstance(node, ast.Assign)}
        classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        text = ast.get_docstring(classes[ast.literal_eval(assigned["__all__"])[0]])
    return (text or "").strip().partition("\n")[0]


def create(kind: Kind, name: str, dim: int, **options: Any) -> Any:
    """Build the tokenizer or head called ``name`` for a backbone of width ``dim``.

    Raises:
        ValueError: If the name or an option is unknown, or an option has a wrong type or value.

    Example:
        >>> tokenizer = metatx.create("tokenizers", "text", dim=192, max_tokens=512)
        >>> tokenizer.name, tokenizer.dim
        ('text', 192)
    """
    cls = lookup(kind, name)
    accepted = option_names(cls)
    for option in options:
        if option not in accepted and option not in GIVEN:
            raise ValueError(unknown(f"option of {called(cls)}", option, accepted))
    return cls(dim, **{option: plain_value(value) for option, value in options.items()})


def option_names(cls: type) -> list[str]:
    """Names of the options that a tokenizer or head takes."""
    parameters = inspect.signature(cls.__init__).parameters  # type: ignore[misc]
    return [name for name in parameters if name != "self" and name not in GIVEN]


def fact_names(cls: type) -> list[str]:
    """Names of the facts that the ``build`` of a tokenizer or head takes."""
    parameters = inspect.signature(cls.build).parameters.values()  # type: ignore[attr-defined]
    return [p.name for p in parameters if p.name != "self" and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def unknown(what: str, name: str, choices: list[str]) -> str:
    """Message about an unknown name, with the nearest match and all choices."""
    folded = {choice.casefold(): choice for choice in reversed(choices)}
    near = [folded[match] for match in difflib.get_close_matches(name.casefold(), folded, n=1)]
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return f"Unknown {what} {name!r}. {hint}Choices: {', '.join(choices) or 'none'}."


def all_options(component: Any) -> dict[str, Any]:
    """Options of a component with today's defaults; saved, so that a later default does not change the component."""
    return {**option_defaults(type(component)), **component.options}


def option_defaults(cls: type) -> dict[str, Any]:
    """Defaults of the options of a component, by name."""
    parameters = inspect.signature(cls.__init__).parameters.values()  # type: ignore[misc]
    return {p.name: p.default for p in parameters if p.default is not p.empty and p.name not in GIVEN}


def checked_options(cls: type, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Options among the arguments of a component, as JSON values, checked against the annotations of ``__init__``.

    Raises:
        ValueError: If an option has another type, or is no value of a ``Literal``.
    """
    bound = inspect.signature(cls.__init__).bind_partial(None, *args, **kwargs)  # type: ignore[misc]
    given = list(bound.arguments.items())[1:]
    options = {name: plain_value(value) for name, value in given if name not in GIVEN}
    if options:
        check_types(options, annotated_types(cls.__init__), f"Option of {called(cls)}: ")  # type: ignore[misc]
    return options


def check_facts(cls: type, facts: Mapping[str, Any]) -> None:
    """Check the facts of a component, JSON values by name, against the arguments of ``build`` and their annotations.

    Raises:
        ValueError: If a fact is missing or unknown, or has another type.
    """
    build = cls.build  # type: ignore[attr-defined]
    parameters = list(inspect.signature(build).parameters.values())[1:]
    accepted = fact_names(cls)
    for name in facts:
        if name not in accepted and not any(p.kind is p.VAR_KEYWORD for p in parameters):
            raise ValueError(unknown(f"fact of {called(cls)}", name, accepted))
    for parameter in parameters:
        if parameter.name in accepted and parameter.default is parameter.empty and parameter.name not in facts:
            raise ValueError(f"Fact of {called(cls)}: {parameter.name} is missing; build needs it.")
    check_types(facts, annotated_types(build), f"Fact of {called(cls)}: ")


def called(cls: type) -> str:
    """Name of a component's class in messages, such as "the tabular tokenizer"; that in Python if it has no other."""
    kinds = [kind for (kind, _), registered in REGISTERED.items() if registered is cls]
    return f"the {cls.name} {kinds[0][:-1]}" if kinds else cls.__name__  # type: ignore[attr-defined]
