"""Explanation of an answer, and its picture and page."""

import base64
import html
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metatx.explaining.attribution import Deletion
from metatx.files import written_whole
from metatx.places import Places, SeveralPlaces

__all__ = ["Explanation", "check_out"]

SUFFIXES = (".png", ".html")
ROWS = 200  # most rows of a page's table
PAGE = """<!doctype html><meta charset="utf-8"><title>{title}</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}
img{{max-width:100%}}td{{padding:.1rem .8rem .1rem 0}}td:last-child{{text-align:right}}</style>
<h1>{title}</h1><p>{verdict}</p><img alt="{title}" src="data:image/png;base64,{picture}">
<table>{rows}</table>
"""


def check_out(path: str | Path | None) -> None:
    """Refuse a file to write whose suffix is not accepted, or whose folder does not exist; None is accepted.

    Raises:
        ValueError, FileNotFoundError: If it is refused.
    """
    if path is None:
        return
    if Path(path).suffix not in SUFFIXES:
        raise ValueError(f"{path} is no name for an explanation; expected one with {' or '.join(SUFFIXES)}.")
    if not Path(path).absolute().parent.is_dir():
        raise FileNotFoundError(f"The folder of {path} does not exist; make it first.")


@dataclass(frozen=True)
class Explanation:
    """Scores of the parts of a sample for one answer.

    Attributes:
        target: Answer that is explained; None for one that is a number.
        score: Its score, see ``Head.score``.
        method: Way to the scores.
        scores: Score of each token, (T,): above 0 it speaks for the answer, below 0 against it.
        places: Places of the tokens in the sample.
        deletion: Test that says whether to believe the scores.
    """

    target: Any
    score: float
    method: str
    scores: np.ndarray
    places: Places
    deletion: Deletion

    @property
    def verdict(self) -> str:
        """Sentence that says whether to believe the scores, with the numbers of the deletion test."""
        test = self.deletion
        faster = int((test.random_areas < test.area).sum())
        numbers = (
            f"while parts are left out, the score is {test.area:.3g} in the mean if the highest go first, "
            f"{test.random_areas.mean():.3g} in random order; {faster} of {len(test.random_areas)} such fall faster"
        )
        return f"{'Believe it' if test.believable else 'Do not believe it'}: {numbers}."

    def top(self, count: int = 10) -> list[tuple[str, float]]:
        """Names and scores of the parts with the largest scores, for or against the answer."""
        order = np.argsort(-np.abs(self.scores), kind="stable")[:count]
        return [(self.places.names[at].strip(), float(self.scores[at])) for at in order]

    def __str__(self) -> str:
        lines = [f"{name:40} {score:+.4g}" for name, score in self.top()]
        return "\n".join([self._title(), *lines, self.verdict])

    def write(self, path: str | Path) -> Path:
        """Write a picture (``.png``) or a page with it and all numbers (``.html``).

        Raises:
            ValueError: If the suffix is another.
            ImportError: If matplotlib is missing.
        """
        path = Path(path)
        check_out(path)
        picture = self._picture()
        content = picture if path.suffix == ".png" else self._page(picture).encode()
        with written_whole(path) as temporary:
            temporary.write_bytes(content)
        return path

    def _title(self) -> str:
        answer = "the number" if self.target is None else f"{self.target}"
        return f"{answer}: score {self.score:.3g}, by {self.method.replace('_', ' ')}"

    def _page(self, picture: bytes) -> str:
        rows = [f"<tr><td>{html.escape(name)}</td><td>{score:+.4g}</td></tr>" for name, score in self.top(ROWS)]
        return PAGE.format(
            title=html.escape(self._title()),
            verdict=html.escape(self.verdict),
            picture=base64.b64encode(picture).decode(),
            rows="".join(rows),
        )

    def _picture(self) -> bytes:
        """The sample with its parts coloured, beside the curves of the deletion test, as a png."""
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise ImportError("A picture needs matplotlib: pip install 'metatx[viz]'") from None
        parts = self.places.parts if isinstance(self.places, SeveralPlaces) else {"": self.places}
        width = max(part.size[0] for part in parts.values())
        heights = [max(part.size[1], 0.8) for part in parts.values()]
        figure = Figure(figsize=(width + 3.4, max(sum(heights), 2.6) + 1.0), layout="constrained")
        figure.suptitle(f"{self._title()}\nred speaks for it, blue against it", fontsize="medium")
        figure.supxlabel(self.verdict.replace("; ", ";\n"), fontsize="small")
        halves = figure.subfigures(1, 2, squeeze=False, width_ratios=[width, 3.4])
        panels = halves[0, 0].subplots(len(parts), 1, squeeze=False, height_ratios=heights)[:, 0]
        start = 0
        for (name, part), axes in zip(parts.items(), panels, strict=True):
            part.draw(axes, self.scores[start : start + len(part.names)])
            if name:
                axes.set_ylabel(name) if axes.axison else axes.text(0, 1, name, transform=axes.transAxes, va="bottom")
            start += len(part.names)
        self._draw_deletion(halves[0, 1].subplots())
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=110, format="png")
        return buffer.getvalue()

    def _draw_deletion(self, axes: Any) -> None:
        test = self.deletion
        for curve in test.random:
            axes.plot(100 * test.shares, curve, color="0.82", linewidth=0.8)
        axes.plot(100 * test.shares, test.random.mean(0), color="0.45", label="random order")
        axes.plot(100 * test.shares, test.curve, color="#cc1f1f", linewidth=1.8, label="highest first")
        axes.set_xlabel("% of parts left out")
        axes.set_title("score", loc="left", fontsize="medium")
        axes.legend(frameon=False, fontsize="small")
        axes.spines[["top", "right"]].set_visible(False)
