"""Parsers of the ``metatx`` command and of scripts, from typed functions."""

import argparse
import difflib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, NoReturn, get_origin

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from metatx import __version__
from metatx.annotations import in_words
from metatx.errors import short
from metatx.registry import unknown

__all__ = ["PlainParser", "command_parser", "normalise_argv", "prepare_help"]

# Parts of jsonargparse's messages.
KEY = re.compile(r'Parser key "([\w.]+)"')
VALUE = re.compile(r"(?:Got|Given) value: (.*)", re.DOTALL)
UNKNOWN = re.compile(r"unrecognized arguments: .*?(--[^\s=]+)", re.DOTALL)

# Groups of options in the help, in order; options that no group names are of the training.
GROUPS = {
    "data": (
        *("data", "modality", "target", "inputs", "validation", "test"),
        *("split_column", "csv", "skip_bad_samples"),
    ),
    "model": (
        *("head", "tokenizer", "backbone", "tune", "adapter", "head_options"),
        *("start", "checkpoint", "random_backbone", "plugin"),
    ),
    "training": (),
    "output": ("out", "resume", "no_baseline", "tensorboard", "checkpoint_seconds", "checkpoint_steps", "config"),
}
GROUPED = ("train", "compare")  # commands with so many options that groups help
ASKED = ("predict", "embed")  # commands that take a task, and inputs in any number


class PlainHelp(DefaultHelpFormatter):
    """Help without markup; it says types in words, and defaults only where there is one."""

    def format_help(self) -> str:
        """Format the help, without the backticks of docstrings."""
        text: str = super().format_help()
        return text.replace("``", "")

    def _get_help_string(self, action: argparse.Action) -> str:
        kind = _kind(action)
        default = ",".join(map(str, action.default)) if isinstance(action.default, list | tuple) else action.default
        text = (action.help or "").replace("``", "")
        details = ["required"] if action.required else []
        if kind not in (None, bool) and get_origin(kind) is not Literal:  # those are shown as {a,b}
            details.append(_expected(kind).removeprefix("a "))
        if action.option_strings and not any(default is nothing for nothing in (None, False, argparse.SUPPRESS)):
            details += [f"default: {'true' if default is True else default}"] if default != "" else []
        return f"{text} ({', '.join(details)})" if details else text


class PlainParser(ArgumentParser):
    """Parser whose help and errors are plain words. Errors are raised as ``ArgumentError``."""

    def __init__(self, *args: Any, **options: Any) -> None:
        fixed = {"formatter_class": PlainHelp, "exit_on_error": False, "print_config": None}
        super().__init__(*args, **{**options, **fixed})

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
            message = _unknown_option(option[1], [_shown(each) for each in self._actions if each.option_strings])
        super().error(message, ex)


def _kind(action: argparse.Action) -> Any:
    """Annotated type of an option; None if it has none."""
    return getattr(action, "_typehint", None) or action.type  # jsonargparse keeps all but the simplest types there


def _expected(kind: Any) -> str:
    """Type in words, without null, which nobody gives on a command line."""
    return in_words(kind).removesuffix(" or null")


def _shown(action: argparse.Action) -> str:
    """Name of an option as people write it; that of a positional argument as it is."""
    return _with_dashes(action.option_strings[-1]) if action.option_strings else action.dest


def _with_dashes(name: str) -> str:
    """Name of an option with dashes; that of a component's option, behind a dot, has underscores as in Python."""
    return name if "." in name else "--" + name[2:].replace("_", "-")


def _unknown_option(name: str, options: Sequence[str]) -> str:
    """Message on an unknown option: the nearest; and where it is one of a component, all that the component has."""
    part, dot, _ = name.partition(".")
    siblings = [option for option in options if dot and option.startswith(f"{part}.")]
    if siblings:
        return unknown("option", name, siblings)
    near = difflib.get_close_matches(_with_dashes(name)[2:], [option[2:] for option in options], n=1)
    return f"Unknown option {_with_dashes(name)}. {f'Did you mean --{near[0]}? ' if near else ''}--help lists all."


