"""Headers of a MATLAB file's variables, by which only intact arrays of numbers and texts are chosen for reading."""

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from metatx.errors import SampleError
from metatx.reading.bounds import check_bound

__all__ = ["DENSEST", "NEWER", "Variable", "is_hollow", "variables_of"]

NEWER = "a MATLAB 7.3 file; save it with -v7, or as npz"
HEAD = 2048  # bytes that hold a variable's header: at most 32 sizes, a name, the start of its values
NAME = 1024  # most bytes of a name; MATLAB's own have at most 63
PACKED = 1 << 16  # bytes of a packed variable that are unpacked for its header
DENSEST = 1100  # most bytes that zlib unpacks from one byte
HOLLOW = 1_000_000  # most places of an array with a side of 0, whose other sides are not checked by any bytes
BLANK = 4096  # most characters of a text without bytes, which some programs write for blanks
MATRIX = 14
COMPRESSED = 15
# Bytes of a number by the code of its type, in version 5 and in version 4.
WIDTHS = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}
WIDTHS_4 = {0: 8, 1: 4, 2: 4, 3: 2, 4: 2, 5: 1}
CHARACTERS = {1, 2, 4, 16, 17, 18}  # types of a text's characters
KINDS = {1: "cell", 2: "struct", 3: "object", 4: "text", 5: "sparse", 16: "function", 17: "object"}
NUMBERS = range(6, 16)  # classes of full arrays


@dataclass(frozen=True)
class Variable:
    """One variable of a file.

    Attributes:
        name: Name by which scipy reads it.
        kind: ``"numbers"`` or ``"text"``, which are read, or the kind that is not, such as ``"cell"``.
        nbytes: Bytes in memory; 0 if it is not read.
    """

    name: str
    kind: str
    nbytes: int = 0


def variables_of(path: Path) -> list[Variable]:
    """Read the headers of all variables of a file up to version 7, and check them against the bytes of the file.

    Raises:
        SampleError: If the file is damaged or of version 7.3, has two variables of one name, or more variables than the
            bound ``members``.
    """
    size = path.stat().st_size
    by_name: dict[str, Variable] = {}
    with path.open("rb") as file:
        start = file.read(128)
        variables = _version_4(file, size, start) if 0 in start[:4] else _version_5(file, size, start)
        try:
            for number, variable in enumerate(variables, start=1):
                check_bound("members", number, "a MATLAB file that")
                if variable.name in by_name:
                    raise SampleError(f"damaged, or no mat file (two variables {variable.name:.63})")
                by_name[variable.name] = variable
        except (struct.error, zlib.error, IndexError):
            raise SampleError("damaged, or no mat file (it ends within a variable's header)") from None
    return list(by_name.values())


def _version_5(file: IO[bytes], size: int, start: bytes) -> Iterator[Variable]:
    """Variables of versions 5 to 7, each an element that may be packed."""
    versions = start[125:123:-1] if start[126:127] == b"I" else start[124:126]
    if len(versions) < 2 or versions[0] not in (1, 2):
        raise SampleError("damaged, or no mat file (no version that is known)")
    if versions[0] == 2:
        raise SampleError(NEWER)
    order = "<" if start[126:128] == b"IM" else ">"
    at = len(start)
    while at < size:
        file.seek(at)
        kind, length = struct.unpack(f"{order}II", file.read(8))
        there = at + 8 + length
        if not length or there > size:
            raise _damaged(f"a variable of {length:,} bytes where there are {size - at - 8:,}")
        head = file.read(min(length, PACKED if kind == COMPRESSED else HEAD))
        most = length
        if kind == COMPRESSED:
            head = zlib.decompressobj().decompress(head, HEAD)
            kind, most = struct.unpack_from(f"{order}II", head)
            head = head[8:]
            if most > DENSEST * length + HEAD:
                raise _damaged(f"{most:,} bytes packed into {length:,}")
        if kind != MATRIX:
            raise _damaged(f"an element of type {kind} where a variable is expected")
        yield _variable(head, order, most)
        at = there


