"""History of a run: ``history.csv``, ``curves.png``, and what trackers of experiments show."""

import csv
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from metatx.files import written_whole
from metatx.progress import tell
from metatx.registry import unknown
from metatx.settings import RunSettings

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

__all__ = ["History", "can_draw", "draw_curves", "shown_numbers", "tracker_classes"]


def can_draw(name: str) -> bool:
    """Return True if matplotlib is installed; if not, tell that the plot ``name`` is left out."""
    if find_spec("matplotlib"):
        return True
    tell(f"{name} is left out: a plot needs matplotlib (pip install 'metatx[viz]').")
    return False


class History:
    """Rows of numbers, one an epoch.

    Args:
        folder: Folder of the files; None writes none, and tracks nothing.
        settings: Settings of the run, which name the trackers.

    Raises:
        ValueError: If a tracker is unknown.
        ImportError: If its package is not installed.
    """

    def __init__(self, folder: Path | None, settings: RunSettings) -> None:
        self.folder = folder
        self.rows: list[dict[str, float]] = []
        self.settings = settings
        self.classes = {} if folder is None else tracker_classes(settings)
        self.trackers: list[GeneralTracker] = []

    def write(self) -> None:
        """Write all rows to ``history.csv``, and send the last row to the trackers."""
        if self.folder is None:
            return
        # Not made in __init__: a run that is refused leaves the folder as it is.
        self.folder.mkdir(parents=True, exist_ok=True)
        with written_whole(self.folder / "history.csv") as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(self.rows[-1]))
            writer.writeheader()
            writer.writerows(self.rows)
        if self.classes and not self.trackers:
            self.trackers = [self._started(name, kind, self.folder) for name, kind in self.classes.items()]
        row = self.rows[-1]
        for tracker in self.trackers:
            tracker.log(dict(row), step=int(row["epoch"]))

    def finish(self) -> None:
        """Tell the trackers that the run is over."""
        for tracker in self.trackers:
            tracker.finish()

    def _started(self, name: str, kind: "type[GeneralTracker]", folder: Path) -> "GeneralTracker":
        """Tracker of a project by the name of metatx; what is written to files lies in the folder of the run."""
        inside = {"logging_dir": str(folder)} if kind.requires_logging_directory else {}
        tracker = kind(name if inside else "metatx", **inside)
        tracker.start()
        plain = bool | int | float | str
        tracker.store_init_configuration({k: v for k, v in vars(self.settings).items() if isinstance(v, plain)})
        return tracker


def tracker_classes(settings: RunSettings) -> "dict[str, type[GeneralTracker]]":
    """Accelerate's classes of the trackers that settings name, by name. Raises the errors of ``History``."""
    names = [*(["tensorboard"] if settings.tensorboard else []), *(settings.track or "").split(",")]
    wanted = list(dict.fromkeys(name.strip() for name in names if name.strip()))
    if not wanted:
        return {}
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    there = [str(getattr(name, "value", name)) for name in get_available_trackers()]
    for name in wanted:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise ValueError(unknown("tracker", name, list(LOGGER_TYPE_TO_CLASS)))
        if name not in there:
            raise ImportError(f"The tracker {name} needs its package: pip install {name.replace('_', '-')}")
    return {name: LOGGER_TYPE_TO_CLASS[name] for name in wanted}


def shown_numbers(row: Mapping[str, float], metric: str) -> str:
    """Losses of an epoch, and a validation metric, in words."""
    names = {"train_loss": "loss", f"validation_{metric}": f"validation {metric}", "validation_loss": "validation loss"}
    return ", ".join(f"{shown} {row[name]:.4f}" for name, shown in names.items() if name in row)


def draw_curves(rows: list[dict[str, float]], primary: str, path: Path) -> None:
    """Plot losses and the primary validation metric over the epochs, as a PNG. Needs matplotlib, see ``can_draw``."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    epochs = [row["epoch"] for row in rows]
    metric = f"validation_{primary}"
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    axes = figure.subplots(1, 2 if metric in rows[0] else 1, squeeze=False)[0]
    for name, label in {"train_loss": "training", "validation_loss": "validation"}.items():
        if name in rows[0]:
            axes[0].plot(epochs, [row[name] for row in rows], ".-", label=label)
    axes[0].set(xlabel="epoch", ylabel="loss")
    axes[0].legend()
    if metric in rows[0]:
        axes[1].plot(epochs, [row[metric] for row in rows], ".-", color="C1")
        axes[1].set(xlabel="epoch", ylabel=f"validation {primary}")
    for axis in axes:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