def normalise_argv(words: Sequence[str], flags: Collection[str], head: str = "head_options") -> list[str]:
    """Words as the parser takes them: underscores in names, flags with a value, ``--head.x`` as ``--head_options.x``.

    Args:
        words: Arguments of the command line.
        flags: Names of the options that may stand without a value, as ``command_parser`` gives them.
        head: Name of the argument that holds the options of the head.
    """
    normalised = []
    for word, following in zip(words, [*words, ""][1:], strict=True):
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            name = name.replace("--head.", f"--{head}.", 1)
            name = "--" + name[2:].replace("-", "_")
            if name in flags and not equals and following not in ("true", "false"):
                equals = "="
                value = "true"
            word = name + equals + value
        normalised.append(word)
    return normalised


def command_parser(commands: Mapping[str, Callable[..., None]]) -> tuple[Any, frozenset[str]]:
    """A parser with one subcommand a function, and the names of the options that may stand without a value.

    Options, defaults and help come from the functions' signatures and docstrings.
    """
    parser = PlainParser(
        prog="metatx",
        description="One frozen transformer for many tasks over many kinds of data.",
        epilog="--debug, with any command, shows the traceback of an error.",
    )
    parser.add_argument("--version", action="version", version=f"metatx {__version__}")
    added = parser.add_subcommands(metavar="COMMAND", title="commands", required=False)
    flags: set[str] = set()
    for name, function in commands.items():
        summary = (function.__doc__ or "").partition("\n")[0]
        usage = f"metatx {name} DATA --modality MODALITY [OPTION ...]" if name in GROUPED else None
        command = PlainParser(description=summary, usage=usage)
        if name in GROUPED:
            _add_groups(command, name, function)
        else:
            _add_options(command, name, function)
        flags |= prepare_help(command)
        added.add_subcommand(name, command, help=summary)
    return parser, frozenset(flags)


def _add_groups(command: Any, name: str, function: Callable[..., None]) -> None:
    """Add a function's options, each to its group."""
    found = ArgumentParser().add_function_arguments(function, as_group=False, skip={"config"})
    named = {option for options in GROUPS.values() for option in options}
    for title, options in GROUPS.items():
        group = command.add_argument_group(title)
        kept = set(options) if options else set(found) - named
        skipped = {"config", *found} - (kept - {"config"})
        group.add_function_arguments(function, as_group=False, as_positional=True, skip=skipped)
        if "plugin" in options:
            _add_plugin(group)
        if "config" in options and name == "train":
            group.add_argument("--config", action="config", help="A config.yaml, to run it again.")


def _add_options(command: Any, name: str, function: Callable[..., None]) -> None:
    """Add a function's options, those that are positional for people first."""
    skip = {"config", "plugin"}
    if name in ASKED:
        command.add_argument("task", type=str, help="Folder of the task, or hf:user/task on the hub.")
        command.add_argument("inputs", type=str, nargs="+", help="Tables, files or folders of samples.")
        skip |= {"task", "inputs"}
    if name == "list":
        kinds = ("tokenizers", "heads", "backbones")
        command.add_argument("what", nargs="?", choices=kinds, help="One of the three; all where none is named.")
        skip |= {"what"}
    command.add_function_arguments(function, as_group=False, as_positional=True, skip=skip)
    _add_plugin(command)


def _add_plugin(parser: Any) -> None:
    parser.add_argument("--plugin", type=str, help="A Python file with tokenizers and heads of your own.")


def prepare_help(parser: Any) -> set[str]:
    """Show names with dashes, and flags without a value; return the flags, which are what is false by default."""
    flags: set[str] = set()
    for action in parser._actions:
        if action.dest == "head_options":  # people write --head.NAME, see ``normalise_argv``
            action.help = argparse.SUPPRESS
            continue
        names = [name for name in action.option_strings if name.startswith("--")]
        if action.default is False:
            flags |= set(names)
            action.metavar = ""
        action.option_strings = [_with_dashes(name) for name in names]
    return flags
