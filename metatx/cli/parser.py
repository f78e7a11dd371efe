"""The parser of the ``metatx`` command, from typed functions."""

from collections.abc import Callable, Mapping
from typing import Any

from metatx import __version__

__all__ = ["command_parser", "normalise_argv"]

FLAGS = (
    "--resume", "--random-backbone", "--no-baseline", "--skip-bad-samples", "--tensorboard", "--shard", "--admin",
    "--watch", "--ray",
)  # fmt: skip


def normalise_argv(words: list[str]) -> list[str]:
    """Words as the parser takes them: dashes in names, flags without a value, ``--head.x`` beside ``--head``."""
    normalise_argv = []
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            if name in FLAGS and not equals and following not in ("true", "false"):
                equals, value = "=", "true"
            name = name.replace("--head.", "--head-options.", 1)
            word = "--" + name[2:].replace("-", "_") + equals + value
        normalise_argv.append(word)
    return normalise_argv


def _show_dashes(parser: Any) -> None:
    """In the help, names with dashes, and flags without a value."""
    for action in parser._actions:
        if action.dest == "head_options":  # the parser finds --head_options.NAME by this string
            continue
        action.option_strings = [
            "--" + name[2:].replace("_", "-") for name in action.option_strings if name[:2] == "--"
        ]
        if set(action.option_strings) & set(FLAGS):
            action.metavar = ""


def command_parser(commands: Mapping[str, Callable[..., None]]) -> Any:
    """One subcommand a function; options, defaults and help come from its signature and docstring."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(
        prog="metatx",
        description="One frozen transformer for many tasks over many kinds of data.",
        epilog="--debug, with any command, shows the traceback of an error.",
        exit_on_error=False,
    )
    parser.add_argument("--version", action="version", version=f"metatx {__version__}")
    added = parser.add_subcommands(metavar="COMMAND", title="commands", required=False)
    for name, function in commands.items():
        command = ArgumentParser(description=(function.__doc__ or "").partition("\n")[0], exit_on_error=False)
        if name == "train":
            command.add_argument("--config", action="config", help="A config.yaml, to run it again.")
        if name in ("predict", "embed"):
            command.add_argument("task", type=str, help="Folder of the task, or hf:user/task on the hub.")
            command.add_argument("inputs", type=str, nargs="+", help="Tables, files or folders of samples.")
        skip = {"config", "plugin", *(("task", "inputs") if name in ("predict", "embed") else ())}
        if name == "list":
            kinds = ("tokenizers", "heads", "backbones")
            command.add_argument("what", nargs="?", choices=kinds, help="One of the three; all where none is named.")
            skip = {"what"}
        command.add_function_arguments(function, as_group=False, as_positional=True, skip=skip)
        command.add_argument("--plugin", type=str, help="A Python file with tokenizers and heads of your own.")
        _show_dashes(command)
        added.add_subcommand(name, command, help=(function.__doc__ or "").partition("\n")[0])
    return parser
