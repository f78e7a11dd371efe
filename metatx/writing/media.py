"""Pictures, sound and data inside a page of HTML that needs nothing else."""

import base64
import hashlib
import io
import json
import re
import wave
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from metatx.layers.resampling import resample

__all__ = ["data_uri", "jpeg_uri", "packed", "page", "script_json", "tile_sheet", "wav_uri"]

MARK = re.compile(r"<!--(\w+)-->")
RATE = 16_000  # Hz; sound of more is resampled
TILES = 32  # tiles in a row and in a column of a sheet


def page(template: Path, parts: Mapping[str, str], script: Path | None = None) -> str:
    """Fill the marks ``<!--NAME-->`` of a template, each with its part, which is not looked through for marks.

    ``<!--policy-->`` becomes a content security policy that allows that script and nothing else: what is in the parts
    never runs, and nothing is fetched.

    Args:
        template: File of HTML.
        parts: Text by mark, escaped as its place needs.
        script: File of JavaScript for the mark ``script``.
    """
    code = "" if script is None else _read(script)
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src 'sha256-{digest}'" if code else "script-src 'none'",
            "style-src 'unsafe-inline'",
            "img-src data:",
            "media-src data:",
        ]
    )
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    filled = {**parts, "script": code, "policy": meta}
    return MARK.sub(lambda mark: filled[mark[1]], _read(template))


@cache
def _read(template: Path) -> str:
    return template.read_text(encoding="utf-8")


def script_json(value: Any) -> str:
    """JSON that may stand in a ``<script type="application/json">``, whatever the texts in it say."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def packed(values: np.ndarray, dtype: str) -> str:
    """Numbers as base64, in the order of rows; ``dtype`` is little-endian, such as ``"<i2"``."""
    return base64.b64encode(np.ascontiguousarray(values, dtype=dtype).tobytes()).decode()


def data_uri(content: bytes, kind: str) -> str:
    """Bytes of a file as an address that holds them."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def jpeg_uri(image: Image.Image, side: int, quality: int = 80) -> str:
    """Picture as an address, no side longer than ``side`` pixels."""
    small = image.copy()
    small.thumbnail((side, side))
    return data_uri(_jpeg(small.convert("RGB"), quality), "image/jpeg")


def tile_sheet(images: list[Image.Image], tile: int, quality: int = 72) -> tuple[str, list[tuple[int, int]]]:
    """Up to 1,024 pictures as one, in rows of 32 tiles from the top left, and the (width, height) of each.

    Args:
        images: Pictures; each is made to fit a tile.
        tile: Side of a tile in pixels.
        quality: JPEG's.
    """
    sheet = Image.new("RGB", (tile * min(TILES, len(images)), tile * -(-len(images) // TILES)), "white")
    sizes = []
    for number, image in enumerate(images):
        small = image.copy()
        small.thumbnail((tile, tile))
        row, column = divmod(number, TILES)
        sheet.paste(small.convert("RGB"), (tile * column, tile * row))
        sizes.append(small.size)
    return data_uri(_jpeg(sheet, quality), "image/jpeg"), sizes


def wav_uri(values: np.ndarray, rate: int, seconds: float) -> str:
    """Sound (L,) in -1..1 as an address: its first ``seconds``, 16 bits, at most 16 kHz."""
    heard = values[: round(seconds * rate)]
    if rate > RATE:
        heard = resample(heard, rate, RATE)
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(min(rate, RATE))
        writer.writeframes((32767 * heard.clip(-1, 1)).astype("<i2").tobytes())
    return data_uri(file.getvalue(), "audio/wav")


def _jpeg(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, optimize=True)
    return file.getvalue()
