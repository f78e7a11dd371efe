"""Samples of several modalities as people see, hear and read them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from metatx.errors import SampleError
from metatx.progress import bar, tell
from metatx.registry import lookup

__all__ = ["Points", "pictures_and_words", "preview"]


@dataclass(frozen=True)
class Points:
    """Vectors of samples, with what is known of each; the same N everywhere.

    Attributes:
        vectors: Vectors (N, E), of which the cosine counts.
        modalities: Name of the modality of each.
        samples: Raw samples; None where they are not kept.
        columns: Cells by column.
    """

    vectors: np.ndarray
    modalities: Sequence[str]
    samples: Sequence[Any]
    columns: dict[str, Sequence[Any]]

    def __len__(self) -> int:
        return len(self.vectors)

    def some(self, rows: np.ndarray) -> "Points":
        """Return the points of these rows."""
        chosen = rows.tolist()
        return Points(
            self.vectors[rows],
            [self.modalities[row] for row in chosen],
            [self.samples[row] for row in chosen],
            {name: [cells[row] for row in chosen] for name, cells in self.columns.items()},
        )


def preview(modality: str, sample: Any) -> Any:
    """A sample as the tokenizer of its modality shows it: a picture, sound or words; None without a sample.

    Raises:
        SampleError: If the sample cannot be read.
        ValueError: If the modality is unknown.
    """
    return None if sample is None else lookup("tokenizers", modality).preview(sample)


def pictures_and_words(points: Points, most: int, seed: int) -> tuple[dict[int, Image.Image], dict[int, str], str]:
    """Pictures of at most ``most`` points, drawn with the seed, the words of all that have some, and a note.

    The note says how many pictures were left out or could not be read; it is empty if none.
    """
    words: dict[int, str] = {}
    pictured: list[int] = []
    for modality in dict.fromkeys(points.modalities):
        rows = [row for row, name in enumerate(points.modalities) if name == modality]
        rows = [row for row in rows if points.samples[row] is not None]
        shown = next((shown for row in rows[:20] if (shown := _readable(points, row)[0]) is not None), None)
        if isinstance(shown, Image.Image):
            pictured += rows
        elif isinstance(shown, str):
            words |= {row: text for row in rows if isinstance(text := _readable(points, row)[0], str)}
    order = np.random.default_rng(seed).permutation(len(pictured))[:most]
    chosen = sorted(pictured[place] for place in order)
    pictures = {}
    bad = []
    for row in bar(chosen, "pictures"):
        shown, fault = _readable(points, row)
        if isinstance(shown, Image.Image):
            pictures[row] = shown
        elif fault:
            bad.append(fault)
    notes = []
    if len(chosen) < len(pictured):
        notes.append(f"{len(chosen):,} of {len(pictured):,} pictures are shown, drawn at random, to keep the page small.")
    if bad:
        notes.append(f"{len(bad):,} pictures cannot be read; the first: {bad[0]}.")
    for note in notes:
        tell(note)
    return pictures, words, " ".join(notes)


def _readable(points: Points, row: int) -> tuple[Any, str]:
    """What a row shows, or None and why it cannot be read."""
    try:
        return preview(points.modalities[row], points.samples[row]), ""
    except SampleError as error:
        return None, str(error)