def _variable(head: bytes, order: str, most: int) -> Variable:
    """Variable of version 5 from its first bytes; ``most`` is its number of bytes, unpacked."""
    flags = struct.unpack_from(f"{order}I", head, 8)[0]
    code = flags & 0xFF
    is_complex = bool(flags >> 11 & 1)
    if code == 17:
        return Variable("None", KINDS[code])  # scipy's name for these objects, whose own is stored elsewhere
    _, sizes, at = _element(head, order, 16)
    shape = struct.unpack(f"{order}{len(sizes) // 4}i", sizes[: len(sizes) // 4 * 4])
    _, name_bytes, at = _element(head, order, at)
    name = name_bytes.decode("latin-1")
    if not 2 <= len(shape) <= 32 or min(shape) < 0:
        raise _damaged(f"{name:.63} has the shape {shape[:33]}")
    if is_hollow(shape):
        raise _damaged(f"{name:.63} has the shape {shape}, without a value")
    if code not in NUMBERS and code != 4:
        return Variable(name, KINDS.get(code, f"class {code}"))
    if is_complex:
        return Variable(name, "complex")
    kind, length = _tag(head, order, at)
    count = math.prod(shape)
    if at + length > most:
        raise _damaged(f"{name:.63} has {length:,} bytes of values where there are {max(0, most - at):,}")
    if code == 4:
        if kind not in CHARACTERS or count > max(length, 0 if length else BLANK):
            raise _damaged(f"text {name:.63} of {count:,} characters in {length:,} bytes")
        return Variable(name, "text", _text_bytes(shape))
    if kind not in WIDTHS or count * WIDTHS[kind] != length:
        raise _damaged(f"{name:.63} has the shape {shape}, and {length:,} bytes of type {kind}")
    return Variable(name, "numbers", length)


def _tag(head: bytes, order: str, at: int) -> tuple[int, int]:
    """Type and size in bytes of an element; a small element has both in four bytes, its content in the next four."""
    kind, length = struct.unpack_from(f"{order}II", head, at)
    if not kind >> 16:
        return kind, length
    if kind >> 16 > 4:
        raise _damaged(f"a small element of {kind >> 16} bytes")
    return kind & 0xFFFF, kind >> 16


def _element(head: bytes, order: str, at: int) -> tuple[int, bytes, int]:
    """Type and content of an element in a header, and the place of the next element."""
    kind, length = _tag(head, order, at)
    small = struct.unpack_from(f"{order}I", head, at)[0] >> 16
    begin = at + (4 if small else 8)
    if length > NAME or begin + length > len(head):
        raise _damaged(f"{length:,} bytes in a variable's header")
    return kind, head[begin : begin + length], at + 8 if small else begin + -(-length // 8) * 8


def _version_4(file: IO[bytes], size: int, start: bytes) -> Iterator[Variable]:
    """Variables of version 4, which are stored consecutively."""
    first = struct.unpack_from("<i", start)[0]
    order = ">" if first < 0 or first > 5000 else "<"
    at = 0
    while at < size:
        file.seek(at)
        code, rows, columns, imaginary, length = struct.unpack(f"{order}5i", file.read(20))
        kind = code % 10
        content = code // 10 % 10
        if not 0 <= code < 2000 or code // 100 % 10 or kind > 2 or content not in WIDTHS_4:
            raise _damaged(f"a variable of type {code}")
        if not 0 < length <= NAME or min(rows, columns) < 0 or imaginary not in (0, 1):
            raise _damaged(f"a variable of {rows} x {columns} with a name of {length} bytes")
        name = file.read(length).strip(b"\0").decode("latin-1")
        if is_hollow((rows, columns)):
            raise _damaged(f"{name:.63} has the shape ({rows}, {columns}), without a value")
        parts = 2 if imaginary and kind != 2 else 1  # real and imaginary
        there = at + 20 + length + parts * rows * columns * WIDTHS_4[content]
        if there > size:
            raise _damaged(f"{name:.63} has the shape ({rows}, {columns}), and the file ends before its end")
        if kind == 2 or imaginary:
            yield Variable(name, "sparse" if kind == 2 else "complex")
        elif kind == 1:
            yield Variable(name, "text", _text_bytes((rows, columns)))
        else:
            yield Variable(name, "numbers", rows * columns * WIDTHS_4[content])
        at = there


def is_hollow(shape: tuple[int, ...]) -> bool:
    """Return whether an array has no values but very long sides, along which readers would still loop."""
    return 0 in shape and math.prod(max(side, 1) for side in shape) > HOLLOW


def _text_bytes(shape: tuple[int, ...]) -> int:
    """Bytes of a text in memory: the last axis becomes one word, and an empty word takes memory too."""
    return 8 * max(math.prod(shape), math.prod(shape[:-1]))


def _damaged(why: str) -> SampleError:
    return SampleError(f"damaged, or no mat file ({why})")
