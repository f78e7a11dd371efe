"""Fashion products by tags, end to end, on a few of them."""

from recipes import image_tags_fashion as recipe
from tests.recipes.common import check_run
from tests.recipes.fashion import products


def test_rare_tags_are_left_out(tmp_path, monkeypatch) -> None:
    folder = products(tmp_path)
    monkeypatch.setattr(recipe, "FEWEST", 1)
    every = recipe.tagged(folder)
    assert {split: len(photos) for split, (photos, _) in every.items()} == {"train": 160, "validation": 40, "test": 80}
    assert all(len(tags) == 4 for tags in every["train"][1])
    tags = [tag for tags in every["train"][1] for tag in tags]
    monkeypatch.setattr(recipe, "FEWEST", 40)
    kept = {tag for _, rows in recipe.tagged(folder).values() for row in rows for tag in row}
    assert kept == {tag for tag in tags if tags.count(tag) >= 40} != set(tags)


def test_image_tags_fashion(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(recipe, "FEWEST", 20)
    folder = tmp_path / "data"
    folder.mkdir()
    (report,) = recipe.main(
        data=str(products(folder)), seeds=(0,), epochs=20, grid=4, layers=6, out=str(tmp_path / "out")
    )
    check_run(report, tmp_path / "out" / "seed0", recipe.tagged(folder)["test"][0][:8])
    assert "chosen by F1" in report.task.head.note() and report.test["micro_f1"] > 0.7
