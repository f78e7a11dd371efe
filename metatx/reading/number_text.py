"""Numbers that a text spells, in a few times its size of memory: never a list of its words."""

import re
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from metatx.errors import SampleError
from metatx.reading.bounds import check_bound

__all__ = ["add_numbers", "as_numbers", "batches", "numbers_in", "read_columns"]

PIECE = 1 << 18  # signs of a text that are parted into words at once
LINE = 1 << 16  # signs of a line that is one point
BATCH = 1 << 18  # signs of lines that are looked at together
SIGNS = re.compile("[,;#/]")
COMMENTS = ("#", "//", ";")
DECIMAL_COMMA = re.compile(r"(?<=\d),(?=\d)")
# A line of numbers with commas for points, between which there are semicolons or blanks: 0,5;1,25;-3
NUMBER = r"[+-]?\d+(,\d+)?([eE][+-]?\d+)?"
DECIMAL_COMMAS = re.compile(rf"\s*(?=.*\d,\d){NUMBER}([;\s]+{NUMBER})+[;\s]*")


def add_numbers(numbers: "array[float]", text: str | bytes, at: int = 0) -> int:
    """Append the numbers of a text, from a place on; how many there are. Raises SampleError for words."""
    before = len(numbers)
    try:
        while at < len(text):
            piece = text[at : at + PIECE]
            if at + PIECE < len(text):  # up to a space, for a number may lie across
                cut = piece.rsplit(None, 1)
                piece = piece[: len(piece) - len(cut[1])] if len(cut) == 2 and not piece[-1:].isspace() else piece
                if len(cut) < 2 and cut == [piece]:
                    raise SampleError(f"it holds a word of more than {PIECE:,} signs; expected numbers")
            numbers.extend(map(float, piece.split()))
            at += len(piece)
    except ValueError as error:
        if isinstance(error, SampleError):
            raise
        raise SampleError(f"it holds words: {str(error):.80}") from None
    return len(numbers) - before


def numbers_in(text: str | bytes, at: int = 0) -> np.ndarray:
    """The numbers of a text, float64 (N,), from a place on. Raises SampleError for words."""
    found = array("d")
    add_numbers(found, text, at)
    return as_numbers(found)


def as_numbers(found: "array[float]") -> np.ndarray:
    """The same memory as float64 (N,)."""
    return np.frombuffer(found) if found else np.empty(0)


def batches(path: Path, encoding: str = "utf-8-sig") -> Iterator[list[str]]:
    """Lines of a text, some at a time. Raises SampleError if it is none."""
    try:
        with path.open(encoding=encoding) as file:
            while lines := file.readlines(BATCH):
                yield lines
    except UnicodeDecodeError:
        raise SampleError("it is no text; expected numbers in columns") from None


def read_columns(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Numbers in columns (N, C), separated by spaces, commas or semicolons; a first line of words names them.

    Commas are decimal where what is between them leaves no other reading. A first line with one number alone is how
    many there are.

    Raises:
        SampleError: If it is no text, rows differ in length, hold words, or are beyond the bounds of a cloud.
    """
    decimals = any(any(map(_has_decimal_commas, lines)) for lines in batches(path))
    names: tuple[str, ...] = ()
    found, rows, width, count = array("d"), 0, 0, ""
    for number, lines in enumerate(batches(path)):
        long = max(map(len, lines))
        if long > LINE:
            raise SampleError(f"it has a line of {long:,} signs; expected one point a line")
        if not number and (words := _spaced(lines[0]).lstrip("#/ ").split()) and not any(map(_is_number, words)):
            names, lines = tuple(word.lower() for word in words), lines[1:]
        if decimals:
            lines = [DECIMAL_COMMA.sub(".", line) for line in lines]
        if SIGNS.search("".join(lines)):
            lines = [line for line in map(_spaced, lines) if not line.startswith(COMMENTS)]
        sizes = [size for size in map(len, map(str.split, lines)) if size]
        if sizes and not rows and not count and sizes[0] == 1:
            at = next(i for i, line in enumerate(lines) if line.split())
            count, lines, sizes = lines[at], lines[at + 1 :], sizes[1:]
        width = width or (sizes[0] if sizes else 0)
        strange = next((row for row, size in enumerate(sizes) if size != width), None) if {*sizes} - {width} else None
        if strange is not None:
            said = f"row {rows + strange + 1} has {sizes[strange]} columns, the first {width}"
            raise SampleError(f"{said}; is it truncated?")
        rows += len(sizes)
        check_bound("columns", width, "it")
        check_bound("points", rows, "it")
        add_numbers(found, " ".join(lines))
    if count and not rows:
        rows, width = 1, add_numbers(found, count)
    return as_numbers(found).reshape(rows, width), names if len(names) == width else ()


def _has_decimal_commas(line: str) -> bool:
    return "," in line and len(line) <= LINE and DECIMAL_COMMAS.fullmatch(line) is not None


def _spaced(line: str) -> str:
    """Without commas and semicolons between numbers; a semicolon in front is a comment's."""
    line = line.replace(",", " ").strip()
    return line if line.startswith(COMMENTS) else line.replace(";", " ").strip()


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
