"""Completion of the command line in shells."""

import argparse
from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal, get_args, get_origin

__all__ = ["SHELLS", "completion_action"]

SHELLS = ("bash", "zsh", "tcsh")
# Arguments that name files or folders; "--data" of a script too.
FILES = (
    *("data", "inputs", "task", "index", "out", "config", "plugin", "start", "checkpoint", "validation", "test"),
    *("alignment", "tasks"),
)


def completion_action(shown: Callable[[str], str]) -> type[argparse.Action]:
    """Action of ``--print-completion``, which prints the script of a shell and ends.

    Args:
        shown: Function from the name of an option to the name that people write.
    """

    class PrintCompletion(argparse.Action):
        def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
            try:
                shtab: Any = import_module("shtab")
            except ImportError:
                raise ImportError("The completion of a shell is written by shtab: pip install shtab") from None
            _prepare(parser, shown, shtab.FILE)
            print(shtab.complete(parser, values))
            parser.exit()

    return PrintCompletion


def _prepare(parser: Any, shown: Callable[[str], str], files: Any) -> None:
    """Give the options of a parser and its commands the names that people write, and their values."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _prepare(command, shown, files)
            continue
        action.option_strings = [
            shown(name) for name in action.option_strings if name.startswith("--") and name[-1] != "+"
        ]
        kinds = [getattr(action, "_typehint", None)]
        kinds += get_args(kinds[0])
        values = [value for kind in kinds if get_origin(kind) is Literal for value in get_args(kind)]
        if action.dest in FILES:
            action.complete = files
        elif values and not action.choices:
            action.choices = values
