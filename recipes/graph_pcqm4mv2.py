"""PCQM4Mv2: the gap between a molecule's highest occupied and lowest unoccupied orbital, in eV.

    python recipes/graph_pcqm4mv2.py --data pcqm4m-v2 --molecules 20000

The folder as the Open Graph Benchmark publishes it: ``raw/data.csv.gz`` with ``smiles`` and ``homolumogap``, and
``split_dict.pt`` with the rows of each split. The labels of its test splits are withheld, so its validation split is
the test here, and a tenth of the training split serves for validation. Not run on the real 3.7 million molecules,
which are not at hand; a test runs it on a small folder of the same form.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

import metatx
from metatx.evaluation.recipe import command, dataset, over_seeds
from metatx.evaluation.report import Report

PUBLISHED = {"TokenGT, trained in full (Kim et al. 2022, unverified)": {"mae": 0.0910}}
# What a file of pickled numpy arrays names, by numpy 1 and 2; nothing else is let in.
REBUILD = np._core.multiarray._reconstruct
ARRAYS = [
    np.ndarray,
    np.dtype,
    type(np.dtype(np.int64)),
    (REBUILD, "numpy._core.multiarray._reconstruct"),
    (REBUILD, "numpy.core.multiarray._reconstruct"),
]


def main(
    *,
    data: str | None = None,
    backbone: str = "nano",
    checkpoint: str | None = None,
    pretrained: bool = True,
    tune: str = "frozen",
    seeds: tuple[int, ...] = (0,),
    epochs: int = 5,
    batch_size: int = 64,
    lr: float = 1e-3,
    summary: int = 8,
    descriptors: bool = True,
    token_rms_factor: float = 4.0,
    molecules: int | None = None,
    out: str | None = None,
) -> list[Report]:
    """Train a graph tokenizer and a linear head on PCQM4Mv2.

    Args:
        data: Folder with raw/data.csv.gz and split_dict.pt.
        backbone: What reads the molecules.
        checkpoint: File with the backbone's weights.
        pretrained: False for random weights in the same shape.
        tune: What of the backbone is trained too: frozen (nothing), norm, lora or full.
        seeds: One run each.
        epochs: Passes over the training split.
        batch_size: Molecules of a step.
        lr: Peak learning rate.
        summary: Tokens of the molecule as a whole.
        descriptors: Whether these know RDKit's physico-chemical descriptors.
        token_rms_factor: Size of the tokens, where the backbone does not normalise them.
        molecules: Only so many of each split, evenly spaced; None for all.
        out: Folder for the tasks, one a seed; none are kept without it.
    """
    splits = molecules_by_split(dataset(data, "graph/pcqm4m-v2", "ogb.stanford.edu/docs/lsc/pcqm4mv2"), molecules)
    frozen = metatx.load_backbone(backbone, checkpoint=checkpoint, pretrained=pretrained)

    def one(seed: int) -> Report:
        return metatx.run(
            splits,
            "graph",
            backbone=frozen,
            tune=tune,
            name="PCQM4Mv2, published validation split",
            target="homolumogap",
            inputs=["smiles"],
            tokenizer_options={"summary": summary, "descriptors": descriptors, "token_rms_factor": token_rms_factor},
            settings=metatx.TrainingSettings(epochs=epochs, batch_size=batch_size, lr=lr, seed=seed),
            published=PUBLISHED,
            baseline=seed == seeds[0],
            out=out and Path(out) / f"seed{seed}",
        )

    return over_seeds(seeds, one)


def molecules_by_split(folder: Path, count: int | None) -> dict[str, pd.DataFrame]:
    """The published training split, and the published validation split as the test."""
    file = next((f for f in (folder / "raw" / "data.csv.gz", folder / "raw" / "data.csv") if f.exists()), None)
    if file is None or not (folder / "split_dict.pt").exists():
        raise FileNotFoundError(f"{folder} is not the published folder: it needs raw/data.csv.gz and split_dict.pt.")
    table = pd.read_csv(file, usecols=["smiles", "homolumogap"])
    with torch.serialization.safe_globals(ARRAYS):
        rows = torch.load(folder / "split_dict.pt", weights_only=True)
    picked = {"train": np.asarray(rows["train"]), "test": np.asarray(rows["valid"])}
    if count is not None:
        picked = {split: found[:: max(1, len(found) // count)][:count] for split, found in picked.items()}
    return {split: table.iloc[found].reset_index(drop=True) for split, found in picked.items()}


if __name__ == "__main__":
    command(main)
