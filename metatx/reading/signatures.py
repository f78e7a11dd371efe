"""Signatures of file formats: tests of the first bytes of a file, by suffix; nothing is parsed."""

from collections.abc import Callable, Iterable
from typing import TypeAlias

__all__ = ["SIGNATURES", "Signature", "signatures_of"]

Signature: TypeAlias = Callable[[bytes], bool]  # the first 512 bytes of a file, fewer if it is shorter -> it may be one


def signatures_of(suffixes: Iterable[str]) -> dict[str, Signature]:
    """Return the signatures of the formats that these suffixes name; a suffix of no known format is left out."""
    return {suffix: SIGNATURES[suffix] for suffix in suffixes if suffix in SIGNATURES}


def _magic(*beginnings: bytes) -> Signature:
    return lambda head: head.startswith(beginnings)


def _text(head: bytes) -> bool:
    return b"\0" not in head


def _dicom(head: bytes) -> bool:
    """Accept the mark behind the preamble, or, as older files begin, a tag of the first groups."""
    return head[128:132] == b"DICM" or head[:2] in (b"\x02\0", b"\x08\0", b"\0\x08")


def _mpeg_transport(head: bytes) -> bool:
    """Accept packets of 188 or 192 bytes that begin with the same mark."""
    return head[:1] == head[188:189] == b"G" or head[4:5] == head[196:197] == b"G"


def _iso_media(head: bytes) -> bool:
    return head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")


PNG = _magic(b"\x89PNG\r\n\x1a\n")
JPEG = _magic(b"\xff\xd8\xff")
TIFF = _magic(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
MATROSKA = _magic(b"\x1a\x45\xdf\xa3")
ZIP = _magic(b"PK\x03\x04", b"PK\x05\x06")
SIGNATURES: dict[str, Signature] = {
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
    ".mp4": _iso_media,
    ".mov": _iso_media,
    ".avi": lambda head: head[:4] == b"RIFF" and head[8:12] == b"AVI ",
    ".webm": MATROSKA,
    ".mkv": MATROSKA,
    ".m4v": _iso_media,
    ".3gp": _iso_media,
    ".flv": _magic(b"FLV"),
    ".wmv": _magic(b"\x30\x26\xb2\x75"),
    **dict.fromkeys((".mpg", ".mpeg"), _magic(b"\0\0\1")),
    **dict.fromkeys((".ts", ".mts"), _mpeg_transport),
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
