"""Fashion products by vectors, end to end, on a few of them."""

from recipes import image_retrieval_fashion as recipe
from tests.recipes.common import check_run
from tests.recipes.fashion import products


def test_no_kind_is_in_two_splits_and_no_photo_is_lost(tmp_path) -> None:
    found = recipe.splits(products(tmp_path))
    kinds = {split: {name.split(",")[0] for name in names} for split, (_, names) in found.items()}
    assert sum(map(len, kinds.values())) == len(set.union(*kinds.values())) == 4
    assert {split: len(names) for split, names in kinds.items()} == {"train": 2, "validation": 1, "test": 1}
    photos = [photo["bytes"] for images, _ in found.values() for photo in images]
    assert len(photos) == len(set(photos)) == 280


def test_image_retrieval_fashion(tmp_path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (report,) = recipe.main(
        data=str(products(folder)), seeds=(0,), epochs=8, grid=4, layers=6, out=str(tmp_path / "out")
    )
    check_run(report, tmp_path / "out" / "seed0", recipe.splits(folder)["test"][0][:8])
    assert report.test["loss"] == 0, "no identity of the test split was in training"
    assert report.test["recall@1"] > 0.6
