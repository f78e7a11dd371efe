"""What a run says while it works: a bar on a terminal and in a notebook, a line now and then elsewhere."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Any

__all__ = ["bar", "tell"]

SILENT = 30.0  # seconds without a line


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
    """``items`` behind a progress bar, on a terminal and in a notebook; elsewhere with a line every 30 seconds."""
    from tqdm.auto import tqdm

    if _in_notebook() or sys.stderr.isatty():
        return tqdm(items, desc=what, leave=False)
    return _with_lines(items, what)


def _with_lines(items: Iterable[Any], what: str) -> Iterator[Any]:
    started = told = time.perf_counter()
    total = f" of {len(items):,}" if isinstance(items, Sized) else ""
    for number, item in enumerate(items):
        now = time.perf_counter()
        if now - told > SILENT:
            told = now
            tell(f"{what}: {number:,}{total}, {now - started:.0f} s")
        yield item


class _Lines(logging.Handler):
    """Lines on stderr, above a bar that is drawn there."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stderr)


def _in_notebook() -> bool:
    """Whether a Jupyter kernel runs this."""
    shell = sys.modules.get("IPython")
    return shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell"
