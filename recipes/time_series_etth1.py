"""ETTh1: the next 96 hours of seven channels of an electricity transformer.

    python recipes/time_series_etth1.py --data FOLDER

The literature's split: rows [0, 8640) train, [8640, 11520) validate, [11520, 14400) test; windows of stride 1 may look
back across a border. Errors are of values standardised by the training rows. Three epochs took under three minutes on
one busy core with nano. A linear map from the window to the horizon stands beside the backbone's path, starts as ridge
regression and does nearly all of the work: ``--head.linear 0`` shows what the backbone's path does alone.
"""

from functools import partial
from pathlib import Path

import pandas as pd

import metatx
from metatx.cli.scripts import recipe_command

BORDERS = {"train": (0, 8640), "validation": (8640, 11520), "test": (11520, 14400)}
PUBLISHED = {
    "DLinear, look-back 336 (reproduced)": {"mse": 0.3705, "mae": 0.3921},
    "PatchTST/64 (from memory, unverified)": {"mse": 0.370, "mae": 0.400},
}


def read(folder: Path, lookback: int) -> dict[str, pd.DataFrame]:
    """Rows by split, with the ``lookback`` rows before, which may be read."""
    table = pd.read_csv(folder / "ETTh1.csv")
    return {split: table[max(0, first - lookback) : end] for split, (first, end) in BORDERS.items()}


def recipe(*, lookback: int = 336, horizon: int = 96) -> metatx.Recipe:
    """ETTh1.

    Args:
        lookback: Hours that are read.
        horizon: Hours that are forecast.
    """
    return metatx.Recipe(
        name=f"ETTh1, {horizon} hours",
        place="time_series/etth1",
        source="github.com/zhouhaoyi/ETDataset",
        read=partial(read, lookback=lookback),
        spec=metatx.TaskSpec(
            modality="time_series",
            head="forecasting",
            tokenizer_options={"lookback": lookback, "patch_size": 48, "stride": 48},
            head_options={"horizon": horizon, "linear": 336, "dropout": 0.3, "season": 24},
        ),
        settings=metatx.TrainingSettings(epochs=3, batch_size=32, lr=2e-4),
        published=PUBLISHED if horizon == 96 else {},
    )


RECIPE = recipe()

if __name__ == "__main__":
    recipe_command(recipe)
