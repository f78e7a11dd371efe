"""Messages and progress of a run: a bar on a terminal and in a notebook, elsewhere a line every 30 seconds."""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any

__all__ = ["bar", "tell", "told_as"]

SILENT = 30.0  # seconds without a line


def tell(message: str) -> None:
    """Report one line through the logger ``metatx``; it appears on stderr unless the program configures logging.

    Use it for what is no error but should be known: boxes that were clipped, files that were left out, the numbers of
    an epoch. ``logging.getLogger("metatx").setLevel("ERROR")`` silences it.
    """
    logger = logging.getLogger("metatx")
    if not logger.hasHandlers():
        logger.addHandler(_Lines())
        logger.propagate = False
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
    logger.info(message)


@contextmanager
def told_as(change: Callable[[str], str | None]) -> Iterator[None]:
    """Change the lines that are told in the block, such as those of a part that does not know its name in the whole.

    Lines for which ``change`` returns None are not told.
    """
    logger = logging.getLogger("metatx")

    def changed(record: logging.LogRecord) -> bool:
        line = change(record.msg)
        record.msg = line or ""
        return line is not None

    logger.addFilter(changed)
    try:
        yield
    finally:
        logger.removeFilter(changed)


def bar(items: Iterable[Any], what: str) -> Any:
    """Iterate over ``items`` with a progress bar on a terminal or in a notebook, elsewhere a line every 30 seconds.

    Args:
        items: Items to iterate over.
        what: Name of the work, shown before the numbers.
    """
    from tqdm.auto import tqdm

    if _in_notebook() or sys.stderr.isatty():
        return tqdm(items, desc=what, leave=False)
    return _with_lines(items, what)


def _with_lines(items: Iterable[Any], what: str) -> Iterator[Any]:
    """Iterate over items, with a line every 30 seconds."""
    started = last_line = time.perf_counter()
    total = f" of {len(items):,}" if isinstance(items, Sized) else ""
    for number, item in enumerate(items):
        now = time.perf_counter()
        if now - last_line > SILENT:
            last_line = now
            tell(f"{what}: {number:,}{total}, {now - started:.0f} s")
        yield item


class _Lines(logging.Handler):
    """Handler that writes lines to stderr, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm.auto import tqdm

        tqdm.write(self.format(record), file=sys.stderr)


def _in_notebook() -> bool:
    """Return whether a Jupyter kernel runs this process."""
    shell = sys.modules.get("IPython")
    return shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell"
