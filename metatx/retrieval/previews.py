"""Samples of several modalities as people see, hear and read them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from metatx.errors import SampleError
from metatx.progress import bar, tell
from metatx.registry import lookup

__all__ = ["Points", "pictures_and_words", "preview"]

READ = 256  # samples that are read at once
TRIED = 16  # samples of a modality that tell how it is shown

Read = Callable[[Sequence[int]], Sequence[Any]]


@dataclass(frozen=True)
class Points:
    """Vectors of samples, with what is known of each; the same N everywhere.

    Attributes:
        vectors: Vectors (N, E), of which the cosine counts.
        modalities: Name of the modality of each.
        columns: Cells by column.
        read: Function that reads the raw samples of some rows, None where a sample is not kept.
        kinds: Names of the tokenizers that show the samples, by modality; None: none does. By default the modalities.
    """

    vectors: np.ndarray
    modalities: Sequence[str]
    columns: Mapping[str, Sequence[Any]]
    read: Read
    kinds: Mapping[str, str | None] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.vectors)


def preview(modality: str | None, sample: Any) -> Any:
    """Picture, sound or words of a sample, as the tokenizer of its modality shows it; None without one of them.

    Raises:
        SampleError: If the sample cannot be read.
        ValueError: If the modality is unknown.
    """
    return None if sample is None or modality is None else lookup("tokenizers", modality).preview(sample)


def pictures_and_words(
    points: Points, most: int, side: int, seed: int
) -> tuple[dict[int, Image.Image], dict[int, str], list[str]]:
    """Show the pictures of at most ``most`` points, drawn with the seed, and the words of all that have some.

    Args:
        points: Points.
        most: Number of pictures.
        side: Longest side of a picture in pixels; larger ones are reduced.
        seed: Seed of the choice.

    Returns:
        Pictures by row, words by row, and sentences on what was left out or could not be read.
    """
    pictures: dict[int, Image.Image] = {}
    words: dict[int, str] = {}
    pictured: list[int] = []
    bad: list[str] = []
    for modality in dict.fromkeys(points.modalities):
        rows = [row for row, name in enumerate(points.modalities) if name == modality]
        first = [shown for _, shown in _shown(points, rows[:TRIED], [])]
        if any(isinstance(shown, Image.Image) for shown in first):
            pictured += rows
        elif any(isinstance(shown, str) for shown in first):
            words |= {row: shown for row, shown in _shown(points, rows, bad) if isinstance(shown, str)}
    order = np.random.default_rng(seed).permutation(len(pictured))[:most]
    chosen = sorted(pictured[place] for place in order)
    for start in bar(range(0, len(chosen), READ), "thumbnails"):
        for row, shown in _shown(points, chosen[start : start + READ], bad):
            if isinstance(shown, Image.Image):
                shown.thumbnail((side, side))
                pictures[row] = shown
    notes = []
    if len(chosen) < len(pictured):
        notes.append(f"{len(chosen):,} of {len(pictured):,} pictures are shown, drawn at random: more would not fit.")
    if bad:
        notes.append(f"Samples that cannot be read: {len(bad):,}; the first: {bad[0]}.")
    for note in notes:
        tell(note)
    return pictures, words, notes


def _shown(points: Points, rows: Sequence[int], bad: list[str]) -> Iterator[tuple[int, Any]]:
    """Yield rows with the preview of their sample; why one cannot be read is added to ``bad``."""
    for start in range(0, len(rows), READ):
        part = rows[start : start + READ]
        for row, sample in zip(part, points.read(part), strict=True):
            try:
                modality = points.modalities[row]
                yield row, preview(points.kinds.get(modality, modality), sample)
            except SampleError as error:
                bad.append(str(error))
