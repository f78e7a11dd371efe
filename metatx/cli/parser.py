"""The parser of the ``metatx`` command, from typed functions."""

import argparse
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser  # type: ignore[attr-defined]

from metatx import __version__
from metatx.registry import lookup, names

__all__ = ["Parser", "command_parser", "flags_of", "normalise_argv", "shown_fusion"]

# Groups of options in the help, in order; options that no group names are of the training.
GROUPS = {
    "data": (
        *("data", "modality", "target", "inputs", "input", "validation", "test"),
        *("split_column", "csv", "skip_bad_samples"),
    ),
    "model": (
        *("head", "tokenizer", "fusion", "main", "backbone", "tune", "adapter", "head_options", "fusion_options"),
        *("start", "checkpoint", "pretrained", "plugin"),
    ),
    "training": (),
    "output": ("out", "resume", "baseline", "tensorboard", "checkpoint_seconds", "checkpoint_steps", "config"),
}
GROUPED = ("train", "compare")  # commands with so many options that groups help
INPUTS = "(--modality MODALITY | --input NAME=MODALITY ...)"
NEGATED = {"random_backbone": "pretrained", "no_baseline": "baseline"}  # former names of options, by today's
OPPOSITE = {"true": "false", "false": "true"}
ASKED = ("predict", "embed")  # commands that take a task, and inputs in any number


def normalise_argv(words: Sequence[str], flags: frozenset[str]) -> list[str]:
    """Words as the parser takes them: underscores in names, each flag with its value, ``--no-NAME`` as ``NAME=false``.

    Several ``--input`` become one, with a list.

    Args:
        words: Arguments of the command line.
        flags: Names of the options that are true or false, as ``flags_of`` gives them.

    Raises:
        ValueError: If the value of a negated flag is neither true nor false.
    """
    remaining = _inputs_listed(words)
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


def _inputs_listed(words: Sequence[str]) -> list[str]:
    """Words with all ``--input`` as one, whose value is a list in JSON."""
    others: list[str] = []
    lines: list[str] = []
    previous = ""
    for word, following in itertools.pairwise([*words, "--"]):
        if word.startswith("--input="):
            lines.append(word.removeprefix("--input="))
        elif previous == "--input" and not word.startswith("--"):
            lines.append(word)
        elif word != "--input" or following.startswith("--"):  # without a value the parser refuses it
            others.append(word)
        previous = word
    return [*others, f"--input={json.dumps(lines)}"] if lines else others


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


class Parser(ArgumentParser):
    """Parser whose help shows the names of options with dashes, and flags that are false by default without a value."""

    def format_help(self, *given: Any, **options: Any) -> str:
        """Return the help; the parser then parses no more, as its options have the names that are shown."""
        for action in self._actions:
            if action.dest in ("head_options", "fusion_options"):  # people write --head.NAME
                action.help = argparse.SUPPRESS
            long = [name for name in action.option_strings if name.startswith("--")]
            if action.default is False:
                action.metavar = ""
            action.option_strings = [name.replace("fusion_options.", "fusion.").replace("_", "-") for name in long]
        text: str = super().format_help(*given, **options)
        return text


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
        exit_on_error=False,
    )
    parser.add_argument("--version", action="version", version=f"metatx {__version__}")
    added = parser.add_subcommands(metavar="COMMAND", title="commands", required=False)
    flags: set[str] = set()
    for name, function in commands.items():
        summary = (function.__doc__ or "").partition("\n")[0]
        usage = f"metatx {name} DATA {INPUTS} [OPTION ...]" if name in GROUPED else None
        command = Parser(description=summary, usage=usage, exit_on_error=False, print_config=None)
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
        kinds = ("tokenizers", "heads", "fusions", "backbones")
        command.add_argument("what", nargs="?", choices=kinds, help="One of the four; all where none is named.")
        skip |= {"what"}
    command.add_function_arguments(function, as_group=False, as_positional=True, skip=skip)
    _add_plugin(command)


def _add_plugin(parser: Any) -> None:
    parser.add_argument("--plugin", type=str, help="A Python file with tokenizers and heads of your own.")
