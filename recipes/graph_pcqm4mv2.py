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
from metatx.cli.scripts import recipe_command

# What a file of pickled numpy arrays names, by numpy 1 and 2; nothing else is let in.
REBUILD = np._core.multiarray._reconstruct
ARRAYS = [
    np.ndarray,
    np.dtype,
    type(np.dtype(np.int64)),
    (REBUILD, "numpy._core.multiarray._reconstruct"),
    (REBUILD, "numpy.core.multiarray._reconstruct"),
]


def read(folder: Path, *, molecules: int | None = None) -> dict[str, pd.DataFrame]:
    """The published training split, and the published validation split as the test.

    Args:
        folder: Folder as it is published.
        molecules: Number of molecules of each split, evenly spaced; by default all.
    """
    file = next((f for f in (folder / "raw" / "data.csv.gz", folder / "raw" / "data.csv") if f.exists()), None)
    if file is None or not (folder / "split_dict.pt").exists():
        raise FileNotFoundError(f"{folder} is not the published folder: it needs raw/data.csv.gz and split_dict.pt.")
    table = pd.read_csv(file, usecols=["smiles", "homolumogap"])
    with torch.serialization.safe_globals(ARRAYS):
        rows = torch.load(folder / "split_dict.pt", weights_only=True)
    picked = {"train": np.asarray(rows["train"]), "test": np.asarray(rows["valid"])}
    if molecules is not None:
        picked = {split: found[:: max(1, len(found) // molecules)][:molecules] for split, found in picked.items()}
    return {split: table.iloc[found].reset_index(drop=True) for split, found in picked.items()}


RECIPE = metatx.Recipe(
    name="PCQM4Mv2, published validation split",
    place="graph/pcqm4m-v2",
    source="ogb.stanford.edu/docs/lsc/pcqm4mv2",
    read=read,
    spec=metatx.TaskSpec(
        modality="graph", target="homolumogap", inputs=("smiles",), head="regression", tokenizer_options={"summary": 8}
    ),
    settings=metatx.TrainingSettings(epochs=5),
    seeds=(0,),
    published={"TokenGT, trained in full (Kim et al. 2022, unverified)": {"mae": 0.0910}},
)

if __name__ == "__main__":
    recipe_command(RECIPE)
