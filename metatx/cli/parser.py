"""Parsers of the ``metatx`` command and of scripts, from typed functions."""

import argparse
import difflib
import itertools
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NoReturn, get_origin

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, DefaultHelpFormatter  # type: ignore[attr-defined]

from metatx import __version__
from metatx.annotations import in_words
from metatx.cli.completion import SHELLS, completion_action
from metatx.errors import short
from metatx.registry import lookup, names, unknown

__all__ = ["Parser", "command_parser", "flags_of", "lists_of", "normalise_argv", "plain_texts", "shown_fusion"]

# Parts of jsonargparse's messages.
KEY = re.compile(r'Parser key "([\w.]+)"')
VALUE = re.compile(r"(?:Got|Given) value: (.*)", re.DOTALL)
UNKNOWN = re.compile(r"unrecognized arguments: .*?(--[^\s=]+)", re.DOTALL)
ARGUMENT = re.compile(r"argument --[\w.]+")

# Groups of options in the help, in order; options that no group names are of the training.
GROUPS = {
    "data": (
        *("data", "modality", "target", "inputs", "input", "validation", "test"),
        *("split_column", "csv", "skip_bad_samples"),
    ),
    "model": (
        *("head", "tokenizer", "through", "fusion", "main"),
        *("backbone", "tune", "adapter", "head_options", "fusion_options"),
        *("start", "checkpoint", "pretrained", "plugin"),
    ),
    "training": (),
    "output": ("out", "resume", "baseline", "track", "tensorboard", "checkpoint_seconds", "checkpoint_steps", "config"),
}
GROUPED = ("train", "tune", "compare")  # commands with so many options that groups help
INPUTS = "(--modality MODALITY | --input NAME=MODALITY ...)"
OF_INPUT = re.compile(
    r"(?P<input>--(?:tokenizer|through)\.[^.]+)(?:\.(?P<option>[^.]+))?"
)  # such as --tokenizer.photo.bins
NEGATED = {"random_backbone": "pretrained", "no_baseline": "baseline"}  # former names of options, by today's
OPPOSITE = {"true": "false", "false": "true"}
HEAD_OPTIONS = "head-options"  # name of the options of the head, as ``main`` gives them to the parser
LISTED = ("--input", "--where", "--index")  # options that are given once for each of several values
ASKED = ("predict", "embed")  # commands that take a task, and inputs in any number


def normalise_argv(words: Sequence[str], flags: frozenset[str], listed: Collection[str] = LISTED) -> list[str]:
    """Words as the parser takes them: underscores in names, each flag with its value, ``--no-NAME`` as ``NAME=false``.

    Several ``--input`` become one, with a list, as do several ``--where``; all ``--tokenizer.INPUT.OPTION`` of an input
    become one, with an object. ``-k`` is short for ``--k``.

    Args:
        words: Arguments of the command line.
        flags: Names of the options that are true or false, as ``flags_of`` gives them.
        listed: Options that are given once for each of several values.

    Raises:
        ValueError: If the value of a negated flag is neither true nor false.
    """
    whole = ["--k" if word == "-k" else word for word in words]
    for name in listed:
        whole = _listed(whole, name)
    remaining = _by_input(whole)
    normalised = []
    while remaining:
        word = remaining.pop(0)
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            name, negated = _positive(name.replace("-", "_"), flags)
            if name in flags:
                if not equals:
                    value = remaining.pop(0) if remaining and remaining[0].lower() in OPPOSITE else "true"
                if negated and value.lower() not in OPPOSITE:
                    raise ValueError(f"{word}: the value is true or false.")
                value = OPPOSITE[value.lower()] if negated else value
                equals = "="
            word = f"--{name}{equals}{value}"
        normalised.append(word)
    return normalised


