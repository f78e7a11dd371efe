"""Jasper Ridge, end to end, tested on a few pixels of each protocol."""

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from recipes import hyperspectral_jasper_ridge
from tests.recipes.common import check_run, real

MASKS = ("TR", "TE", "TR_disjoint", "TE_disjoint")


@pytest.fixture
def folder(tmp_path):
    there = real("hyperspectral/jasper_ridge")
    if there is None:
        rng = np.random.default_rng(0)
        labels = rng.integers(1, 5, (20, 20)).astype(np.uint8)
        chosen = rng.random((20, 20)) < 0.3
        arrays = {"input": (rng.normal(0, 50, (20, 20, 198)) + 500.0 * labels[..., None] + 500).astype(np.uint16)}
        arrays |= dict(zip(MASKS, [labels * chosen, labels * ~chosen] * 2, strict=True))
    else:
        arrays = {name: array for name, array in loadmat(there / "jasper_ridge.mat").items() if name[0] != "_"}
    for name in ("TE", "TE_disjoint"):  # every seventh test pixel
        places = np.argwhere(arrays[name] > 0)
        thinned = np.zeros_like(arrays[name])
        kept = tuple(places[:: max(1, len(places) // 150)].T)
        thinned[kept] = arrays[name][kept]
        arrays[name] = thinned
    savemat(tmp_path / "jasper_ridge.mat", arrays)
    return tmp_path


@pytest.mark.parametrize("protocol", ["disjoint", "random"])
def test_jasper_ridge(folder, tmp_path, protocol: str) -> None:
    out = tmp_path / "out"
    (report,) = hyperspectral_jasper_ridge.main(
        data=str(folder),
        protocol=protocol,
        seeds=(0,),
        epochs=12,
        group_size=66,
        stride=66,
        layers=2,
        patch_size=3 if protocol == "random" else 1,
        out=str(out),
    )
    side = report.task.tokenizer.patch_size
    cube = loadmat(folder / "jasper_ridge.mat")["input"]
    check_run(report, out / "seed0", [cube[i : i + side, i : i + side] for i in range(6)])
    assert report.test["accuracy"] > 0.7
