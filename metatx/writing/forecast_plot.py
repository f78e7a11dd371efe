"""Plots of history and forecast, a panel for each channel, with bands of quantiles."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from metatx.files import written_whole
from metatx.progress import tell
from metatx.series.windows import Past

__all__ = ["draw_forecasts", "need_matplotlib"]

MOST_PANELS = 12  # most panels, one for each channel of each series
SHOWN = 5  # most horizons of history


def need_matplotlib() -> None:
    """Raise ImportError if matplotlib is missing."""
    if not find_spec("matplotlib"):
        raise ImportError("A plot of forecasts needs matplotlib: pip install 'metatx[viz]'")


def draw_forecasts(
    path: Path,
    queries: Sequence[Any],
    answers: Sequence[np.ndarray],
    names: list[str],
    targets: list[int],
    quantiles: list[float] | None,
) -> None:
    """Draw forecasts to a png; if there are too many series or channels, draw the first and report it.

    Args:
        path: File to write.
        queries: Raw samples that were forecast; the ids and times of a ``Past`` are shown.
        answers: Forecast of each sample, (K, H), or (K, H, Q) with quantiles.
        names: Names of the channels that are read.
        targets: Indices of the K forecast channels among them.
        quantiles: Levels of the Q quantiles, ascending; None without quantiles.
    """
    need_matplotlib()
    from matplotlib.dates import ConciseDateFormatter
    from matplotlib.figure import Figure

    channels = [names[at] for at in targets]
    pasts = [_steps(query, len(names))[targets] for query in queries]
    drawn = min(len(pasts), max(1, MOST_PANELS // len(channels)))
    shown = channels[:MOST_PANELS]
    if drawn < len(pasts) or len(shown) < len(channels):
        left = f"the first {drawn} of {len(pasts)} series" if drawn < len(pasts) else ""
        fewer = f"the first {len(shown)} of {len(channels)} channels" if len(shown) < len(channels) else ""
        tell(f"{path} shows {' and '.join(part for part in (left, fewer) if part)}.")
    panels = drawn * len(shown)
    figure = Figure(figsize=(9, 1 + 2.2 * panels), layout="constrained")
    axes = figure.subplots(panels, squeeze=False)[:, 0]
    for number, axis in enumerate(axes):
        sample, channel = divmod(number, len(shown))
        query = queries[sample]
        answer = np.asarray(answers[sample])[channel]
        times = query.times if isinstance(query, Past) else np.arange(1 - pasts[sample].shape[1], len(answer) + 1)
        _draw(axis, times, pasts[sample][channel], answer, quantiles)
        whose = ", ".join(str(value) for value in query.id.values()) if isinstance(query, Past) else ""
        if not whose and len(pasts) > 1:
            whose = f"sample {sample + 1}"
        axis.set_title(f"{whose} · {shown[channel]}" if whose else shown[channel], loc="left", fontsize="medium")
        if times.dtype.kind == "M":
            axis.xaxis.set_major_formatter(ConciseDateFormatter(axis.xaxis.get_major_locator()))  # type: ignore[no-untyped-call]
        else:
            axis.set_xlabel("step")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside upper right", frameon=False, fontsize="small", ncols=4
    )
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def _steps(query: Any, channels: int) -> np.ndarray:
    """Convert a raw sample to float64 (C, L)."""
    values = np.atleast_2d(np.asarray(query, dtype=np.float64))
    turned = query.time_axis == 0 if isinstance(query, Past) else len(values) != channels
    return values.T if turned else values


def _draw(axis: Any, times: np.ndarray, past: np.ndarray, answer: np.ndarray, quantiles: list[float] | None) -> None:
    """Draw one panel: history (L,), forecast (H,) or (H, Q), at their times (L + H,)."""
    horizon = len(answer)
    median = answer[:, quantiles.index(0.5)] if quantiles else answer
    begin = max(0, len(past) - SHOWN * horizon)
    history = times[begin : len(past)]
    coming = times[len(past) :]
    axis.plot(history, past[begin:], color="0.35", linewidth=1.2, label="history")
    # The line of the forecast starts at the last value, so that the lines meet.
    joined = np.concatenate([times[len(past) - 1 : len(past)], coming])
    axis.plot(joined, np.concatenate([past[-1:], median]), color="C0", linewidth=1.6, label="forecast")
    for level in [q for q in quantiles or [] if q < 0.5]:
        if 1 - level in np.round(quantiles or [], 9):
            high = int(np.argmin(np.abs(np.array(quantiles) - (1 - level))))
            low = (quantiles or []).index(level)
            axis.fill_between(
                coming,
                answer[:, low],
                answer[:, high],
                color="C0",
                alpha=0.18,
                linewidth=0,
                label=f"{1 - 2 * level:.0%} interval",
            )
    axis.axvline(times[len(past) - 1], color="0.7", linewidth=0.8, linestyle=":")
    axis.spines[["top", "right"]].set_visible(False)
    axis.ticklabel_format(axis="y", useOffset=False, style="plain")
