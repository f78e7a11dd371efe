"""RegDB's recipe, on a small folder of the published form."""

import numpy as np
import pytest
from PIL import Image

from recipes.image_regdb import main, people
from tests.recipes.common import check_run

PEOPLE = {"train": 12, "test": 6}
PICTURES = 4  # of each person and kind


@pytest.fixture
def folder(tmp_path):
    """People in two greys, above and below; visible pictures with a tint."""
    rng = np.random.default_rng(0)
    (tmp_path / "idx").mkdir()
    for split, count in PEOPLE.items():
        for kind in ("visible", "thermal"):
            lines = []
            (tmp_path / kind.title() / split).mkdir(parents=True)
            colours = np.random.default_rng(split == "train").integers(20, 235, (count, 2, 1))
            for person in range(count):
                for i in range(PICTURES):
                    picture = np.repeat(colours[person], 32, axis=0)[:, None].repeat(32, 1)
                    picture = picture + (0 if kind == "thermal" else np.array([15, 0, -15]))
                    picture = (picture + rng.normal(size=(64, 32, 3)) * 5).clip(0, 255).astype(np.uint8)
                    name = f"{kind.title()}/{split}/{person}_{i}.bmp"
                    Image.fromarray(picture).save(tmp_path / name)
                    lines.append(f"{name} {person}")
            (tmp_path / "idx" / f"{split}_{kind}_3.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_people_of_a_split_are_in_no_other(folder):
    splits = people(folder, 3)
    found = {split: set(table.person) for split, table in splits.items()}
    assert {split: len(names) for split, names in found.items()} == {"train": 9, "validation": 3, "test": 6}
    assert not found["train"] & found["test"] and not found["train"] & found["validation"]
    assert set(splits["test"].kind) == {"visible", "thermal"}
    with pytest.raises(FileNotFoundError, match="train_visible_7"):
        people(folder, 7)
    (folder / "idx" / "train_visible_3.txt").write_text("Visible/a.bmp\n")
    with pytest.raises(ValueError, match="line 1: 'Visible/a.bmp'; expected a picture and a person's number"):
        people(folder, 3)


def test_regdb(folder, tmp_path, capsys):
    (report,) = main(
        data=str(folder), trial=3, epochs=20, grid=(4, 4), layers=2, size=32, batch_size=24, out=str(tmp_path / "out")
    )
    check_run(report, tmp_path / "out" / "seed0", people(folder, 3)["test"].file.tolist()[:3])
    printed = capsys.readouterr().out
    assert "visible among thermal: rank-1" in printed and "thermal among visible: rank-1" in printed
    first = float(printed.split("visible among thermal: rank-1 ")[1].split(",")[0])
    assert first > 2 / PEOPLE["test"], "better than twice chance"
