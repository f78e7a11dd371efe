"""Tables of text (csv, tsv): their encoding and separator, and the types of their columns."""

import codecs
import csv
import gzip
import io
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, Self

from metatx.progress import tell
from metatx.registry import unknown

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SEP_LINE", "Reading", "encoding_of", "opened_text", "read_csv", "separator_of"]

HEAD = 1 << 16  # bytes of a file from which encoding and separator are inferred
SEP_LINE = re.compile(r"\ufeff?\"?sep=(.)\"?\r?\n")  # first line that declares the separator to Excel
CHUNK = 1 << 22  # characters that are searched at once
SEPARATORS = (",", ";", "\t", "|")
BYTE_ORDER_MARKS = {  # UTF-32 before UTF-16: their marks begin alike
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
WESTERN = "cp1252"  # encoding of Windows; equals Latin-1 but for characters that no text contains
NO_VALUE = r"^\s*$"
# Words that programs write where a number is missing.
NO_NUMBER = r"(?i)^\s*(na|n/a|nan|-nan|null|none|nil|nat|<na>|#n/a|#na|#n/a n/a|[-+]?1\.#(ind|qnan))\s*$"
TRUE_FALSE = r"(?i)^\s*(true|false)\s*$"
DATE = r"^\s*\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T].*)?$"
CODE = r"^\s*[+-]?0\d"  # 007 is a code, not a number
DECIMAL_COMMA = r"^\s*[+-]?((\d+|\d{1,3}(\.\d{3})+)(,\d*)?|,\d+)([eE][+-]?\d+)?\s*$"
THOUSANDS = r"^\s*[+-]?\d{1,3}(,\d{3})+\s*$"  # 1,234 may be 1234 or 1.234
EVEN = 0.9  # share of rows that a separator must divide into as many cells as the header


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Options of reading a table; what is None is inferred from the file.

    Args:
        texts: Columns that hold text, also where all of their cells look like numbers.
        files: Columns that may name files, with the suffixes of the files of each; none of these where the cells of the
            column decide. None: any column may, and its cells decide.
        sep: Separator of the cells of a csv, one character.
        decimal: Decimal mark of the numbers in a csv, ``"."`` or ``","``.
        encoding: Encoding of a csv or json, by Python's name.
    """

    texts: Collection[str] = ()
    files: Mapping[str, Sequence[str]] | None = None
    sep: str | None = None
    decimal: Literal[".", ","] | None = None
    encoding: str | None = None

    def __post_init__(self) -> None:
        if self.sep is not None and len(self.sep) != 1:
            raise ValueError(f"sep is {self.sep!r}; a separator is one character, such as ';' or a tab.")
        if self.decimal not in (None, ".", ","):
            raise ValueError(f"decimal is {self.decimal!r}; choose '.' or ','.")
        if self.encoding is not None:
            try:
                codecs.lookup(self.encoding)
            except LookupError:
                raise ValueError(f"encoding is {self.encoding!r}; choose one of Python's, such as cp1252.") from None

    @classmethod
    def of(cls, options: Mapping[str, Any] | None) -> Self:
        """Create from the options ``sep``, ``decimal`` and ``encoding``. Raises ValueError for another name."""
        accepted = [field.name for field in fields(cls) if field.name not in ("texts", "files")]
        for name in options or {}:
            if name not in accepted:
                raise ValueError(unknown("option of csv files", name, accepted))
        return cls(**(options or {}))

    def also(self, texts: Iterable[str]) -> "Reading":
        """Copy with further columns of text."""
        return replace(self, texts=[*self.texts, *texts])


def read_csv(path: Path, reading: Reading) -> "pd.DataFrame":
    """Read a csv, plain or gzipped, as a frame whose columns are numbers, booleans or texts.

    An empty cell is missing. A word such as NA is missing if all other cells of the column are numbers, dates, or true
    and false; in other columns it is a word. A column is text if one of its numbers begins with 0, as codes do.

    Raises:
        ValueError: If the file is damaged or empty, or its encoding cannot be inferred.
    """
    encoding = reading.encoding or encoding_of(path)
    with opened_text(path, encoding) as file:
        sep_line = SEP_LINE.match(file.read(len("\ufeff'sep=;'\r\n")))
    sep = reading.sep or (sep_line[1] if sep_line else separator_of(path, encoding))
    try:
        frame = _parsed(path, encoding, sep, reading.texts, skip=int(sep_line is not None))
    except UnicodeDecodeError:
        if encoding != "utf-8" or reading.encoding:
            raise ValueError(f"it is not written in {encoding}") from None
        # The first bytes were valid UTF-8, but later ones are not.
        encoding = WESTERN
        frame = _parsed(path, encoding, sep, reading.texts, skip=int(sep_line is not None))
    if encoding not in ("utf-8", "utf-8-sig"):
        tell(f"{path} is read as {encoding}.")
    if sep != _usual(path):
        tell(f"{path} is read with {sep!r} between its cells.")
    names = [str(name).strip() for name in frame.columns]
    nameless = [not name or name.startswith("Unnamed: ") for name in names]
    kept = [not (unnamed and frame.iloc[:, at].isna().all()) for at, unnamed in enumerate(nameless)]
    return _typed(frame.set_axis(names, axis=1).loc[:, kept], path, reading, sep)


def _parsed(path: Path, encoding: str, sep: str, texts: Collection[str], skip: int) -> "pd.DataFrame":
    """Columns as pandas reads them behind ``skip`` lines: numbers, booleans, or text as written, such as 007."""
    import pandas as pd

    # pandas reads a path five times as fast as an open file.
    how: dict[str, Any] = {"sep": sep, "encoding": encoding, "compression": "gzip" if _is_gzip(path) else None}
    how["skiprows"] = skip
    _check_header(pd.read_csv(path, nrows=1, header=None, dtype=str, keep_default_na=False, **how))
    names = pd.read_csv(path, nrows=0, **how).columns
    words = {name: str for name in names if str(name).strip() in texts}
    how |= {"keep_default_na": False, "na_values": [""], "low_memory": False}
    frame: pd.DataFrame = pd.read_csv(path, dtype=words, **how)
    if len(frame) and frame.iloc[:, -1].isna().all():
        how["index_col"] = False  # rows may end with a separator that the header lacks
        frame = pd.read_csv(path, dtype=words, **how)
    if not frame.index.equals(pd.RangeIndex(len(frame))):
        _check_row_names(frame)
    numbers = [name for name in frame.columns if frame[name].dtype.kind in "iuf" and name not in words]
    # Columns with a number of more than 64 bits hold Python's integers, which no longer say how they are written.
    large = [name for name in frame.columns if frame[name].dtype == object and int in set(map(type, frame[name]))]
    if large or (numbers and _may_hold_codes(path, encoding, sep)):
        written = pd.read_csv(path, dtype=words | dict.fromkeys([*numbers, *large], str), **how)
        for name in [*numbers, *large]:
            if name in large or _Cells(written[name]).any_match(CODE):
                frame[name] = written[name]
    return frame


def _check_header(first: "pd.DataFrame") -> None:
    """Refuse a header with a name that comes twice, for which pandas would make up another. Raises ValueError."""
    names = [str(name).strip() for name in first.iloc[0]] if len(first) else []
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise ValueError(f"several columns are called {', '.join(twice)}, spaces around names left out; rename them")


def _check_row_names(frame: "pd.DataFrame") -> None:
    """Report that the cells before the named columns are left out: names of rows, which R writes.

    Raises:
        ValueError: If they do not look like names of rows; then the header lacks the name of a column.
    """
    index = frame.index
    words = index.nlevels == 1 and index.is_unique and index.dtype.kind not in "iufb"
    numbers = index.dtype.kind in "iu" and list(index) == list(range(index[0], index[0] + len(index)))
    if not words and not numbers:
        named = len(frame.columns)
        columns = f"{named} column{'s' * (named > 1)}"
        cells = named + index.nlevels
        raise ValueError(f"the header names {columns}, and row 1 has {cells} cells; write a name for each column")
    name = f"{str(index[0])!r:.40}"
    tell(f"Each row has a cell more than the header, such as {name}; it is taken for the row's name, and left out.")


def _may_hold_codes(path: Path, encoding: str, sep: str) -> bool:
    """Return whether a cell of the file begins with 0 and a further digit."""
    code = re.compile(rf"[\n\r\"{re.escape(sep)}]\s*[+-]?0\d")
    with opened_text(path, encoding) as file:
        end = "\n"
        while text := file.read(CHUNK):
            if code.search(end + text):
                return True
            end = (end + text)[-8:]  # a code may lie across two chunks
    return False


def encoding_of(path: Path) -> str:
    """Infer the encoding of a text file: from its byte order mark, else UTF-8 if its bytes are valid, else cp1252."""
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
    """Infer the separator of a csv: the usual one, unless another divides the header and more rows like the header."""
    text = codecs.getincrementaldecoder(encoding)("replace").decode(_head(path))
    even: dict[str, float] = {}
    for sep in SEPARATORS:
        try:
            rows = [row for row in csv.reader(io.StringIO(text), delimiter=sep) if row]
        except csv.Error:
            continue
        body = rows[1:-1] if len(text) > HEAD // 4 else rows[1:]  # the last row may be cut
        if rows and len(rows[0]) > 1:
            even[sep] = sum(len(row) == len(rows[0]) for row in body) / len(body) if body else 1.0
    usual = _usual(path)
    best = max(even, key=lambda sep: (even[sep], sep == usual), default=usual)
    # If only the header contains another separator, the file may be a single column of text.
    return usual if even.get(usual, 0) >= EVEN or even.get(best, 0) < (EVEN if usual in even else 0.5) else best


def _usual(path: Path) -> str:
    """Separator by the suffix of a file: a tab for tsv, else a comma."""
    return "\t" if path.name.lower().removesuffix(".gz").endswith(".tsv") else ","


def opened_text(path: Path, encoding: str) -> IO[str]:
    """Open a text file, plain or gzipped, for reading."""
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
    """Convert columns of text to numbers, booleans or trimmed text; columns of numbers stay."""
    frame = frame.reset_index(drop=True)
    commas = reading.decimal == "," or (reading.decimal is None and sep != ",")
    fractions = any(column.dtype.kind == "f" and (column % 1 > 0).any() for _, column in frame.items())
    for name in [name for name in frame.columns if frame[name].dtype.kind not in "iufb"]:
        cells = _Cells(frame[name])
        if name in reading.texts:
            frame[name] = cells.untrimmed()
            continue
        values = cells.typed()
        if values is None and commas and cells.all_match(DECIMAL_COMMA) and not cells.any_match(CODE):
            # 1,234 may mean 1234 if other columns have decimal points.
            if reading.decimal or not fractions or not cells.all_match(f"{THOUSANDS}|^[^,]*$"):
                values = cells.with_decimal_comma()
        if values is not None:
            cells.tell_missing(str(name), path)
        frame[name] = cells.trimmed() if values is None else values
    return frame


class _Cells:
    """Cells of one column of text, blank cells missing; each distinct text is examined once.

    Attributes:
        codes: Index of each cell's text in ``words``.
        words: Distinct texts; None for a blank one.
        spared: Flags of the words that may stand for a missing number, such as NA.
        rest: ``words`` without those.
    """

    def __init__(self, column: "pd.Series[Any]") -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        if column.dtype == object:  # booleans with a missing cell, integers of more than 64 bits
            column = column.map(str, na_action="ignore")
        coded = pa.array(column, pa.large_string(), from_pandas=True).dictionary_encode()
        self.pc = pc
        self.codes = coded.indices
        blank = pc.match_substring_regex(coded.dictionary, NO_VALUE)
        self.words = pc.if_else(blank, None, coded.dictionary)
        self.spared = pc.fill_null(pc.match_substring_regex(self.words, NO_NUMBER), False)
        self.rest = pc.if_else(self.spared, None, self.words)

    def all_match(self, pattern: str) -> bool:
        """Return whether ``rest`` has a word, and all of its words match."""
        matches = self.pc.match_substring_regex(self.rest, pattern)
        return self.rest.null_count < len(self.rest) and bool(self.pc.all(matches).as_py())

    def any_match(self, pattern: str) -> bool:
        """Return whether a word of ``rest`` matches."""
        return bool(self.pc.any(self.pc.match_substring_regex(self.rest, pattern)).as_py())

    def untrimmed(self) -> Any:
        """Column of the cells as written."""
        return self._column(self.words)

    def trimmed(self) -> Any:
        """Column of the cells without the spaces around them, so that "yes" and " yes" are one class."""
        return self._column(self.pc.utf8_trim_whitespace(self.words))

    def typed(self) -> Any:
        """Column of numbers, booleans or dates (as text) without the words for missing cells; None for other texts."""
        import pandas as pd

        if self.rest.null_count == len(self.rest):
            # Two different words, such as NA and None, may be two classes.
            alike = self.words.null_count >= len(self.words) - 1
            return pd.Series(float("nan"), index=range(len(self.codes))) if alike else None
        # Without a word for missing cells, pandas has tried to read numbers already.
        numbers = _numbers(self.rest) if self.rest.null_count else None
        if numbers is not None:
            return self._column(self.rest if self.any_match(CODE) else numbers)
        if self.all_match(TRUE_FALSE):
            lowered = self.pc.utf8_lower(self.pc.utf8_trim_whitespace(self.rest))
            return self._column(self.pc.equal(lowered, "true"))
        return self._column(self.rest) if self.all_match(DATE) else None

    def with_decimal_comma(self) -> Any:
        """Column of numbers from cells such as 1.234,5."""
        plain = self.pc.replace_substring(self.pc.replace_substring(self.rest, ".", ""), ",", ".")
        return self._column(_numbers(plain))

    def tell_missing(self, name: str, path: Path) -> None:
        """Report which words were read as missing."""
        words = self.words.filter(self.spared).to_pylist()
        if words:
            count = self.pc.sum(self.spared.take(self.codes)).as_py()
            shown = ", ".join(map(repr, words[:3])) + (", ..." if len(words) > 3 else "")
            tell(f"Column {name}: {shown} was read as missing in {count} row{'s' * (count > 1)} of {path}.")

    def _column(self, values: Any) -> Any:
        """Column of all cells, from a value for each distinct text."""
        return values.take(self.codes).to_pandas()


def _numbers(words: Any) -> Any:
    """Numbers of texts; None if a text is no number, or an integer of more than 64 bits."""
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
