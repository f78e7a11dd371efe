"""Places of tokens in their sample: words, patches, columns or seconds that they were made of, and their picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = [
    "PicturePlaces",
    "Places",
    "PointPlaces",
    "SeveralPlaces",
    "TimePlaces",
    "WordPlaces",
    "patch_names",
    "tints",
]

BARS = 20  # most parts that a chart shows
LINE = 68  # characters of a line of words
FOR = (0.80, 0.12, 0.12)  # colour of what speaks for the answer, and against it
AGAINST = (0.13, 0.35, 0.75)


@dataclass(frozen=True)
class Places:
    """Places of the T tokens of a sample, each by its name; drawn as a chart of the largest scores.

    Attributes:
        names: Name of each token's place in words, in the order of the tokens.
    """

    names: Sequence[str]

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the picture, in inches."""
        return 6.0, 1.0 + 0.28 * min(len(self.names), BARS)

    def draw(self, axes: Any, scores: np.ndarray) -> None:
        """Draw scores (T,) to axes of matplotlib; red speaks for the answer, blue against it."""
        order = np.argsort(-np.abs(scores), kind="stable")[:BARS][::-1]
        axes.barh(
            [self.names[at] for at in order], scores[order], color=np.where(scores[order] > 0, "#cc1f1f", "#2159bf")
        )
        axes.axvline(0, color="0.4", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)

    def tell_others(self, axes: Any, scores: np.ndarray, others: np.ndarray) -> None:
        """Write, above the picture, the largest scores of tokens that are not in it, bool (T,)."""
        largest = [at for at in np.argsort(-np.abs(scores), kind="stable") if others[at]][:3]
        if largest:
            axes.set_title(", ".join(f"{self.names[at]} {scores[at]:+.2g}" for at in largest), fontsize="small")


