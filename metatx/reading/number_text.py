"""Numbers in text, parsed in pieces: a list of all words would take many times the memory of the text."""

import re
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from metatx.errors import SampleError
from metatx.reading.bounds import check_bound

__all__ = ["add_numbers", "as_numbers", "batches", "numbers_in", "read_columns"]

PIECE = 1 << 18  # characters of a text that are split into words at once
LINE = 1 << 16  # most characters of a line, which is one point
BATCH = 1 << 18  # characters of the lines that are parsed together
SIGNS = re.compile("[,;#/]")
COMMENTS = ("#", "//", ";")
DECIMAL_COMMA = re.compile(r"(?<=\d),(?=\d)")
# A line of numbers with decimal commas, separated by semicolons or spaces: 0,5;1,25;-3
NUMBER = r"[+-]?\d+(,\d+)?([eE][+-]?\d+)?"
DECIMAL_COMMAS = re.compile(rf"\s*(?=.*\d,\d){NUMBER}([;\s]+{NUMBER})+[;\s]*")


def add_numbers(numbers: "array[float]", text: str | bytes, at: int = 0) -> int:
    """Append the numbers of a text, from character ``at`` on; return how many. Raises SampleError for words."""
    before = len(numbers)
    try:
        while at < len(text):
            piece = text[at : at + PIECE]
            if at + PIECE < len(text):  # cut at a space, not within a number
                cut = piece.rsplit(None, 1)
                piece = piece[: len(piece) - len(cut[1])] if len(cut) == 2 and not piece[-1:].isspace() else piece
                if len(cut) < 2 and cut == [piece]:
                    raise SampleError(f"it holds a word of more than {PIECE:,} characters; expected numbers")
            numbers.extend(map(float, piece.split()))
            at += len(piece)
    except ValueError as error:
        if isinstance(error, SampleError):
            raise
        raise SampleError(f"it holds words: {str(error):.80}") from None
    return len(numbers) - before


def numbers_in(text: str | bytes, at: int = 0) -> np.ndarray:
    """Numbers of a text, from character ``at`` on, float64 (N,). Raises SampleError for words."""
    numbers = array("d")
    add_numbers(numbers, text, at)
    return as_numbers(numbers)


def as_numbers(numbers: "array[float]") -> np.ndarray:
    """View of the same memory as float64 (N,)."""
    return np.frombuffer(numbers) if numbers else np.empty(0)


def batches(path: Path, encoding: str = "utf-8-sig") -> Iterator[list[str]]:
    """Lines of a text file, in lists of some. Raises SampleError if the file is no text."""
    try:
        with path.open(encoding=encoding) as file:
            while lines := file.readlines(BATCH):
                yield lines
    except UnicodeDecodeError:
        raise SampleError("it is no text; expected numbers in columns") from None


def read_columns(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Read columns of numbers (N, C), separated by spaces, commas or semicolons, and their names.

    A first line of words names the columns. Commas are decimal marks if no other reading is possible. A first line
    with a single number is the number of rows, and is skipped.

    Raises:
        SampleError: If the file is no text, its rows differ in length or hold words, or it is beyond the bounds of a
            point cloud.
    """
    decimals = any(any(map(_has_decimal_commas, lines)) for lines in batches(path))
    names: tuple[str, ...] = ()
    numbers = array("d")
    rows = 0
    width = 0
    count = ""  # line that holds the number of rows
    for number, lines in enumerate(batches(path)):
        long = max(map(len, lines))
        if long > LINE:
            raise SampleError(f"it has a line of {long:,} characters; expected one point a line")
        if not number and (words := _spaced(lines[0]).lstrip("#/ ").split()) and not any(map(_is_number, words)):
            names = tuple(word.lower() for word in words)
            lines = lines[1:]
        if decimals:
            lines = [DECIMAL_COMMA.sub(".", line) for line in lines]
        if SIGNS.search("".join(lines)):
            lines = [line for line in map(_spaced, lines) if not line.startswith(COMMENTS)]
        sizes = [size for size in map(len, map(str.split, lines)) if size]
        if sizes and not rows and not count and sizes[0] == 1:
            at = next(i for i, line in enumerate(lines) if line.split())
            count = lines[at]
            lines = lines[at + 1 :]
            sizes = sizes[1:]
        width = width or (sizes[0] if sizes else 0)
        strange = next((row for row, size in enumerate(sizes) if size != width), None) if {*sizes} - {width} else None
        if strange is not None:
            difference = f"row {rows + strange + 1} has {sizes[strange]} columns, the first {width}"
            raise SampleError(f"{difference}; is it truncated?")
        rows += len(sizes)
        check_bound("columns", width, "it")
        check_bound("points", rows, "it")
        add_numbers(numbers, " ".join(lines))
    if count and not rows:  # no row followed: the line was a point itself
        rows = 1
        width = add_numbers(numbers, count)
    return as_numbers(numbers).reshape(rows, width), names if len(names) == width else ()


def _has_decimal_commas(line: str) -> bool:
    return "," in line and len(line) <= LINE and DECIMAL_COMMAS.fullmatch(line) is not None


def _spaced(line: str) -> str:
    """Line with spaces for commas and semicolons; a semicolon in front begins a comment and stays."""
    line = line.replace(",", " ").strip()
    return line if line.startswith(COMMENTS) else line.replace(";", " ").strip()


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