def plain_texts(words: Sequence[str]) -> dict[str, str]:
    """Options of the head that are texts such as ``Answer: (.*)``, by name, which the parser takes for objects."""
    texts: dict[str, str] = {}
    for word, following in itertools.pairwise([*words, ""]):
        name, equals, value = word.partition("=")
        text = value if equals else following
        if name.startswith(f"--{HEAD_OPTIONS}.") and text[:1] not in ("{", "["):
            with suppress(yaml.YAMLError):
                if isinstance(yaml.safe_load(text), dict | list):
                    texts[name.partition(".")[2].replace("-", "_")] = text
    return texts


def _listed(words: Sequence[str], name: str) -> list[str]:
    """Words with all options ``name`` as one, whose value is a list in JSON."""
    others: list[str] = []
    lines: list[str] = []
    previous = ""
    for word, following in itertools.pairwise([*words, "--"]):
        if word.startswith(f"{name}="):
            lines.append(word.removeprefix(f"{name}="))
        elif previous == name and not word.startswith("--"):
            lines.append(word)
        elif word != name or following.startswith("--"):  # without a value the parser refuses it
            others.append(word)
        previous = word
    return [*others, f"{name}={json.dumps(lines, ensure_ascii=False)}"] if lines else others


def _by_input(words: Sequence[str]) -> list[str]:
    """Words with all options of two levels of an input as one, whose value is an object in JSON.

    Of three such options the parser would keep two.
    """
    others: list[str] = []
    objects: dict[str, dict[str, Any]] = {}
    remaining = list(words)
    while remaining:
        word = remaining.pop(0)
        name, equals, text = word.partition("=")
        match = OF_INPUT.fullmatch(name)
        value = _value(text if equals else remaining[0]) if match and (equals or remaining) else None
        if match is None or not (equals or remaining) or not (match["option"] or isinstance(value, dict)):
            others.append(word)
            continue
        if not equals:
            remaining.pop(0)
        options = objects.setdefault(match["input"], {})
        if match["option"]:
            options[match["option"].replace("-", "_")] = value
        elif isinstance(value, dict):
            options |= value
    texts = {name: json.dumps(options, ensure_ascii=False, default=str) for name, options in objects.items()}
    return [*others, *(f"{name}={text}" for name, text in texts.items())]


def _value(word: str) -> Any:
    """Value that a word says: a number, true, a list; or the word itself."""
    for parsed in (json.loads, yaml.safe_load):
        with suppress(ValueError, yaml.YAMLError):
            return parsed(word)
    return word


def shown_fusion(words: Sequence[str]) -> str | None:
    """Name of the fusion whose options the help shows; None without ``--help`` or the name of a fusion."""
    given = [
        word.partition("=")[2] or following
        for word, following in itertools.pairwise([*words, ""])
        if word.partition("=")[0] == "--fusion"
    ]
    return given[0] if given and given[0] in names("fusions") and {"--help", "-h"} & set(words) else None


def _positive(name: str, flags: frozenset[str]) -> tuple[str, bool]:
    """Name of an option, without the ``no_`` of a negated flag; True if there was one."""
    positive = NEGATED.get(name, name.removeprefix("no_"))
    return (positive, True) if name not in flags and positive != name and positive in flags else (name, False)


def flags_of(parser: ArgumentParser) -> frozenset[str]:
    """Names of the options that are true or false, with underscores."""
    options = (action for action in parser._actions if action.option_strings)
    return frozenset(action.dest for action in options if isinstance(action.default, bool))


def lists_of(parser: ArgumentParser) -> list[str]:
    """Options of a parser that are given once for each of several values; a script may use their names otherwise."""
    options = {name: action for action in parser._actions for name in action.option_strings}
    return [name for name in LISTED if name in options and "list" in str(getattr(options[name], "_typehint", ""))]


