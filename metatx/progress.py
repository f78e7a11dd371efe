"""What a run says while it works: a bar on a terminal and in a notebook, a line now and then elsewhere."""

import logging
import sys
from collections.abc import Iterable
from typing import Any

__all__ = ["bar", "tell"]


def tell(message: str) -> None:
    """One line to the user, through the logger ``metatx``: on stderr, if the program has not set up logging itself.

    For what is not wrong, but should be known: boxes that were clipped, files of other kinds that were left out, the
    numbers of an epoch. ``logging.getLogger("metatx").setLevel("ERROR")`` silences it.
    """
    logger = logging.getLogger("metatx")
    if not logger.hasHandlers():
        logger.addHandler(_Lines())
        logger.propagate = False
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
    logger.info(message)


def bar(items: Iterable[Any], what: str) -> Any:
    """``items`` behind a progress bar, on a terminal and in a notebook."""
    from tqdm.auto import tqdm

    # In a notebook stderr is no terminal, but the bar is a widget.
    return tqdm(items, desc=what, disable=False if _in_notebook() else None, leave=False)


class _Lines(logging.Handler):
    """Lines on stderr, above a bar that is drawn there."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stderr)


def _in_notebook() -> bool:
    """Whether a Jupyter kernel runs this."""
    shell = sys.modules.get("IPython")
    return shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell"
