"""ETTh1: the next 96 hours of seven channels of an electricity transformer.

    python recipes/time_series_etth1.py --data FOLDER

The literature's split: rows [0, 8640) train, [8640, 11520) validate, [11520, 14400) test; windows of stride 1 may look
back across a border. Errors are of values standardised by the training rows. Three epochs took under three minutes on
one busy core with nano. A linear map from the window to the horizon stands beside the backbone's path, starts as ridge
regression and does nearly all of the work: ``--linear 0`` shows what the backbone's path does alone.
"""

from pathlib import Path

import pandas as pd

import metatx
from metatx.evaluation.recipe import command, dataset, over_seeds
from metatx.evaluation.report import Report

BORDERS = {"train": (0, 8640), "validation": (8640, 11520), "test": (11520, 14400)}
PUBLISHED = {
    "DLinear, look-back 336 (reproduced)": {"mse": 0.3705, "mae": 0.3921},
    "PatchTST/64 (from memory, unverified)": {"mse": 0.370, "mae": 0.400},
}


def main(
    *,
    data: str | None = None,
    backbone: str = "nano",
    checkpoint: str | None = None,
    pretrained: bool = True,
    tune: str = "frozen",
    seeds: tuple[int, ...] = (0, 1, 2),
    epochs: int = 3,
    batch_size: int = 32,
    lr: float = 2e-4,
    lookback: int = 336,
    horizon: int = 96,
    patch_size: int = 48,
    tokens: int = 2,
    linear: int = 336,
    dropout: float = 0.3,
    out: str | None = None,
) -> list[Report]:
    """Train a time-series tokenizer and a forecasting head on ETTh1.

    Args:
        data: Folder with ETTh1.csv.
        backbone: What reads the windows.
        checkpoint: File with the backbone's weights.
        pretrained: False for random weights in the same shape.
        tune: What of the backbone is trained too: frozen (nothing), norm, lora or full.
        seeds: One run each.
        epochs: Passes over the training windows.
        batch_size: Windows of a step.
        lr: Peak learning rate.
        lookback: Hours that are read.
        horizon: Hours that are forecast.
        patch_size: Hours of a token.
        tokens: So many of the last tokens go to the head.
        linear: Hours that the linear map beside the backbone reads; 0 for none.
        dropout: On the tokens before the head.
        out: Folder for the tasks, one a seed; none are kept without it.
    """
    table = pd.read_csv(dataset(data, "time_series/etth1", "github.com/zhouhaoyi/ETDataset") / "ETTh1.csv")
    splits = {split: table[max(0, first - lookback) : end] for split, (first, end) in BORDERS.items()}
    frozen = metatx.load_backbone(backbone, checkpoint=checkpoint, pretrained=pretrained)

    def one(seed: int) -> Report:
        return metatx.run(
            splits,
            "time_series",
            backbone=frozen,
            tune=tune,
            name=f"ETTh1, {horizon} hours",
            tokenizer_options={"lookback": lookback, "patch_size": patch_size, "stride": patch_size},
            head_options={
                "horizon": horizon,
                "tokens": tokens,
                "linear": linear,
                "dropout": dropout,
                "season": 24,
            },
            settings=metatx.TrainingSettings(epochs=epochs, batch_size=batch_size, lr=lr, seed=seed),
            published=PUBLISHED if horizon == 96 else {},
            baseline=seed == seeds[0],
            out=out and Path(out) / f"seed{seed}",
        )

    return over_seeds(seeds, one)


if __name__ == "__main__":
    command(main)
