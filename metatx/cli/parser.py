"""The parser of the ``metatx`` command, from typed functions."""

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from metatx import __version__

__all__ = ["command_parser", "normalise_argv"]

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


def normalise_argv(words: list[str], flags: frozenset[str]) -> list[str]:
    """Words as the parser takes them: underscores in names, flags with a value, ``--head.x`` as ``--head_options.x``.

    Args:
        words: Arguments of the command line.
        flags: Names of the options that may stand without a value, as ``command_parser`` gives them.
    """
    normalised = []
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            name = name.replace("--head.", "--head-options.", 1)
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
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(
        prog="metatx",
        description="One frozen transformer for many tasks over many kinds of data.",
        epilog="--debug, with any command, shows the traceback of an error.",
        exit_on_error=False,
    )
    parser.add_argument("--version", action="version", version=f"metatx {__version__}")
    added = parser.add_subcommands(metavar="COMMAND", title="commands", required=False)
    flags: set[str] = set()
    for name, function in commands.items():
        summary = (function.__doc__ or "").partition("\n")[0]
        usage = f"metatx {name} DATA --modality MODALITY [OPTION ...]" if name in GROUPED else None
        command = ArgumentParser(description=summary, usage=usage, exit_on_error=False, print_config=None)
        if name in GROUPED:
            _add_groups(command, name, function)
        else:
            _add_options(command, name, function)
        flags |= _prepare_help(command)
        added.add_subcommand(name, command, help=summary)
    return parser, frozenset(flags)


def _add_groups(command: Any, name: str, function: Callable[..., None]) -> None:
    """Add a function's options, each to its group."""
    from jsonargparse import ArgumentParser

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


def _prepare_help(parser: Any) -> set[str]:
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
        action.option_strings = ["--" + name[2:].replace("_", "-") for name in names]
    return flags
