"""What is asked about or measured is laid out unlike the data that the task was trained on."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import metatx
from metatx.cli import main
from metatx.cli.predictions import write_answers
from tests.mixed_tasks import small_backbone, unlike_any


@pytest.fixture(scope="module")
def backbone():
    return small_backbone()


@pytest.fixture
def pictures(tmp_path):
    """Twelve of two classes to train on, two without to test."""
    rng = np.random.default_rng(0)
    for number in range(14):
        place = f"train/{'ab'[number % 2]}" if number < 12 else "test"
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        picture = rng.integers(0, 99, (16, 16, 3)) + 100 * (number % 2)
        Image.fromarray(picture.astype(np.uint8)).save(tmp_path / place / f"{number}.png")
    return tmp_path


def test_a_test_split_without_labels_is_told_and_another_held_out(pictures, tmp_path_factory, capsys, caplog):
    out = tmp_path_factory.mktemp("run") / "out"
    options = ["--modality", "image", "--tokenizer.image_size", "16", "--epochs", "1", "--out", str(out)]
    with caplog.at_level("INFO", "metatx"):
        main(["train", str(pictures), *options])
    assert f"{pictures}: its test split has no label and is left out" in caplog.text
    assert "20% held out" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["train", str(pictures / "train"), "--test", str(pictures / "test"), *options[:-1], f"{out}2"])
    assert "label" in capsys.readouterr().err


@pytest.mark.parametrize("names", [["id", "label"], ["image_id", "label"], ["path"]])
def test_a_task_trained_on_a_folder_reads_the_one_column_of_files_of_a_table(backbone, pictures, names, caplog):
    task = metatx.Task.from_data(backbone, "image", str(pictures / "train"), tokenizer_options={"image_size": 16})
    files = sorted(str(file) for file in (pictures / "train/a").iterdir())
    frame = pd.DataFrame(dict(zip(names, [files, ["a"] * len(files)], strict=False)))
    with caplog.at_level("INFO", "metatx"):
        assert [*task.predict(frame)] == [*task.predict(files)]
        if "label" in names:
            assert task.evaluate(frame)["accuracy"] == np.mean(task.predict(files) == "a")
    assert f"Column {names[0]} is read as file, which the task was trained with." in caplog.text
    with pytest.raises(ValueError, match="Unknown column 'file'"):
        task.predict(frame.assign(other=files))


@pytest.mark.parametrize("labels", [[1, 2], ["oak", "pine"]])
def test_a_map_is_drawn_around_pixels_that_cannot_be_used(backbone, tmp_path, labels):
    rng = np.random.default_rng(0)
    cube, truth = rng.normal(size=(6, 5, 8)), np.array(labels)[rng.integers(0, 2, (6, 5))]
    task = metatx.Task.from_data(backbone, "hyperspectral", (list(cube.reshape(-1, 8)), truth.ravel().tolist()))
    task = unlike_any(task, 0)
    cube[2, 3, 0] = np.nan
    np.savez(tmp_path / "scene.npz", cube=cube)
    for name in ("map.png", "map.npy"):
        with pytest.raises(metatx.SampleError, match="band 1 holds NaN"):
            write_answers(task, [str(tmp_path / "scene.npz")], str(tmp_path / name), None)
        write_answers(task, [str(tmp_path / "scene.npz")], str(tmp_path / name), None, skip_bad=True)
    found = np.load(tmp_path / "map.npy")
    missing = found == "" if found.dtype.kind == "U" else np.isnan(found)
    assert missing[2, 3] or missing.sum() > 1
    assert set(found[~missing].tolist()) <= set(labels)