class PlainHelp(DefaultHelpFormatter):
    """Help without markup; it says types in words, and defaults only where there is one."""

    def format_help(self) -> str:
        """Format the help, without the backticks of docstrings."""
        text: str = super().format_help()
        return text.replace("``", "")

    def _get_help_string(self, action: argparse.Action) -> str:
        kind = _kind(action)
        default = ",".join(map(str, action.default)) if isinstance(action.default, list | tuple) else action.default
        details = ["required"] if action.required else []
        if kind not in (None, bool) and get_origin(kind) is not Literal:  # those are shown as {a,b}
            details.append(_expected(kind).removeprefix("a "))
        if action.option_strings and not any(default is nothing for nothing in (None, False, argparse.SUPPRESS)):
            details += [f"default: {'true' if default is True else default}"] if default != "" else []
        return f"{action.help or ''} ({', '.join(details)})" if details else action.help or ""


class Parser(ArgumentParser):
    """Parser whose help and errors are plain words, with names of options as people write them.

    Errors are raised as ``ArgumentError``. The help shows names with dashes, and flags that are false by default
    without a value. A name is not completed: the beginning of an option is no option.
    """

    def __init__(self, *given: Any, **options: Any) -> None:
        fixed = {"formatter_class": PlainHelp, "exit_on_error": False, "print_config": None, "allow_abbrev": False}
        super().__init__(*given, **{**options, **fixed})

    def format_help(self, *given: Any, **options: Any) -> str:
        """Return the help; the parser then parses no more, as its options have the names that are shown."""
        for action in self._actions:
            if action.dest in ("head_options", "fusion_options"):  # people write --head.NAME
                action.help = argparse.SUPPRESS
            if action.default is False:
                action.metavar = ""
            elif _kind(action) == bool | None:
                action.metavar = "{true,false}"
            action.option_strings = [
                _with_dashes(name) for name in action.option_strings if name.startswith("--") and name[-1] != "+"
            ]
        text: str = super().format_help(*given, **options)
        return text

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise ``ArgumentError``: the option, what was found, what is expected; the nearest of an unknown option."""
        key = KEY.search(message)
        value = VALUE.search(message)
        option = UNKNOWN.search(message)
        if key and value:
            for action in self._actions:
                if action.dest == key[1] and _kind(action) is not None:
                    message = f"{_shown(action)} is {short(value[1])}; expected {_expected(_kind(action))}."
        elif option:
            shown = [_shown(action) for action in self._actions if action.option_strings]
            message = _unknown_option(_with_dashes(option[1]), shown)
        super().error(ARGUMENT.sub(lambda found: _with_dashes(found[0]), message), ex)


def _kind(action: argparse.Action) -> Any:
    """Annotated type of an option; None if it has none."""
    return getattr(action, "_typehint", None) or action.type  # jsonargparse keeps all but the simplest types there


def _expected(kind: Any) -> str:
    """Type in words, without null, which nobody gives on a command line."""
    return in_words(kind).removesuffix(" or null")


def _shown(action: argparse.Action) -> str:
    """Name of an option as people write it; that of a positional argument as it is."""
    names = [name for name in action.option_strings if name[-1] != "+"]  # jsonargparse's own form of a list
    return _with_dashes(names[-1]) if names else action.dest


def _with_dashes(name: str) -> str:
    return name.replace("fusion_options.", "fusion.").replace("_", "-")


def _unknown_option(name: str, options: Sequence[str]) -> str:
    """Message on an unknown option: the nearest; and where it is one of a component, all that the component has."""
    part, dot, _ = name.partition(".")
    siblings = [option for option in options if dot and option.startswith(f"{part}.")]
    if siblings:
        return unknown("option", name, siblings)
    near = difflib.get_close_matches(name[2:], [option[2:] for option in options], n=1)
    return f"Unknown option {name}. {f'Did you mean --{near[0]}? ' if near else ''}--help lists all."


class ConfigFile(ActionConfigFile):
    """Option that reads a ``config.yaml``, also one with the names that options had before."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        """Read the file into ``cfg``."""
        options: Any = None
        with suppress(OSError, ValueError, yaml.YAMLError):  # the base class reports them
            options = yaml.safe_load(Path(values).read_text())
        former = [name for name in NEGATED if isinstance(options, dict) and isinstance(options.get(name), bool)]
        if former:
            negated = {NEGATED[name]: not options.pop(name) for name in former}
            values = yaml.safe_dump({**options, **negated})
        super().__call__(parser, cfg, values, option_string)  # type: ignore[no-untyped-call]


def command_parser(
    commands: Mapping[str, Callable[..., None]], fusion: str | None = None
) -> tuple[Any, frozenset[str]]:
    """A parser with one subcommand a function, and the names of the options that are true or false.

    Options, defaults and help come from the functions' signatures and docstrings.

    Args:
        commands: Functions by the names of the subcommands.
        fusion: Name of a fusion whose options are shown one by one.
    """
    parser = Parser(
        prog="metatx",
        description="One frozen transformer for many tasks over many kinds of data.",
        epilog="--debug, with any command, shows the traceback of an error. --no-NAME says --NAME false.",
    )
    parser.add_argument("--version", action="version", version=f"metatx {__version__}")
    help_ = "Print a script that completes commands and options: source <(metatx --print-completion bash)."
    parser.add_argument("--print_completion", action=completion_action(_with_dashes), choices=SHELLS, help=help_)
    added = parser.add_subcommands(metavar="COMMAND", title="commands", required=False)
    flags: set[str] = set()
    for name, function in commands.items():
        summary = (function.__doc__ or "").partition("\n")[0]
        usage = f"metatx {name} DATA {INPUTS} [OPTION ...]" if name in GROUPED else None
        command = Parser(description=summary, usage=usage)
        if name in GROUPED:
            _add_groups(command, name, function, fusion)
        else:
            _add_options(command, name, function)
        flags |= flags_of(command)
        added.add_subcommand(name, command, help=summary)
    return parser, frozenset(flags)


def _add_groups(command: Any, name: str, function: Callable[..., None], fusion: str | None) -> None:
    """Add a function's options, each to its group; and the options of a fusion, where one is given."""
    found = ArgumentParser().add_function_arguments(function, as_group=False, skip={"config"})
    named = {option for options in GROUPS.values() for option in options}
    for title, options in GROUPS.items():
        group = command.add_argument_group(title)
        kept = set(options) if options else set(found) - named
        skipped = {"config", *found} - (kept - {"config"})
        if fusion is not None:
            skipped.add("fusion_options")
        group.add_function_arguments(function, as_group=False, as_positional=True, skip=skipped)
        if "plugin" in options:
            _add_plugin(group)
        if "config" in options and name == "train":
            group.add_argument("--config", action=ConfigFile, help="A config.yaml, to run it again.")
        if "fusion" in options and fusion is not None:
            kind = lookup("fusions", fusion)
            group = command.add_argument_group(f"options of --fusion {fusion}")
            group.add_class_arguments(kind, "fusion_options", as_group=False, skip={"dim"})


def _add_options(command: Any, name: str, function: Callable[..., None]) -> None:
    """Add a function's options, those that are positional for people first."""
    skip = {"config", "plugin"}
    if name in ASKED:
        command.add_argument("task", type=str, help="Folder of the task, or hf:user/task on the hub.")
        command.add_argument("inputs", type=str, nargs="+", help="Tables, files or folders of samples.")
        skip |= {"task", "inputs"}
    if name == "list":
        kinds = ("tokenizers", "heads", "fusions", "bridges", "objectives", "backbones")
        command.add_argument("what", nargs="?", choices=kinds, help="One of the six; all where none is named.")
        skip |= {"what"}
    command.add_function_arguments(function, as_group=False, as_positional=True, skip=skip)
    _add_plugin(command)


def _add_plugin(parser: Any) -> None:
    parser.add_argument("--plugin", type=str, help="A Python file with tokenizers and heads of your own.")
