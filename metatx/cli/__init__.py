"""``metatx`` command; every option comes from the signature of a function in this folder."""

import os
import re
import signal
import sys
from collections.abc import Callable

from metatx.cli.answering import embed, evaluate, predict
from metatx.cli.compacting import compact
from metatx.cli.diagnosis import doctor
from metatx.cli.explaining import explain_
from metatx.cli.exporting import export
from metatx.cli.indexing import index, search
from metatx.cli.picturing import picture
from metatx.cli.recalling import recall_
from metatx.cli.showing import info, list_, quickstart
from metatx.cli.training import compare_, train
from metatx.cli.tuning import tune_
from metatx.errors import Stopped
from metatx.process import keep_memory, let_threads_sleep
from metatx.serving.command import serve

__all__ = ["main"]

PIPE_CLOSED = 141  # exit code after SIGPIPE in a shell (128 + 13); not every system has the signal

COMMANDS: dict[str, Callable[..., None]] = {
    "train": train,
    "tune": tune_,
    "compare": compare_,  # these functions have names that metatx has not: the parser would look them up there
    "evaluate": evaluate,
    "predict": predict,
    "embed": embed,
    "explain": explain_,
    "export": export,
    "index": index,
    "search": search,
    "compact": compact,
    "picture": picture,
    "recall": recall_,
    "list": list_,
    "info": info,
    "serve": serve,
    "quickstart": quickstart,
    "doctor": doctor,
}
# Commands whose threads sleep while they wait. The server's do not: it lost 2 to 10 % of its requests by it.
COMPUTING = (
    "train",
    "tune",
    "compare",
    "evaluate",
    "predict",
    "embed",
    "explain",
    "index",
    "search",
    "picture",
    "recall",
    "quickstart",
)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; a user's error is one line on stderr and exit code 2."""
    words = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in words
    from jsonargparse import ArgumentError

    from metatx.cli.parser import command_parser, normalise_argv, plain_texts, shown_fusion
    from metatx.registry import load_plugin

    try:
        parser, flags = command_parser(COMMANDS, shown_fusion(words))
        asked = [re.sub(r"^--(head|fusion)\.", r"--\1-options.", word) for word in words if word != "--debug"]
        values = parser.parse_args(normalise_argv(asked, flags)).as_dict()
        command = values["subcommand"]
        if command is None:
            parser.print_help()
            return
        chosen = values[command]
        if chosen.get("head_options"):
            chosen["head_options"] |= plain_texts(asked)
        if command in COMPUTING:
            let_threads_sleep()
            keep_memory()
        plugin = chosen.pop("plugin")
        chosen.pop("config", None)
        if command == "serve":  # every replica imports the plug-in itself
            chosen["plugin"] = plugin
        elif plugin is not None:
            load_plugin(plugin)
        if command in ("train", "tune"):
            chosen["config"] = {"plugin": plugin, **{k: v for k, v in chosen.items() if k not in ("out", "resume")}}
        COMMANDS[command](**chosen)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output has closed it, as ``| head`` does
        if debug:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # swallows the rest of the output
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
        sys.exit(128 + stopped.signal)  # the exit code of a shell
