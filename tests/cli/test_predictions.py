"""Predictions as files: rows, maps of scenes, folders of masks."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

import metatx
from metatx.cli import main
from metatx.cli.predictions import check_suffix, draw_map
from metatx.writing.rows import write_rows
from tests.samples import halves


@pytest.fixture(scope="module")
def scene(nano, tmp_path_factory):
    """A folder with a scene of two materials, left and right, a few pixels of each labelled; and a task for it."""
    folder, rng = tmp_path_factory.mktemp("scene"), np.random.default_rng(0)
    cube = rng.normal(size=(12, 16, 20)) * 0.1
    cube[:, 8:, :10] += 1
    truth = np.zeros((12, 16), dtype=np.uint8)
    truth[::3, :8], truth[::3, 8:] = 1, 2
    np.savez(folder / "scene.npz", cube=cube, gt=truth)
    task = metatx.Task.from_data(nano, "hyperspectral", folder / "scene.npz")
    task.fit(folder / "scene.npz", epochs=15, batch_size=16, lr=3e-3)
    task.save_pretrained(folder / "task")
    return folder


def test_a_whole_scene_becomes_a_map(scene):
    main(["predict", str(scene / "task"), str(scene / "scene.npz"), "--out", str(scene / "map.npy")])
    labels = np.load(scene / "map.npy")
    assert labels.shape == (12, 16)
    assert (labels[:, :7] == 1).mean() > 0.95 and (labels[:, 9:] == 2).mean() > 0.95
    main(["predict", str(scene / "task"), str(scene / "scene.npz"), "--out", str(scene / "map.png")])
    pixels = np.asarray(Image.open(scene / "map.png").convert("RGB"))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 3


def test_rows_are_of_the_labelled_pixels(scene):
    main(["predict", str(scene / "task"), str(scene / "scene.npz"), "--out", str(scene / "rows.jsonl")])
    rows = [json.loads(line) for line in (scene / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == 64 and list(rows[0]) == ["row", "prediction", "p(1)", "p(2)"]


def test_a_map_shows_every_label(tmp_path):
    labels = np.arange(12).reshape(3, 4)
    draw_map(labels, tmp_path / "map.png")
    pixels = np.asarray(Image.open(tmp_path / "map.png").convert("RGB")).reshape(-1, 3)
    colours, counts = np.unique(pixels, axis=0, return_counts=True)
    assert (counts > 1000).sum() >= 13  # twelve fields, and the ground


def test_masks_become_a_folder(nano, tmp_path, capsys, caplog):
    caplog.set_level("INFO", logger="metatx")
    pictures, masks = halves(4)
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    options = {"image_size": [32, 48]}
    task = metatx.Task.from_data(nano, "image", (pictures, masks), head="segmentation", tokenizer_options=options)
    task.save_pretrained(tmp_path / "task")
    main(
        ["predict", str(tmp_path / "task"), str(tmp_path / "0.png"), str(tmp_path / "2.png"), "--out", f"{tmp_path}/m"]
    )
    assert f"{tmp_path}/m: answers of 2 samples" in caplog.messages
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["0.png", "2.png"]
    assert Image.open(tmp_path / "m" / "2.png").size == (64, 48)
    main(["predict", str(tmp_path / "task"), str(tmp_path / "0.png")])
    (row,) = csv.DictReader(capsys.readouterr().out.splitlines())
    assert list(row) == ["file", "share(3)", "share(8)"]
    with pytest.raises(SystemExit):
        main(["predict", str(tmp_path / "task"), str(tmp_path / "0.png"), "--out", f"{tmp_path}/map.png"])
    assert "can be drawn of one scene" in capsys.readouterr().err


def test_lists_in_a_csv_are_json(tmp_path):
    rows = [{"prediction": ["a", 'b "c"'], "p": 0.5}, {"prediction": [], "p": 1}]
    write_rows(rows, str(tmp_path / "x.csv"), None)
    with (tmp_path / "x.csv").open(newline="") as file:
        assert [json.loads(row["prediction"]) for row in csv.DictReader(file)] == [["a", 'b "c"'], []]


def test_endings_are_checked():
    check_suffix(None, (".csv",))
    with pytest.raises(ValueError, match=r"expected a name with \.csv, no suffix \(a folder\) or \.npy"):
        check_suffix("x.txt", (".csv", "", ".npy"))
