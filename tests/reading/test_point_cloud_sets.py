"""Sets of clouds as they are published, in small, read by split and label; and refused where something is wrong."""

import json

import h5py
import numpy as np
import pytest

from metatx.cli import main
from metatx.data.tables import read_splits
from metatx.reading.point_cloud import SUFFIXES
from metatx.reading.point_cloud_sets import CONTAINERS

RNG = np.random.default_rng(0)
NAMES = ["ball", "rod"]
COUNTS = {"train": 24, "val": 8, "test": 8}


def clouds(count, columns=3, points=40):
    """Balls and rods in turn, and their labels."""
    labels = np.arange(count) % 2
    stretch = np.where(labels, 4, 1)[:, None, None] ** [1.0, *[0.0] * (columns - 1)]
    return (RNG.normal(size=(count, points, columns)) * stretch).astype(np.float32), labels.astype(np.uint8)


def npz(folder):
    for split, count in COUNTS.items():
        points, label = clouds(count, 4)
        columns = ["x", "y", "z", "speed"]
        np.savez(folder / f"{split}.npz", points=points, label=label, class_names=NAMES, columns=columns)


def h5(folder):
    for split in ("train", "test"):
        for part in range(2):
            points, label = clouds(COUNTS[split] // 2)
            with h5py.File(folder / f"ply_data_{split}{part}.h5", "w") as file:
                file["data"], file["label"] = points, label[:, None]
        lines = [f"data/modelnet40_ply_hdf5_2048/ply_data_{split}{part}.h5" for part in range(2)]
        (folder / f"{split}_files.txt").write_text("\n".join(lines))
    (folder / "shape_names.txt").write_text("\n".join(NAMES))


def off(folder):
    for split in ("train", "test"):
        points, labels = clouds(COUNTS[split])
        for i, (vertices, label) in enumerate(zip(points, labels, strict=True)):
            path = folder / NAMES[label] / split / f"{i}.off"
            path.parent.mkdir(parents=True, exist_ok=True)
            rows = [*vertices.tolist(), *([3, a, a + 1, a + 2] for a in range(38))]
            path.write_text("\n".join(["OFF", "40 38 0", *(" ".join(map(str, row)) for row in rows)]))


def shapenet(folder):
    synsets = {"ball": "001", "rod": "002"}
    (folder / "synsetoffset2category.txt").write_text("\n".join(f"{k}\t{v}" for k, v in synsets.items()) + "\n")
    (folder / "train_test_split").mkdir()
    for split, count in COUNTS.items():
        points, labels = clouds(count, 7)
        names = [f"shape_data/{synsets[NAMES[label]]}/{split}{i}" for i, label in enumerate(labels)]
        (folder / "train_test_split" / f"shuffled_{split}_file_list.json").write_text(json.dumps(names))
        for name, cloud in zip(names, points, strict=True):
            path = folder / name.removeprefix("shape_data/")
            path.parent.mkdir(exist_ok=True)
            np.savetxt(path.with_suffix(".txt"), cloud)


def read(path):
    return read_splits(path, SUFFIXES, None, CONTAINERS)


@pytest.mark.parametrize(
    ("make", "counts"),
    [(npz, COUNTS), (h5, {"train": 24, "test": 8}), (shapenet, COUNTS), (off, {"train": 24, "test": 8})],
)
def test_a_published_folder_is_trained_on(tmp_path, make, counts, capsys):
    (tmp_path / "data").mkdir()
    make(tmp_path / "data")
    splits = read(tmp_path / "data")
    assert {split: len(part) for split, part in splits.items()} == {
        k.replace("val", "validation"): v for k, v in counts.items()
    }
    labels = splits["test"]["label"][:] if make is off else splits["test"].targets
    assert sorted(set(labels)) == NAMES
    options = "--tokenizer.groups 4 --tokenizer.neighbours 8 --tokenizer.slices 1 --tokenizer.points 60"
    options += f" --epochs 4 --batch_size 4 --lr 0.003 --no-baseline --out {tmp_path}/out"
    main(f"train {tmp_path}/data --modality point_cloud {options}".split())
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["test"]["auroc"] > 0.9  # the epoch is chosen on few clouds, so the threshold may be off
    source = {npz: "test.npz", h5: "ply_data_test0.h5", off: "rod/test/1.off", shapenet: "002/test1.txt"}[make]
    if make is not shapenet:  # whose seventh column the task does not know
        capsys.readouterr()
        main(f"predict {tmp_path}/out/task {tmp_path}/data/{source}".split())
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 1 + {npz: 8, h5: 4, off: 1}[make] and all(
            line.split(",")[1] in NAMES for line in lines[1:]
        )


def test_columns_and_names_come_along(tmp_path):
    npz(tmp_path)
    cloud = read(tmp_path)["train"].inputs[1]
    assert cloud.columns == ("x", "y", "z", "speed") and cloud.points.shape == (40, 4)
    assert read(tmp_path / "train.npz")["all"].targets[:3] == ["ball", "rod", "ball"]


def test_a_part_of_shapenet_is_no_input(tmp_path):
    shapenet(tmp_path)
    cloud = read(tmp_path)["validation"].inputs[0]
    assert cloud.columns == ("x", "y", "z", "nx", "ny", "nz") and cloud.points.shape == (40, 6)


def test_npz_of_one_cloud_is_one_sample(tmp_path):
    np.savez(tmp_path / "a.npz", points=np.eye(3))
    (sample,) = read(tmp_path / "a.npz")["all"].inputs
    np.testing.assert_array_equal(sample.points, np.eye(3))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"points": np.zeros((3, 5, 2))}, r"float64 \(3, 5, 2\); expected numbers \(N, P, 3 or more\)"),
        ({"points": np.full((3, 5, 3), "a")}, "expected numbers"),
        ({"points": np.zeros((3, 5, 3)), "label": np.zeros(4)}, r"label is \(4,\); expected one for each of 3"),
        ({"points": np.zeros((3, 5, 3)), "columns": ["x"]}, "3 columns, and 1 names"),
        ({"points": np.zeros((1, 5, 3)), "label": [2], "class_names": NAMES}, "from 0 to 1"),
        ({"points": np.zeros((1, 5, 3)), "label": [0.5], "class_names": NAMES}, "from 0 to 1"),
        ({"points": np.zeros((0, 5, 3))}, "holds no samples"),
        ({"points": np.zeros((1, 2_000_001, 3), np.int8)}, r"at most 2,000,000 .METATX_BOUNDS=points"),
        ({"data": np.zeros(3)}, r"holds data \(3,\); expected one array"),
        ({"points": np.array([None])}, "points is no array of numbers: its values are objects of Python"),
    ],
)
def test_bad_npz_is_named(tmp_path, arrays, message):
    np.savez(tmp_path / "data.npz", **arrays)
    refused(tmp_path / "data.npz", message)


