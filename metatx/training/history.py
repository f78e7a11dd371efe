"""History of a run: ``history.csv``, ``curves.png``, and events for TensorBoard."""

import csv
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from metatx.files import written_whole
from metatx.progress import tell

__all__ = ["History", "can_draw", "draw_curves"]


def can_draw(name: str) -> bool:
    """Return True if matplotlib is installed; if not, tell that the plot ``name`` is left out."""
    if find_spec("matplotlib"):
        return True
    tell(f"{name} is left out: a plot needs matplotlib (pip install 'metatx[viz]').")
    return False


class History:
    """Rows of numbers, one an epoch.

    Args:
        folder: Folder of the files; None writes none.
        tensorboard: Also write events for TensorBoard.
    """

    def __init__(self, folder: Path | None, tensorboard: bool) -> None:
        self.folder = folder
        self.rows: list[dict[str, float]] = []
        self.writer = _event_writer() if tensorboard and folder is not None else None
        self.events: Any = None

    def write(self) -> None:
        """Write all rows to ``history.csv``, and the last row to TensorBoard."""
        if self.folder is None:
            return
        # Not made in __init__: a run that is refused leaves the folder as it is.
        self.folder.mkdir(parents=True, exist_ok=True)
        with written_whole(self.folder / "history.csv") as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(self.rows[-1]))
            writer.writeheader()
            writer.writerows(self.rows)
        if self.writer and self.events is None:
            self.events = self.writer(str(self.folder / "tensorboard"))
        if self.events:
            row = self.rows[-1]
            for name, value in row.items():
                self.events.add_scalar(name, value, row["epoch"])
            self.events.flush()


def _event_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ImportError("TensorBoard events need tensorboard: pip install tensorboard") from None
    return SummaryWriter


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
