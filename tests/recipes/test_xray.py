"""PneumoniaMNIST, end to end, on a few pictures, as a folder and as MedMNIST's own file."""

import numpy as np
import pytest
import xray_pneumoniamnist
from PIL import Image

from tests.recipes.common import check_run, real, train

COUNTS = {"train": 40, "val": 10, "test": 16}  # a class


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    """The first pictures of each split and class, named as MedMNIST does."""
    there, rng, found = real("xray/pneumoniamnist/images"), np.random.default_rng(0), {}
    for split, count in COUNTS.items():
        images = []
        for label, name in enumerate(("0_normal", "1_pneumonia")):
            if there is None:
                images.append(rng.integers(0, 120 + 100 * label, (count, 28, 28), dtype=np.uint8))
            else:
                files = sorted((there / split / name).iterdir())[:count]
                images.append(np.stack([np.asarray(Image.open(path)) for path in files]))
        found[f"{split}_images"] = np.concatenate(images)
        found[f"{split}_labels"] = np.repeat([0, 1], count).astype(np.uint8)[:, None]
    return found


def test_folder_and_npz_give_the_same_numbers(nano, arrays, tmp_path) -> None:
    np.savez(tmp_path / "pneumoniamnist.npz", **arrays)
    for split in COUNTS:
        for i, (image, label) in enumerate(zip(arrays[f"{split}_images"], arrays[f"{split}_labels"], strict=True)):
            folder = tmp_path / "images" / split / str(label[0])
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{i:03d}.png")
    recipe = xray_pneumoniamnist.RECIPE.changed(epochs=6, batch_size=16, grid=4, head_options={"layers": 6})
    files = train(recipe, nano, tmp_path / "images", tmp_path / "a")
    npz = train(recipe, nano, tmp_path / "pneumoniamnist.npz", tmp_path / "b")
    check_run(files, tmp_path / "a" / "seed0", [str(path) for path in sorted(tmp_path.glob("images/test/*/*"))])
    assert files.test == npz.test and files.test["auroc"] > 0.6
