"""The ``metatx`` command: every option comes from the signature of a function in this folder."""

import os
import signal
import sys
from collections.abc import Callable

from metatx.cli.answering import embed, evaluate, predict
from metatx.cli.showing import info, list_, quickstart
from metatx.cli.training import compare, train
from metatx.errors import Stopped
from metatx.serving.command import serve

__all__ = ["main"]

PIPE_CLOSED = 141  # 128 and the signal's number, as a shell has it; not every system knows the signal

COMMANDS: dict[str, Callable[..., None]] = {
    "train": train,
    "compare": compare,
    "evaluate": evaluate,
    "predict": predict,
    "embed": embed,
    "list": list_,
    "info": info,
    "serve": serve,
    "quickstart": quickstart,
}


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; errors of the user's are one line on stderr and exit code 2."""
    words = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in words
    from jsonargparse import ArgumentError

    from metatx.cli.parser import command_parser, normalise_argv
    from metatx.registry import load_plugin

    parser, flags = command_parser(COMMANDS)
    try:
        asked = normalise_argv([word for word in words if word != "--debug"], flags)
        values = parser.parse_args(asked).as_dict()
        command = values["subcommand"]
        if command is None:
            parser.print_help()
            return
        chosen = values[command]
        plugin = chosen.pop("plugin")
        chosen.pop("config", None)
        if command == "serve":  # every replica imports it
            chosen["plugin"] = plugin
        elif plugin is not None:
            load_plugin(plugin)
        if command == "train":
            chosen["config"] = {"plugin": plugin, **{k: v for k, v in chosen.items() if k not in ("out", "resume")}}
        COMMANDS[command](**chosen)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has seen enough: | head
        if debug:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still to be written
        sys.exit(PIPE_CLOSED)
    except (ArgumentError, ValueError, TypeError, OSError, ImportError) as error:
        if debug:
            raise
        print("metatx:", *str(error).split(), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as error:
        if debug:
            raise
        stopped = error if isinstance(error, Stopped) else Stopped("Interrupted.", signal.SIGINT, True)
        if stopped.first:
            print(f"metatx: {stopped}", file=sys.stderr)
        sys.exit(128 + stopped.signal)  # as a shell has it
