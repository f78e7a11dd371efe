"""Files that strangers send: what they are by their name, and by how their content begins; nothing is read."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from metatx.serving.limits import RefusedError
from metatx.tokenizer import Tokenizer

__all__ = ["check_file", "suffix_of"]


def suffix_of(name: str, tokenizer: Tokenizer) -> str:
    """The ending of a sent file's name. Raises RefusedError (415) for one that the task does not read."""
    suffix = Path(name).suffix.lower()
    known = [s for s in dict.fromkeys((*tokenizer.suffixes, *tokenizer.readers)) if s.startswith(".")]
    if suffix in tokenizer.external_refs:
        raise RefusedError(415, f"A {suffix} file may name other files, which are not here; convert it.")
    if suffix not in known:
        taken = ", ".join(s for s in known if s not in tokenizer.external_refs) or "no files: send JSON"
        raise RefusedError(415, f"The file is {suffix or 'without an ending'}; this task takes {taken}.")
    return suffix


def check_file(path: Path) -> None:
    """Refuse a file whose content does not begin as its ending says. Raises RefusedError (415)."""
    with path.open("rb") as file:
        head = file.read(512)
    if path.suffix in KINDS and not KINDS[path.suffix](head):
        raise RefusedError(415, f"The file is no {path.suffix} by its content.")


def _magic(*beginnings: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(beginnings)


def _text(head: bytes) -> bool:
    return b"\0" not in head


def _dicom(head: bytes) -> bool:
    """With its mark; or, as older files are, at once with a tag of the first groups."""
    return head[128:132] == b"DICM" or head[:2] in (b"\x02\0", b"\x08\0", b"\0\x08")


def _transport(head: bytes) -> bool:
    """Packets of 188 bytes, or 192, that all begin alike."""
    return head[:1] == head[188:189] == b"G" or head[4:5] == head[196:197] == b"G"


def _boxes(head: bytes) -> bool:
    return head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")


Begins: TypeAlias = Callable[[bytes], bool]
PNG, JPEG = _magic(b"\x89PNG\r\n\x1a\n"), _magic(b"\xff\xd8\xff")
TIFF, MATROSKA = _magic(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _magic(b"\x1a\x45\xdf\xa3")
ZIP = _magic(b"PK\x03\x04", b"PK\x05\x06")
# By the ending of the name: how the content begins.
KINDS: dict[str, Begins] = {
    ".png": PNG,
    ".jpg": JPEG,
    ".jpeg": JPEG,
    ".webp": lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP",
    ".tif": TIFF,
    ".tiff": TIFF,
    ".bmp": _magic(b"BM"),
    ".gif": _magic(b"GIF87a", b"GIF89a"),
    **dict.fromkeys((".jfif", ".jpe"), JPEG),
    **dict.fromkeys((".jp2", ".j2k"), _magic(b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")),
    ".avif": lambda head: head[4:8] == b"ftyp",
    **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm"), _magic(b"P")),
    **dict.fromkeys((".dcm", ".dicom"), _dicom),
    ".wav": lambda head: head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE",
    ".flac": _magic(b"fLaC", b"ID3"),
    ".ogg": _magic(b"OggS"),
    **dict.fromkeys((".opus", ".oga"), _magic(b"OggS")),
    **dict.fromkeys((".aiff", ".aif", ".aifc"), _magic(b"FORM")),
    **dict.fromkeys((".au", ".snd"), _magic(b".snd", b"dns.")),
    **dict.fromkeys((".wave", ".rf64"), _magic(b"RIFF", b"RIFX", b"RF64")),
    ".caf": _magic(b"caff"),
    ".w64": _magic(b"riff"),
    ".mp3": lambda head: head[:3] == b"ID3" or (head[:1] == b"\xff" and head[1:2] >= b"\xe0"),
    ".mp4": _boxes,
    ".mov": _boxes,
    ".avi": lambda head: head[:4] == b"RIFF" and head[8:12] == b"AVI ",
    ".webm": MATROSKA,
    ".mkv": MATROSKA,
    ".m4v": _boxes,
    ".3gp": _boxes,
    ".flv": _magic(b"FLV"),
    ".wmv": _magic(b"\x30\x26\xb2\x75"),
    **dict.fromkeys((".mpg", ".mpeg"), _magic(b"\0\0\1")),
    **dict.fromkeys((".ts", ".mts"), _transport),
    ".npz": ZIP,
    ".mat": lambda head: head[126:128] in (b"IM", b"MI"),
    ".xyz": _text,
    ".txt": _text,
    **dict.fromkeys((".pts", ".asc"), _text),
    ".npy": _magic(b"\x93NUMPY"),
    ".ply": _magic(b"ply"),
    ".off": _text,
    ".pcd": lambda head: b"VERSION" in head or head.startswith(b"#"),
    ".stl": lambda head: True,
}
