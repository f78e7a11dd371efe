"""Bounds on what one file may hold, checked against its header before memory or time is spent on it."""

import os
from dataclasses import dataclass

from metatx.errors import BoundError

__all__ = ["BOUNDS", "Bound", "VARIABLE", "bound", "check_bound", "stricter"]

VARIABLE = "METATX_BOUNDS"


@dataclass(frozen=True)
class Bound:
    """Largest accepted amount of one quantity.

    Attributes:
        own: Bound for a user's own files: far beyond usual files, below what exhausts a machine.
        sent: Bound for files that a server receives.
        what: Quantity and its unit, for messages.
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
    """Return the bound called ``name``: the value in METATX_BOUNDS (``pixels=2e8,points=5e6``), else ``own``.

    Raises:
        ValueError: If the variable has another form, or names no bound.
    """
    return _changed().get(name, BOUNDS[name].own)


def check_bound(name: str, amount: float, subject: str) -> None:
    """Refuse an amount beyond a bound.

    Args:
        name: Name of the bound.
        amount: Amount that the header declares.
        subject: Subject of the message, such as "image file a.png".

    Raises:
        BoundError: If the amount is larger; the message says how to change the bound.
    """
    most = bound(name)
    if not amount <= most:  # NaN is beyond every bound
        what = BOUNDS[name].what
        raise BoundError(f"{subject} has {amount:,.0f} {what}; expected at most {most:,.0f} ({VARIABLE}={name}=...)")


def stricter() -> str:
    """Value of METATX_BOUNDS for a process that reads strangers' files: ``sent``, where the user set nothing else."""
    values = {name: known_bound.sent for name, known_bound in BOUNDS.items()} | _changed()
    return ",".join(f"{name}={value:.0f}" for name, value in values.items())


def _changed() -> dict[str, float]:
    """Bounds that the variable sets."""
    text = os.environ.get(VARIABLE, "")
    values = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, _, value = part.partition("=")
        try:
            values[name.strip()] = float(value)
        except ValueError:
            raise ValueError(f"{VARIABLE} has {part!r}; expected NAME=NUMBER, such as pixels=2e8.") from None
        if name.strip() not in BOUNDS or not values[name.strip()] > 0:
            raise ValueError(f"{VARIABLE} has {part!r}; expected a number above 0 for one of {', '.join(BOUNDS)}.")
    return values