@dataclass(frozen=True)
class WordPlaces(Places):
    """Pieces of words, in the order of the text, with the spaces between words."""

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the picture, in inches."""
        return 7.0, 0.6 + 0.34 * len(self._lines())

    def _lines(self) -> list[list[int]]:
        """Numbers of the pieces of each line."""
        lines: list[list[int]] = [[]]
        used = 0
        for at, piece in enumerate(self.names):
            if used + len(piece) > LINE:
                lines.append([])
                used = 0
            lines[-1].append(at)
            used += len(piece)
        return lines

    def draw(self, axes: Any, scores: np.ndarray) -> None:
        """Draw the text, each piece on the colour of its score."""
        colours = tints(scores)
        lines = self._lines()
        for row, pieces in enumerate(lines):
            column = 0
            for at in pieces:
                box = {"facecolor": colours[at], "edgecolor": "none", "pad": 1.5}
                text = self.names[at].replace("$", r"\$").replace("\n", " ")
                axes.text(column, -row, text, family="monospace", fontsize=10, bbox=box, va="center")
                column += len(self.names[at])
        axes.set_xlim(0, LINE)
        axes.set_ylim(-max(len(lines), 6) + 0.4, 0.6)  # few lines stay close
        axes.set_axis_off()


@dataclass(frozen=True)
class PicturePlaces(Places):
    """Patches of a picture, or of frames side by side, row by row.

    Attributes:
        pictures: Frames as the tokens see them, (F, H, W) or (F, H, W, 3), values in 0..1.
        grid: Rows and columns of patches of a frame. The first F * rows * columns tokens are they; others have a name
            alone.
    """

    pictures: np.ndarray
    grid: tuple[int, int]

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the picture, in inches."""
        across, down = self._layout()
        height, width = self.pictures.shape[1:3]
        side = 4.5 if across * down == 1 else 9.0 / across
        return side * across, side * down * height / width + 0.3

    def _layout(self) -> tuple[int, int]:
        across = min(len(self.pictures), 4)
        return across, -(-len(self.pictures) // across)

    def draw(self, axes: Any, scores: np.ndarray) -> None:
        """Draw the frames in grey, with patches coloured by their scores."""
        grey = self.pictures if self.pictures.ndim == 3 else self.pictures.mean(3)
        heat = scores[: len(grey) * self.grid[0] * self.grid[1]].reshape(len(grey), *self.grid)
        whole = self._side_by_side(grey)
        extent = (0, whole.shape[1], whole.shape[0], 0)
        axes.imshow(whole, cmap="gray", vmin=0, vmax=1, extent=extent)
        axes.imshow(tints(self._side_by_side(heat)), extent=extent, interpolation="nearest")
        self.tell_others(axes, scores, np.arange(len(scores)) >= heat.size)
        axes.set_axis_off()

    def _side_by_side(self, frames: np.ndarray) -> np.ndarray:
        across, down = self._layout()
        blank = np.zeros((across * down - len(frames), *frames.shape[1:]))
        rows = np.concatenate([frames, blank]).reshape(down, across, *frames.shape[1:])
        joined: np.ndarray = rows.transpose(0, 2, 1, 3).reshape(down * frames.shape[1], across * frames.shape[2])
        return joined


@dataclass(frozen=True)
class TimePlaces(Places):
    """Stretches of a series.

    Attributes:
        series: Values (C, L).
        spans: First and last time of each token, (T, 2); NaN where a token is of no time.
        channels: Number of the channel of each token, int (T,); -1: all.
        step: Time from one value to the next.
        unit: Unit of the times.
    """

    series: np.ndarray
    spans: np.ndarray
    channels: np.ndarray
    step: float = 1.0
    unit: str = "step"

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the picture, in inches."""
        return 8.0, 1.2 + min(0.9 * len(self.series), 5.0)

    def draw(self, axes: Any, scores: np.ndarray) -> None:
        """Draw the channels one above the other, on the colours of their stretches."""
        shown = self.series[:12]
        times = self.step * np.arange(self.series.shape[1])
        with np.errstate(invalid="ignore"):
            low = np.nanmin(shown, axis=1, keepdims=True)
            high = np.nanmax(shown, axis=1, keepdims=True)
            levels = 0.1 + 0.8 * (shown - low) / np.where(high > low, high - low, 1)
        colours = tints(self._per_cell(scores, len(shown)))
        axes.imshow(colours, extent=(0, times[-1] + self.step, len(shown), 0), aspect="auto", interpolation="nearest")
        for row, level in enumerate(levels):
            axes.plot(times + self.step / 2, row + 1 - level, color="0.15", linewidth=0.8)
        axes.set_yticks([])
        axes.set_xlabel(self.unit)
        self.tell_others(axes, scores, np.isnan(self.spans).any(1))

    def _per_cell(self, scores: np.ndarray, channels: int) -> np.ndarray:
        """Sum of the scores of the tokens at each value, each shared by the values it was made of, (C, L)."""
        heat = np.zeros((channels, self.series.shape[1]))
        for score, span, channel in zip(scores, self.spans, self.channels, strict=True):
            if np.isfinite(span).all():
                first = max(0, round(span[0] / self.step))
                last = max(first + 1, round(span[1] / self.step))
                rows = slice(None) if channel < 0 else slice(channel, channel + 1)
                heat[rows, first:last] += score / (last - first)
        return heat


@dataclass(frozen=True)
class PointPlaces(Places):
    """Groups of points in space.

    Attributes:
        points: Places of the points, (P, 3).
        groups: Numbers of the points of each of the last tokens, (G, k); the tokens before are of no place.
    """

    points: np.ndarray
    groups: np.ndarray

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the picture, in inches."""
        return 6.0, 5.0

    def draw(self, axes: Any, scores: np.ndarray) -> None:
        """Draw the points as they are seen from the side, coloured by the mean score of their groups."""
        total = np.zeros(len(self.points))
        count = np.zeros(len(self.points))
        for score, group in zip(scores[len(scores) - len(self.groups) :], self.groups, strict=True):
            total[group] += score
            count[group] += 1
        turn = np.array([[0.87, -0.5, 0.0], [0.17, 0.3, 0.94]])
        seen = self.points @ turn.T
        self.tell_others(axes, scores, np.arange(len(scores)) < len(scores) - len(self.groups))
        axes.scatter(*seen.T, s=5, color="0.8")
        axes.scatter(*seen.T, s=14, color=tints(total / np.maximum(count, 1)), linewidths=0)
        axes.set_aspect("equal")
        axes.set_axis_off()


@dataclass(frozen=True)
class SeveralPlaces(Places):
    """Places of several inputs, one after the other.

    Attributes:
        parts: Places of each input, by name.
    """

    parts: Mapping[str, Places]

    @classmethod
    def of(cls, parts: Mapping[str, Places | None]) -> "SeveralPlaces | None":
        """Join the places of inputs; names begin with that of the input. None where an input has none."""
        known = {name: part for name, part in parts.items() if part is not None}
        if len(known) < len(parts):
            return None
        return cls([f"{name}: {place.strip()}" for name, part in known.items() for place in part.names], known)


def patch_names(rows: int, columns: int) -> list[str]:
    """Names of the patches of a picture, row by row."""
    return [f"row {row + 1}, column {column + 1}" for row in range(rows) for column in range(columns)]


def tints(scores: np.ndarray) -> np.ndarray:
    """Colours of scores (...), RGBA (..., 4): red above 0, blue below, the paler the smaller."""
    largest = np.abs(scores).max(initial=0.0)
    strength = np.abs(scores) / largest if largest > 0 else np.zeros_like(scores)
    colours = np.where((scores > 0)[..., None], np.array(FOR), np.array(AGAINST))
    return np.concatenate([colours, 0.75 * strength[..., None]], axis=-1)
