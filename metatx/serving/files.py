"""Files that strangers send: what they are by their content, and how large what they hold would be; nothing is read."""

import warnings
import zipfile
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

from metatx.serving.limits import Limits, RefusedError
from metatx.tokenizer import Tokenizer

__all__ = ["check_file", "suffix_of"]

MEMBERS = 1000  # files in an archive
CHUNK = 1 << 20
MAT_HEADER, MAT_COMPRESSED = 128, 15


def suffix_of(name: str, tokenizer: Tokenizer) -> str:
    """The ending of a sent file's name. Raises RefusedError (415) for one that the task does not read."""
    suffix = Path(name).suffix.lower()
    known = [s for s in dict.fromkeys((*tokenizer.suffixes, *tokenizer.containers)) if s.startswith(".")]
    if suffix in tokenizer.linking:
        raise RefusedError(415, f"A {suffix} file may name other files, which are not here; convert it.")
    if suffix not in known:
        taken = ", ".join(s for s in known if s not in tokenizer.linking) or "no files: send JSON"
        raise RefusedError(415, f"The file is {suffix or 'without an ending'}; this task takes {taken}.")
    return suffix


def check_file(path: Path, limits: Limits) -> None:
    """Refuse a file whose content is not what its ending says, or is beyond the limits.

    Raises:
        RefusedError: 415 for another content, 413 for too much of it.
    """
    with path.open("rb") as file:
        head = file.read(512)
    kind = KINDS.get(path.suffix)
    if kind is None:
        return
    begins, inspect = kind
    if not begins(head):
        raise RefusedError(415, f"The file is no {path.suffix} by its content.")
    inspect(path, limits)


def _too_large(what: str, found: float, most: float) -> RefusedError:
    return RefusedError(413, f"{what}: {found:,.0f}; expected at most {most:,.0f}.")


def _picture(path: Path, limits: Limits) -> None:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:  # reads the header
                pixels = image.width * image.height
    except Image.DecompressionBombError:
        pixels = limits.pixels + 1
    except Exception:  # PIL's readers raise all kinds; the tokenizer's own reading says what is wrong
        return
    if pixels > limits.pixels:
        raise _too_large("Pixels of the picture", pixels, limits.pixels)


def _sound(path: Path, limits: Limits) -> None:
    import soundfile

    try:
        found = soundfile.info(path)
    except Exception:  # libsndfile's readers raise all kinds; the tokenizer's own reading says what is wrong
        return
    if found.frames > limits.seconds * found.samplerate:
        raise _too_large("Seconds of sound", found.frames / found.samplerate, limits.seconds)


def _film(path: Path, limits: Limits) -> None:
    import av

    from metatx.reading.films import FORMATS

    try:
        with av.open(str(path), "r", options={"format_whitelist": FORMATS}, metadata_errors="ignore") as film:
            for stream in film.streams.video:
                if stream.codec_context is None:  # of an unknown codec, which the tokenizer names
                    continue
                pixels = stream.codec_context.width * stream.codec_context.height
                if pixels > limits.pixels:
                    raise _too_large("Pixels of a frame", pixels, limits.pixels)
            seconds = (film.duration or 0) / av.time_base
    except (av.FFmpegError, IndexError, OverflowError):
        return
    if seconds > limits.seconds:
        raise _too_large("Seconds of film", seconds, limits.seconds)


def _gif(path: Path, limits: Limits) -> None:
    """A film; or a picture, where nothing reads films."""
    inspect = _film if find_spec("av") else _picture
    inspect(path, limits)