def refused(path, message):
    with pytest.raises(ValueError, match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value) and path.name in str(caught.value)


def test_truncated_and_empty_npz_is_named(tmp_path):
    npz(tmp_path)
    content = (tmp_path / "val.npz").read_bytes()
    for damaged in (b"", content[:200], content[:-30]):
        (tmp_path / "val.npz").write_bytes(damaged)
        refused(tmp_path / "val.npz", "val.npz is damaged, or no npz file" if damaged else "val.npz is empty")


def test_bad_h5_is_named(tmp_path, monkeypatch):
    h5(tmp_path)
    file = tmp_path / "ply_data_train1.h5"
    content = file.read_bytes()
    for damaged in (b"", b"no h5", content[:300]):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match="ply_data_train1.h5 is damaged, or no h5 file"):
            read(tmp_path)
    file.unlink()
    with pytest.raises(ValueError, match="ply_data_train1.h5 does not exist, but a list names it"):
        read(tmp_path)
    import h5py

    with h5py.File(file, "w") as other:
        other.create_group("data"), other.create_group("label")
    with pytest.raises(ValueError, match="ply_data_train1.h5 is an h5 file whose data is a group; expected an array"):
        read(tmp_path)
    with h5py.File(file, "w") as other:
        other["pixels"] = [1]
    with pytest.raises(ValueError, match="ply_data_train1.h5 is an h5 file that holds pixels; expected data"):
        read(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(ImportError, match=r"Reading .h5 files needs h5py: pip install 'metatx\[pointcloud\]'"):
        read(tmp_path)


def test_bad_shapenet_is_named(tmp_path):
    shapenet(tmp_path)
    listed = tmp_path / "train_test_split" / "shuffled_val_file_list.json"
    listed.write_text("[")
    with pytest.raises(ValueError, match="shuffled_val_file_list.json is damaged"):
        read(tmp_path)
    listed.write_text('["shape_data/777/a"]')
    with pytest.raises(ValueError, match="names shape_data/777/a, whose folder is not in"):
        read(tmp_path)
    listed.write_text('["shape_data/001/gone"]')
    command = f"train {tmp_path} --modality point_cloud --epochs 1 --out {tmp_path}/out"
    with pytest.raises(SystemExit):
        main(command.split())
    for file in (tmp_path / "train_test_split").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match="has no train_test_split"):
        read(tmp_path)
    (tmp_path / "synsetoffset2category.txt").write_text("ball\n")
    with pytest.raises(ValueError, match="expected a category and its folder in each line"):
        read(tmp_path)
