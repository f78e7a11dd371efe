"""Indian Pines and Jasper Ridge, end to end, on a few spectra, and on the published split of a scene of one's own."""

import hyperspectral_indian_pines
import hyperspectral_jasper_ridge
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from tests.recipes.common import check_run, real, train

RNG = np.random.default_rng(0)
FEW = {"group_size": 50, "stride": 50}
MASKS = ("TR", "TE", "TR_disjoint", "TE_disjoint")


@pytest.fixture
def spectra(tmp_path):
    """Four classes of Indian Pines."""
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


def test_indian_pines(nano, spectra, tmp_path) -> None:
    recipe = hyperspectral_indian_pines.RECIPE.changed(tokenizer_options=FEW, head_options={"layers": 2})
    report = train(recipe, nano, spectra, tmp_path / "out", epochs=8)
    check_run(report, tmp_path / "out" / "seed0", np.load(spectra / "indian_pines_695_spectra.npz")["X"][:8])
    assert report.test["accuracy"] > 0.7


def test_the_published_split_of_a_scene(nano, tmp_path) -> None:
    """TR and TE say which pixels are trained and tested on, whatever else has a label."""
    labels = np.tile(np.arange(10) % 2 + 1, (10, 1)).astype(np.uint8)
    train_mask = np.zeros((10, 10), np.uint8)
    test_mask = np.zeros((10, 10), np.uint8)
    train_mask[:4] = labels[:4]
    test_mask[5:8] = labels[5:8]
    cube = RNG.normal(1000, 50, (10, 10, 200)) + 300.0 * labels[..., None]
    savemat(tmp_path / "Indian_pines_corrected.mat", {"indian_pines_corrected": cube.astype(np.uint16)})
    np.savez(tmp_path / "indian_pines_TR_TE_masks.npz", TR=train_mask, TE=test_mask, class_names=np.array(["a", "b"]))
    recipe = hyperspectral_indian_pines.recipe(cube=str(tmp_path / "Indian_pines_corrected.mat"))
    parts = recipe.read(tmp_path)
    assert {name: len(part) for name, part in parts.items()} == {"train": 40, "test": 30}
    assert {pixel.row for pixel in parts["test"].inputs} == {5, 6, 7}
    options = {"tokenizer_options": {**FEW, "patch_size": 3}, "head_options": {"layers": 2}}
    report = train(recipe, nano, tmp_path, epochs=4, **options)
    assert report.test["accuracy"] > 0.9 and "SpectralFormer" in str(report)


@pytest.fixture
def scene(tmp_path):
    """Jasper Ridge with every seventh test pixel."""
    there = real("hyperspectral/jasper_ridge")
    if there is None:
        rng = np.random.default_rng(0)
        labels = rng.integers(1, 5, (20, 20)).astype(np.uint8)
        chosen = rng.random((20, 20)) < 0.3
        arrays = {"input": (rng.normal(0, 50, (20, 20, 198)) + 500.0 * labels[..., None] + 500).astype(np.uint16)}
        arrays |= dict(zip(MASKS, [labels * chosen, labels * ~chosen] * 2, strict=True))
    else:
        arrays = {name: array for name, array in loadmat(there / "jasper_ridge.mat").items() if name[0] != "_"}
    for name in ("TE", "TE_disjoint"):
        places = np.argwhere(arrays[name] > 0)
        thinned = np.zeros_like(arrays[name])
        kept = tuple(places[:: max(1, len(places) // 150)].T)
        thinned[kept] = arrays[name][kept]
        arrays[name] = thinned
    savemat(tmp_path / "jasper_ridge.mat", arrays)
    return tmp_path


@pytest.mark.parametrize("protocol", ["disjoint", "random"])
def test_jasper_ridge(nano, scene, tmp_path, protocol: str) -> None:
    out = tmp_path / "out"
    side = 3 if protocol == "random" else 1
    options = {"group_size": 66, "stride": 66, "patch_size": side}
    recipe = hyperspectral_jasper_ridge.recipe(protocol=protocol)
    report = train(recipe, nano, scene, out, epochs=12, tokenizer_options=options, head_options={"layers": 2})
    cube = loadmat(scene / "jasper_ridge.mat")["input"]
    check_run(report, out / "seed0", [cube[i : i + side, i : i + side] for i in range(6)])
    assert report.test["accuracy"] > 0.7
