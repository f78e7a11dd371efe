"""Indian Pines, end to end: the spectra of four classes, and the published split of a scene of one's own."""

import numpy as np
import pytest
from scipy.io import savemat

from recipes import hyperspectral_indian_pines
from tests.recipes.common import check_run, real

RNG = np.random.default_rng(0)
FEW = {"seeds": (0,), "batch_size": 16, "group_size": 50, "stride": 50, "layers": 2}


@pytest.fixture
def folder(tmp_path):
    there = real("hyperspectral/indian_pines_fixed_split")
    if there is None:
        labels = np.arange(160) % 4 + 1
        arrays = {
            "X": RNG.normal(size=(160, 200)).cumsum(1) / 20 + labels[:, None],
            "y": labels,
            "split": np.array(["train"] * 120 + ["test"] * 40),
        }
    else:
        with np.load(there / "indian_pines_695_spectra.npz") as file:
            kept = np.isin(file["y"], [4, 5, 11, 13])
            arrays = {name: file[name][kept] for name in ("X", "y", "split")}
    np.savez(tmp_path / "indian_pines_695_spectra.npz", **arrays)
    return tmp_path


def test_spectra(folder, tmp_path) -> None:
    (report,) = hyperspectral_indian_pines.main(data=str(folder), epochs=8, **FEW, out=str(tmp_path / "out"))
    check_run(report, tmp_path / "out" / "seed0", np.load(folder / "indian_pines_695_spectra.npz")["X"][:8])
    assert report.test["accuracy"] > 0.7


def test_the_published_split_of_a_scene(tmp_path) -> None:
    """TR and TE say which pixels are trained and tested on, whatever else has a label."""
    labels = np.tile(np.arange(10) % 2 + 1, (10, 1)).astype(np.uint8)
    train, test = np.zeros((10, 10), np.uint8), np.zeros((10, 10), np.uint8)
    train[:4], test[5:8] = labels[:4], labels[5:8]
    cube = RNG.normal(1000, 50, (10, 10, 200)) + 300.0 * labels[..., None]
    savemat(tmp_path / "Indian_pines_corrected.mat", {"indian_pines_corrected": cube.astype(np.uint16)})
    np.savez(tmp_path / "indian_pines_TR_TE_masks.npz", TR=train, TE=test, class_names=np.array(["a", "b"]))
    cube = str(tmp_path / "Indian_pines_corrected.mat")
    parts = hyperspectral_indian_pines.splits(tmp_path, cube)
    assert {name: len(part) for name, part in parts.items()} == {"train": 40, "test": 30}
    assert {pixel.row for pixel in parts["test"].inputs} == {5, 6, 7}
    (report,) = hyperspectral_indian_pines.main(data=str(tmp_path), cube=cube, epochs=4, patch_size=3, **FEW)
    assert report.test["accuracy"] > 0.9