def _archive(path: Path, limits: Limits) -> None:
    """What a zip archive says it holds; its reader stops at what was said."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return
    if len(members) > MEMBERS:
        raise _too_large("Files in the archive", len(members), MEMBERS)
    unpacked = sum(member.file_size for member in members) / 1e6
    if unpacked > limits.unpacked_mb:
        raise _too_large("Megabytes unpacked", unpacked, limits.unpacked_mb)


def _matlab(path: Path, limits: Limits) -> None:
    """The compressed parts of a MATLAB file, unpacked bit by bit and counted."""
    room = round(limits.unpacked_mb * 1e6)
    with path.open("rb") as file:
        order = "little" if file.read(MAT_HEADER)[126:128] == b"IM" else "big"
        while len(tag := file.read(8)) == 8:
            kind, size = (int.from_bytes(tag[at : at + 4], order) for at in (0, 4))  # type: ignore[arg-type]
            if kind != MAT_COMPRESSED:
                file.seek(size, 1)
                continue
            unpacker, packed = zlib.decompressobj(), file.read(size)
            try:
                while packed and room >= 0:
                    room -= len(unpacker.decompress(packed, CHUNK))
                    packed = unpacker.unconsumed_tail
            except zlib.error:
                return
            if room < 0:
                raise RefusedError(413, f"The file unpacks to more than {limits.unpacked_mb:g} megabytes.")


def _any(path: Path, limits: Limits) -> None:
    pass


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
Inspect: TypeAlias = Callable[[Path, Limits], None]
PNG, JPEG = _magic(b"\x89PNG\r\n\x1a\n"), _magic(b"\xff\xd8\xff")
TIFF, MATROSKA = _magic(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _magic(b"\x1a\x45\xdf\xa3")
ZIP = _magic(b"PK\x03\x04", b"PK\x05\x06")
# By the ending of the name: how the content begins, and what is looked at before it is read.
KINDS: dict[str, tuple[Begins, Inspect]] = {
    ".png": (PNG, _picture),
    ".jpg": (JPEG, _picture),
    ".jpeg": (JPEG, _picture),
    ".webp": (lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP", _picture),
    ".tif": (TIFF, _picture),
    ".tiff": (TIFF, _picture),
    ".bmp": (_magic(b"BM"), _picture),
    ".gif": (_magic(b"GIF87a", b"GIF89a"), _gif),
    **dict.fromkeys((".jfif", ".jpe"), (JPEG, _picture)),
    **dict.fromkeys((".jp2", ".j2k"), (_magic(b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"), _picture)),
    ".avif": (lambda head: head[4:8] == b"ftyp", _picture),
    **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm"), (_magic(b"P"), _picture)),
    **dict.fromkeys((".dcm", ".dicom"), (_dicom, _any)),
    ".wav": (lambda head: head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE", _sound),
    ".flac": (_magic(b"fLaC", b"ID3"), _sound),
    ".ogg": (_magic(b"OggS"), _sound),
    **dict.fromkeys((".opus", ".oga"), (_magic(b"OggS"), _sound)),
    **dict.fromkeys((".aiff", ".aif", ".aifc"), (_magic(b"FORM"), _sound)),
    **dict.fromkeys((".au", ".snd"), (_magic(b".snd", b"dns."), _sound)),
    **dict.fromkeys((".wave", ".rf64"), (_magic(b"RIFF", b"RIFX", b"RF64"), _sound)),
    ".caf": (_magic(b"caff"), _sound),
    ".w64": (_magic(b"riff"), _sound),
    ".mp3": (lambda head: head[:3] == b"ID3" or (head[:1] == b"\xff" and head[1:2] >= b"\xe0"), _sound),
    ".mp4": (_boxes, _film),
    ".mov": (_boxes, _film),
    ".avi": (lambda head: head[:4] == b"RIFF" and head[8:12] == b"AVI ", _film),
    ".webm": (MATROSKA, _film),
    ".mkv": (MATROSKA, _film),
    ".m4v": (_boxes, _film),
    ".3gp": (_boxes, _film),
    ".flv": (_magic(b"FLV"), _film),
    ".wmv": (_magic(b"\x30\x26\xb2\x75"), _film),
    **dict.fromkeys((".mpg", ".mpeg"), (_magic(b"\0\0\1"), _film)),
    **dict.fromkeys((".ts", ".mts"), (_transport, _film)),
    ".npz": (ZIP, _archive),
    ".mat": (lambda head: head[126:128] in (b"IM", b"MI"), _matlab),
    ".xyz": (_text, _any),
    ".txt": (_text, _any),
    **dict.fromkeys((".pts", ".asc"), (_text, _any)),
    ".npy": (_magic(b"\x93NUMPY"), _any),
    ".ply": (_magic(b"ply"), _any),
    ".off": (_text, _any),
    ".pcd": (lambda head: b"VERSION" in head or head.startswith(b"#"), _any),
    ".stl": (lambda head: True, _any),
}
