"""Tables of text (csv and its relatives): which signs they are written with, and what their cells say."""

import codecs
import csv
import gzip
import io
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, Self

from metatx.progress import tell
from metatx.registry import unknown

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Reading", "encoding_of", "opened_text", "read_csv"]

HEAD = 1 << 16  # bytes that show how a file is written
SEP_LINE = re.compile(r"\ufeff?\"?sep=(.)\"?\r?\n")  # by which Excel is told the separator, before the header
CHUNK = 1 << 22  # characters that are searched at once
SEPARATORS = (",", ";", "\t", "|")
BYTE_ORDER_MARKS = {  # those of UTF-32 begin as those of UTF-16 do
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
WESTERN = "cp1252"  # of Windows; Latin-1 but for signs that no text has
NO_VALUE = r"^\s*$"
# What programs write where a number is missing.
NO_NUMBER = r"(?i)^\s*(na|n/a|nan|-nan|null|none|nil|nat|<na>|#n/a|#na|#n/a n/a|[-+]?1\.#(ind|qnan))\s*$"
TRUE_FALSE = r"(?i)^\s*(true|false)\s*$"
DATE = r"^\s*\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T].*)?$"
CODE = r"^\s*[+-]?0\d"  # 007 is no number
DECIMAL_COMMA = r"^\s*[+-]?((\d+|\d{1,3}(\.\d{3})+)(,\d*)?|,\d+)([eE][+-]?\d+)?\s*$"
THOUSANDS = r"^\s*[+-]?\d{1,3}(,\d{3})+\s*$"  # 1,234 may be either
EVEN = 0.9  # share of rows that a separator parts as it parts the header


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What is known of a table before it is read. None: it shows.

    Args:
        texts: Columns whose cells are words, also where all of them look like numbers.
        sep: The sign between two cells of a csv.
        decimal: The sign before the decimals of a number in a csv, ``"."`` or ``","``.
        encoding: Of a csv or json, as Python calls it.
    """

    texts: Collection[str] = ()
    sep: str | None = None
    decimal: Literal[".", ","] | None = None
    encoding: str | None = None

    def __post_init__(self) -> None:
        if self.sep is not None and len(self.sep) != 1:
            raise ValueError(f"sep is {self.sep!r}; a separator is one sign, such as ';' or a tab.")
        if self.decimal not in (None, ".", ","):
            raise ValueError(f"decimal is {self.decimal!r}; choose '.' or ','.")
        if self.encoding is not None:
            try:
                codecs.lookup(self.encoding)
            except LookupError:
                raise ValueError(f"encoding is {self.encoding!r}; choose one of Python's, such as cp1252.") from None

    @classmethod
    def of(cls, options: Mapping[str, Any] | None) -> Self:
        """From options by name, ``sep``, ``decimal`` and ``encoding``. Raises ValueError for a name that is none."""
        known = [field.name for field in fields(cls) if field.name != "texts"]
        for name in options or {}:
            if name not in known:
                raise ValueError(unknown("option of csv files", name, known))
        return cls(**(options or {}))

    def also(self, texts: Iterable[str]) -> "Reading":
        """The same with further columns of words."""
        return replace(self, texts=[*self.texts, *texts])


def read_csv(path: Path, reading: Reading) -> "pd.DataFrame":
    """A csv, plain or gzipped, as a frame of numbers, booleans and texts; decided for each column as a whole.

    An empty cell is missing. So is a word such as NA where all other cells of the column are numbers, dates, or true
    and false; elsewhere it is a word. A column in which a number begins with 0 keeps it, as text.

    Raises:
        ValueError: If the file is damaged, empty, or in an encoding that cannot be told.
    """
    encoding = reading.encoding or encoding_of(path)
    with opened_text(path, encoding) as file:
        said = SEP_LINE.match(file.read(len("\ufeff'sep=;'\r\n")))
    sep = reading.sep or (said[1] if said else separator_of(path, encoding))
    try:
        frame = _parsed(path, encoding, sep, reading.texts, skip=int(said is not None))
    except UnicodeDecodeError:
        if encoding != "utf-8" or reading.encoding:
            raise ValueError(f"it is not written in {encoding}") from None
        # Further down than the bytes by which the encoding was told.
        encoding = WESTERN
        frame = _parsed(path, encoding, sep, reading.texts, skip=int(said is not None))
    if encoding not in ("utf-8", "utf-8-sig"):
        tell(f"{path} is read as {encoding}.")
    if sep != _usual(path):
        tell(f"{path} is read with {sep!r} between its cells.")
    names = [str(name).strip() for name in frame.columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"several columns are called {', '.join(twice)}, but for spaces; rename them")
    nameless = [not name or name.startswith("Unnamed: ") for name in names]
    empty = [unnamed and frame.iloc[:, at].isna().all() for at, unnamed in enumerate(nameless)]
    return _typed(frame.set_axis(names, axis=1).loc[:, [not one for one in empty]], path, reading, sep)


def _parsed(path: Path, encoding: str, sep: str, texts: Collection[str], skip: int) -> "pd.DataFrame":
    """Columns as pandas reads them, ``skip`` lines down: numbers, booleans, or text as it is written, such as 007."""
    import pandas as pd

    # By its path, for of an open file pandas reads a fifth of that in the same time.
    how: dict[str, Any] = {"sep": sep, "encoding": encoding, "compression": "gzip" if _is_gzip(path) else None}
    how["skiprows"] = skip
    names = pd.read_csv(path, nrows=0, **how).columns
    words = {name: str for name in names if str(name).strip() in texts}
    how |= {"keep_default_na": False, "na_values": [""], "low_memory": False}
    frame: pd.DataFrame = pd.read_csv(path, dtype=words, **how)
    if len(frame) and frame.iloc[:, -1].isna().all():
        how["index_col"] = False  # each row may end with a separator where the header does not
        frame = pd.read_csv(path, dtype=words, **how)
    if not frame.index.equals(pd.RangeIndex(len(frame))):
        _check_row_names(frame)
    numbers = [name for name in frame.columns if frame[name].dtype.kind in "iuf" and name not in words]
    if numbers and _may_hold_codes(path, encoding, sep):
        written = pd.read_csv(path, dtype=words | dict.fromkeys(numbers, str), **how)
        for name in numbers:
            if _Cells(written[name]).any_match(CODE):
                frame[name] = written[name]
    return frame


def _check_row_names(frame: "pd.DataFrame") -> None:
    """Tell that cells before the named columns are left out, as R writes the names of rows.

    Raises:
        ValueError: If they are no names of rows: the header then lacks another column's name.
    """
    index = frame.index
    words = index.nlevels == 1 and index.is_unique and index.dtype.kind not in "iufb"
    numbers = index.dtype.kind in "iu" and list(index) == list(range(index[0], index[0] + len(index)))
    if not words and not numbers:
        named, held = len(frame.columns), len(frame.columns) + index.nlevels
        columns = f"{named} column{'s' * (named > 1)}"
        raise ValueError(f"the header names {columns}, and row 1 has {held} cells; write a name for each column")
    tell(f"The rows have a cell more than the header, their name, such as {str(index[0])!r:.40}; it is left out.")


def _may_hold_codes(path: Path, encoding: str, sep: str) -> bool:
    """Whether something in a file begins with 0 and a further digit."""
    code = re.compile(rf"[\n\r\"{re.escape(sep)}]\s*[+-]?0\d")
    with opened_text(path, encoding) as file:
        end = "\n"
        while text := file.read(CHUNK):
            if code.search(end + text):
                return True
            end = (end + text)[-8:]  # a code may lie across two chunks
    return False


def encoding_of(path: Path) -> str:
    """The encoding of a file of text: by its byte order mark, or UTF-8 where that fits, or Windows' western one."""
    head = _head(path)
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if head.startswith(mark):
            return encoding
    if head[1::2].count(0) > len(head) // 4:
        return "utf-16-le"
    if head[::2].count(0) > len(head) // 4:
        return "utf-16-be"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return WESTERN
    return "utf-8"


def separator_of(path: Path, encoding: str) -> str:
    """The sign between the cells of a csv: a comma, unless another parts the header, and the rows more evenly."""
    text = codecs.getincrementaldecoder(encoding)("replace").decode(_head(path))
    even: dict[str, float] = {}
    for sep in SEPARATORS:
        try:
            rows = [row for row in csv.reader(io.StringIO(text), delimiter=sep) if row]
        except csv.Error:
            continue
        body = rows[1:-1] if len(text) > HEAD // 4 else rows[1:]  # the last may be cut
        if rows and len(rows[0]) > 1:
            even[sep] = sum(len(row) == len(rows[0]) for row in body) / len(body) if body else 1.0
    usual = _usual(path)
    best = max(even, key=lambda sep: (even[sep], sep == usual), default=usual)
    # Where the header has another separator only, it may be that of one column of texts.
    return usual if even.get(usual, 0) >= EVEN or even.get(best, 0) < (EVEN if usual in even else 0.5) else best


def _usual(path: Path) -> str:
    """The separator that a file's name promises."""
    return "\t" if path.name.lower().removesuffix(".gz").endswith(".tsv") else ","


def opened_text(path: Path, encoding: str) -> IO[str]:
    """A file of text to read, plain or gzipped."""
    if _is_gzip(path):
        return gzip.open(path, "rt", encoding=encoding, newline="")
    return path.open(encoding=encoding, newline="")


def _is_gzip(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _head(path: Path) -> bytes:
    with gzip.open(path) if _is_gzip(path) else path.open("rb") as file:
        head: bytes = file.read(HEAD)
    return head


def _typed(frame: "pd.DataFrame", path: Path, reading: Reading, sep: str) -> "pd.DataFrame":
    """Columns of numbers as they are, those of text as what they say."""
    frame = frame.reset_index(drop=True)
    commas = reading.decimal == "," or (reading.decimal is None and sep != ",")
    fractions = any(column.dtype.kind == "f" and (column % 1 > 0).any() for _, column in frame.items())
    for name in [name for name in frame.columns if frame[name].dtype.kind not in "iufb"]:
        cells = _Cells(frame[name])
        if name in reading.texts:
            frame[name] = cells.words()
            continue
        known = cells.typed()
        if known is None and commas and cells.all_match(DECIMAL_COMMA) and not cells.any_match(CODE):
            # 1,234 may be a thousand and more, where other columns have points before their decimals.
            if reading.decimal or not fractions or not cells.all_match(f"{THOUSANDS}|^[^,]*$"):
                known = cells.with_decimal_comma()
        if known is not None:
            cells.tell_missing(str(name), path)
        frame[name] = cells.trimmed() if known is None else known
    return frame


class _Cells:
    """The cells of one column of text, those that hold no sign as missing; each different one is looked at once."""

    def __init__(self, column: "pd.Series[Any]") -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        if column.dtype == object:  # booleans with a gap, whole numbers of more than 64 bits
            column = column.map(str, na_action="ignore")
        coded = pa.array(column, pa.large_string(), from_pandas=True).dictionary_encode()
        self.pc, self.codes = pc, coded.indices
        words = coded.dictionary
        self.said = pc.if_else(pc.match_substring_regex(words, NO_VALUE), None, words)
        self.spared = pc.fill_null(pc.match_substring_regex(self.said, NO_NUMBER), False)
        # Without the words that stand for a missing number.
        self.rest = pc.if_else(self.spared, None, self.said)

    def all_match(self, pattern: str) -> bool:
        """Whether all cells match that say something, and there is one."""
        found = self.pc.match_substring_regex(self.rest, pattern)
        return self.rest.null_count < len(self.rest) and bool(self.pc.all(found).as_py())

    def any_match(self, pattern: str) -> bool:
        """Whether one of them does."""
        return bool(self.pc.any(self.pc.match_substring_regex(self.rest, pattern)).as_py())

    def words(self) -> Any:
        """The cells as they are."""
        return self._column(self.said)

    def trimmed(self) -> Any:
        """The cells without the spaces around them, which are the writer's, as in "1, yes": one word, and one class."""
        return self._column(self.pc.utf8_trim_whitespace(self.said))

    def typed(self) -> Any:
        """The cells as numbers, as booleans, or as text where words for missing ones can be told; else None."""
        import pandas as pd

        if self.rest.null_count == len(self.rest):
            # Of two such words, NA and None, each may mean something.
            alike = self.said.null_count >= len(self.said) - 1
            return pd.Series(float("nan"), index=range(len(self.codes))) if alike else None
        # Where no cell stands for a missing one, pandas has looked for numbers.
        numbers = _numbers(self.rest) if self.rest.null_count else None
        if numbers is not None:
            return self._column(self.rest if self.any_match(CODE) else numbers)
        if self.all_match(TRUE_FALSE):
            said = self.pc.utf8_lower(self.pc.utf8_trim_whitespace(self.rest))
            return self._column(self.pc.equal(said, "true"))
        return self._column(self.rest) if self.all_match(DATE) else None

    def with_decimal_comma(self) -> Any:
        """The cells as numbers that are written as 1.234,5 is."""
        plain = self.pc.replace_substring(self.pc.replace_substring(self.rest, ".", ""), ",", ".")
        return self._column(_numbers(plain))

    def tell_missing(self, name: str, path: Path) -> None:
        """Say which words were read as missing."""
        words = self.said.filter(self.spared).to_pylist()
        if words:
            count = self.pc.sum(self.spared.take(self.codes)).as_py()
            said = ", ".join(map(repr, words[:3])) + (", ..." if len(words) > 3 else "")
            tell(f"Column {name}: {said} was read as missing in {count} row{'s' * (count > 1)} of {path}.")

    def _column(self, values: Any) -> Any:
        """What each different cell says, for all cells."""
        return values.take(self.codes).to_pandas()


def _numbers(words: Any) -> Any:
    """The numbers that texts spell; None where one spells none, or a whole one of more than 64 bits."""
    import pandas as pd
    import pyarrow as pa

    texts = pd.Series(words.to_numpy(zero_copy_only=False))
    try:
        numbers = pd.to_numeric(texts)
    except (ValueError, TypeError):
        return None
    if numbers.dtype.kind == "f" and texts[numbers.abs() >= 2.0**63].str.fullmatch(r"\s*[+-]?\d+\s*").any():
        return None
    return pa.array(numbers, from_pandas=True) if numbers.dtype.kind in "iuf" else None
