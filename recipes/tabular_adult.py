"""Adult: does a person of the 1994 census earn more than 50,000 dollars a year?

    python recipes/tabular_adult.py --data FOLDER

32,561 training rows of fourteen columns (a stratified tenth of them validates) and 16,281 test rows. Four epochs took
3 to 7 minutes on one busy core with nano.
"""

from pathlib import Path

import metatx
from metatx.evaluation.recipe import command, dataset, over_seeds
from metatx.evaluation.report import Report

PUBLISHED = {"Meta-Transformer-B16, frozen": {"accuracy": 0.859}, "NBTree (adult.names)": {"accuracy": 0.859}}


def main(
    *,
    data: str | None = None,
    backbone: str = "nano",
    checkpoint: str | None = None,
    pretrained: bool = True,
    tune: str = "frozen",
    seeds: tuple[int, ...] = (0, 1, 2),
    epochs: int = 4,
    batch_size: int = 256,
    lr: float = 2e-3,
    bins: int = 128,
    out: str | None = None,
) -> list[Report]:
    """Train a tabular tokenizer and a linear head on Adult.

    Args:
        data: Folder with train.parquet and test.parquet.
        backbone: What reads the rows.
        checkpoint: File with the backbone's weights.
        pretrained: False for random weights in the same shape.
        tune: What of the backbone is trained too: frozen (nothing), norm, lora or full.
        seeds: One run each.
        epochs: Passes over the training split.
        batch_size: Rows of a step.
        lr: Peak learning rate.
        bins: Quantile bins of a numeric column.
        out: Folder for the tasks, one a seed; none are kept without it.
    """
    folder = dataset(data, "tabular/adult", "the UCI Machine Learning Repository (doi:10.24432/C5XW20)")
    frozen = metatx.load_backbone(backbone, checkpoint=checkpoint, pretrained=pretrained)

    def one(seed: int) -> Report:
        return metatx.run(
            folder,
            "tabular",
            backbone=frozen,
            tune=tune,
            name="Adult",
            target="income",
            tokenizer_options={"bins": bins},
            settings=metatx.TrainingSettings(epochs=epochs, batch_size=batch_size, lr=lr, seed=seed),
            published=PUBLISHED,
            baseline=seed == seeds[0],
            out=out and Path(out) / f"seed{seed}",
        )

    return over_seeds(seeds, one)


if __name__ == "__main__":
    command(main)
