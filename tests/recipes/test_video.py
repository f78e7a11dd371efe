"""Push-ups, end to end, on a few films; and UCF101 as it was published."""

import numpy as np
import pandas as pd
import pytest
import video_pushup_speed
import video_ucf101

import metatx
from tests.recipes.common import check_run, real, train
from tests.tokenizers.films import write_film

SPEEDS = {"speed_1x": 1.0, "speed_4x": 4.0}


@pytest.fixture
def folder(tmp_path):
    """Of the real data, films of the training split alone: with so few, other scenes are too much to ask."""
    there, rng = real("video/pushup_speed"), np.random.default_rng(0)
    for part, (split, count) in enumerate((("train", 40), ("val", 10), ("test", 20))):
        for speed, steps in SPEEDS.items():
            place = tmp_path / "data" / split / speed
            place.mkdir(parents=True)
            if there is not None:
                for path in sorted((there / "train" / speed).iterdir())[part::3][:count]:
                    (place / path.name).symlink_to(path)
                continue
            for i in range(count):
                write_film(place / f"{i}.mp4", made(steps * rng.uniform(0.8, 1.2), rng))
    return tmp_path / "data"


def made(speed: float, rng: np.random.Generator) -> np.ndarray:
    """A bright bar that goes up and down, on a ground of its own (16, 64, 64, 3)."""
    film = np.full((16, 64, 64, 3), rng.integers(0, 90), np.uint8)
    start = rng.uniform(0, 6)
    for i in range(16):
        top = round(28 + 20 * np.sin(start + speed * i / 10))
        film[i, top : top + 8] = 220
    return film


def test_pushups(nano, folder, tmp_path) -> None:
    out = tmp_path / "out"
    recipe = video_pushup_speed.RECIPE.changed(
        tokenizer_options={"frames": 8, "image_size": 48, "tokens": "tubelets"},
        head_options={"layers": 2, "hidden": 0},
    )
    report = train(recipe, nano, folder, out, epochs=20, batch_size=16, lr=3e-3)
    check_run(report, out / "seed0", [str(path) for path in sorted(folder.glob("test/*/*"))[::8]])
    assert report.task.head.primary_metric == "accuracy" and report.test["accuracy"] > 0.6
    assert not any(p.requires_grad for p in report.task.tokenizer.parameters())


def ucf101(folder):
    """Two actions, four groups of training films, one of test films, three clips each."""
    rng = np.random.default_rng(0)
    actions = {"ApplyEyeMakeup": 0.0, "YoYo": 4.0}
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for number, (action, speed) in enumerate(actions.items(), 1):
        (folder / action).mkdir(parents=True)
        for group in (1, 8, 9, 10, 11):
            for clip in (1, 2, 3):
                name = f"{action}/v_{action}_g{group:02}_c{clip:02}.avi"
                write_film(folder / name, made(speed, rng))
                lists["test" if group == 1 else "train"].append(name if group == 1 else f"{name} {number}")
    (folder / "classInd.txt").write_text("".join(f"{i} {action}\n" for i, action in enumerate(actions, 1)))
    (folder / "trainlist01.txt").write_text("\r\n".join(lists["train"]) + "\r\n")
    (folder / "testlist01.txt").write_text("\n".join(lists["test"]) + "\n")
    return folder


def test_ucf101_with_its_lists(tmp_path) -> None:
    folder = ucf101(tmp_path / "UCF-101")
    splits = video_ucf101.read(folder)
    groups = {split: set(table.file.str.extract(r"_g(\d+)_")[0]) for split, table in splits.items()}
    assert groups == {"train": {"08"}, "validation": {"09", "10", "11"}, "test": {"01"}}
    assert {split: len(table) for split, table in splits.items()} == {"train": 6, "validation": 18, "test": 6}
    everything = pd.concat(splits.values())
    assert all(f"/{label}/" in file for file, label in zip(everything.file, everything.label, strict=True))
    options = {"tokenizer_options": {"frames": 8, "image_size": 32}, "head_options": {"layers": 2}}
    random = metatx.load_backbone("nano", pretrained=False)
    report = train(video_ucf101.RECIPE, random, folder, epochs=4, batch_size=4, **options)
    assert report.data == "UCF101" and report.task.head.classes == ["ApplyEyeMakeup", "YoYo"]
    assert report.test["accuracy"] > 0.6


def test_lists_that_do_not_fit_are_refused(tmp_path) -> None:
    folder = ucf101(tmp_path)
    (folder / "testlist01.txt").write_text("Archery/v_Archery_g01_c01.avi\n")
    with pytest.raises(ValueError, match=r"testlist01.txt names Archery/v_.*; expected Action/v_Action_g01_c01.avi"):
        video_ucf101.read(folder)
