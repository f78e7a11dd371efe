r"""Samples of the priors, in one picture: generated tasks of every modality that has a prior.

    python recipes/draw_priors.py --out runs/priors.png
    python recipes/draw_priors.py --out runs/tables.png --only tabular --seed 5

A row shows samples of one task, with their targets. Takes seconds; needs matplotlib.
"""

from pathlib import Path
from typing import Any

import numpy as np

from metatx.cli.scripts import command
from metatx.pretraining.prior import draw, prior_names


def show(axes: Any, sample: Any) -> None:
    """Draw one raw sample."""
    if isinstance(sample, dict):
        cells = [f"{name}: {value}" for name, value in list(sample.items())[:7]]
        axes.text(0, 1, "\n".join(cells), va="top", size=6)
    elif isinstance(sample, str):
        words = sample.split()
        lines = [" ".join(words[at : at + 3]) for at in range(0, len(words), 3)]
        axes.text(0, 1, "\n".join(lines), va="top", size=6)
    elif sample.dtype == np.uint8:
        axes.imshow(sample)
    elif sample.ndim == 2 and sample.shape[1] == 3:
        axes.scatter(sample[:, 0] + 0.4 * sample[:, 1], sample[:, 2] + 0.3 * sample[:, 1], s=0.5)
        axes.set_aspect("equal")
    else:
        axes.plot(np.atleast_2d(sample).T, linewidth=0.7)
    axes.set_xticks([])
    axes.set_yticks([])


def main(*, out: str = "runs/priors.png", only: str | None = None, seed: int = 0, count: int = 8) -> str:
    """Draw samples of one task of each prior.

    Args:
        out: Picture file.
        only: Names of modalities, separated by commas; by default all that have a prior.
        seed: Number of the task.
        count: Samples of a task.
    """
    from matplotlib.figure import Figure

    names = only.split(",") if only else prior_names()
    figure = Figure(figsize=(1.6 * count, 1.7 * len(names)), layout="constrained")
    grid = figure.subplots(len(names), count, squeeze=False)
    for name, row in zip(names, grid, strict=True):
        samples, targets = draw(name, seed, count)
        for axes, sample, target in zip(row, samples, targets, strict=True):
            show(axes, sample)
            axes.set_title(target if isinstance(target, str) else f"{target:.2f}", size=7)
        row[0].set_ylabel(name, size=8)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)
    print(out)
    return out


if __name__ == "__main__":
    command(main)
