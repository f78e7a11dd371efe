"""How much one file may hold, checked against what its header declares before memory or time goes into it."""

import os
from dataclasses import dataclass

from metatx.errors import BoundError

__all__ = ["BOUNDS", "Bound", "VARIABLE", "bound", "check_bound", "stricter"]

VARIABLE = "METATX_BOUNDS"


@dataclass(frozen=True)
class Bound:
    """The most of one thing.

    Attributes:
        own: In files that a user reads for himself: far beyond what is usual, below what ends a machine.
        sent: In files that the server is sent.
        what: Is counted.
    """

    own: float
    sent: float
    what: str


BOUNDS = {
    "pixels": Bound(89_000_000, 40_000_000, "pixels of an image"),
    "scans": Bound(1_000, 100, "scans, each over all its pixels"),
    "parts": Bound(1_000_000, 200_000, "values in an entry of its header"),
    "frame_pixels": Bound(67_000_000, 40_000_000, "pixels in a frame"),
    "video_pixels": Bound(500_000_000_000, 6_000_000_000, "pixels in the frames that must be decoded"),
    "frames": Bound(1_000_000, 100_000, "frames"),
    "video_seconds": Bound(36_000, 600, "seconds of video"),
    "audio_seconds": Bound(600, 600, "seconds of audio"),
    "audio_values": Bound(200_000_000, 60_000_000, "values of audio (channels x rate x seconds)"),
    "unpacked_mb": Bound(4_000, 512, "megabytes (10^6 bytes) that the arrays of one sample's file take in memory"),
    "data_set_mb": Bound(64_000, 512, "megabytes that the arrays of a file with many samples take in memory"),
    "members": Bound(100_000, 1_000, "files or variables in it"),
    "names": Bound(1_000_000, 100_000, "names of classes or columns"),
    "samples": Bound(20_000_000, 1_000_000, "samples"),
    "points": Bound(2_000_000, 2_000_000, "points"),
    "faces": Bound(5_000_000, 2_000_000, "faces"),
    "corners": Bound(20_000_000, 8_000_000, "corners of all faces"),
    "polygon": Bound(100_000, 10_000, "corners of one face"),
    "columns": Bound(256, 256, "numbers of a point"),
    "atoms": Bound(1_000, 200, "atoms"),
    "paths": Bound(100_000, 20_000, "paths of four bonds"),
    "smiles": Bound(10_000, 2_000, "characters of a SMILES"),
}


def bound(name: str) -> float:
    """The most of ``name`` that one file may hold: what METATX_BOUNDS says (``pixels=2e8,points=5e6``), or ``own``.

    Raises:
        ValueError: If the variable is not of that form, or names something else.
    """
    return _changed().get(name, BOUNDS[name].own)


def check_bound(name: str, found: float, subject: str) -> None:
    """Refuse what is beyond a bound.

    Args:
        name: Of the bound.
        found: What the header declares.
        subject: Of the sentence, such as "image file a.png".

    Raises:
        BoundError: Says what was found, what is accepted, and how that is changed.
    """
    most = bound(name)
    if not found <= most:  # NaN is beyond any
        what = BOUNDS[name].what
        raise BoundError(f"{subject} has {found:,.0f} {what}; expected at most {most:,.0f} ({VARIABLE}={name}=...)")


def stricter() -> str:
    """METATX_BOUNDS for a process that reads what strangers send: ``sent``, where the variable says nothing else."""
    found = {name: one.sent for name, one in BOUNDS.items()} | _changed()
    return ",".join(f"{name}={value:.0f}" for name, value in found.items())


def _changed() -> dict[str, float]:
    text = os.environ.get(VARIABLE, "")
    found = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, _, value = part.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            raise ValueError(f"{VARIABLE} has {part!r}; expected NAME=NUMBER, such as pixels=2e8.") from None
        if name.strip() not in BOUNDS or not found[name.strip()] > 0:
            raise ValueError(f"{VARIABLE} has {part!r}; expected a number above 0 for one of {', '.join(BOUNDS)}.")
    return found
