"""Time first or channels first: options that turn samples, and refusals that name them."""

import numpy as np
import pytest

from metatx import SampleError, Task, create, load_backbone
from metatx.data.tables import read_splits
from metatx.reading.hyperspectral import scene_of

RNG = np.random.default_rng(0)
WINDOWS = RNG.normal(size=(8, 6, 64)).astype(np.float32)  # (N, channels, time)
TURNED = WINDOWS.transpose(0, 2, 1)


def imu(**options):
    return create("tokenizers", "imu", 192, **options)


def test_windows_of_either_axis_are_the_same():
    first, second = imu().learn(list(WINDOWS)), imu(time_axis=0).learn(list(TURNED))
    for one, other in zip(WINDOWS, TURNED, strict=True):
        np.testing.assert_array_equal(second.encode(other)["signal"], first.encode(one)["signal"])
    rows = [{"acc": window[:, :3], "gyr": window[:, 3:]} for window in TURNED]
    assert imu(time_axis=0).learn(rows).num_channels == 6
    for example in second.json_schema()["examples"]:
        assert second.encode(second.from_json(example))["signal"].shape[0] == 6


def test_turned_windows_name_the_option():
    hint = r"looks like time x channels: set time_axis=0 \(--tokenizer.time-axis 0\)"
    with pytest.raises(ValueError, match=f"signal has 6 steps at 100 Hz; expected at least 32.*{hint}"):
        imu().learn(list(TURNED))
    tokenizer = imu(frame=4, patch_size=4).learn(list(WINDOWS))
    with pytest.raises(SampleError, match=f"64 channels x 6 steps; expected 6 channels; it {hint}"):
        tokenizer.encode(TURNED[0])
    with pytest.raises(SampleError, match="expected 6 channels$"):
        tokenizer.encode(WINDOWS[0][:4])
    lengths = [RNG.normal(size=(steps, 40)) for steps in range(50, 60)]
    with pytest.raises(
        ValueError, match="50 to 59 channels and all 40 steps: they look like time x channels; set time_axis=0"
    ):
        imu().learn(lengths)


def test_many_channels_and_few_steps_are_told(caplog):
    with caplog.at_level("INFO", "metatx"):
        imu().learn([RNG.normal(size=(60, 40)) for _ in range(4)])
    assert "60 channels, but 40 steps at most. If they are time x channels, set time_axis=0" in caplog.text


@pytest.mark.parametrize("turned", [False, True])
def test_one_file_holds_all_windows(tmp_path, turned):
    windows, kind = (TURNED if turned else WINDOWS), imu(time_axis=0 if turned else 1)
    np.savez(tmp_path / "a.npz", X=windows.astype(">f8"), y=np.arange(8) % 2)
    np.savez(tmp_path / "b.npz", X_train=windows, y_train=np.arange(8), X_test=windows[:2], y_test=[0, 1])
    whole = read_splits(tmp_path / "a.npz", kind.suffixes, None, kind.readers)["all"]
    assert list(whole.targets) == [0, 1] * 4 and kind.learn(whole.inputs).num_channels == 6
    assert set(read_splits(tmp_path / "b.npz", kind.suffixes, None, kind.readers)) == {"train", "test"}
    np.savez(tmp_path / "c.npz", pixels=windows)
    with pytest.raises(ValueError, match=r"c.npz holds pixels \(8, .*\); expected X \(N, channels, time\)"):
        read_splits(tmp_path / "c.npz", kind.suffixes, None, kind.readers)


def test_clips_of_either_axis_are_the_same():
    clip = RNG.integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
    usual = create("tokenizers", "video", 192, stem=None, frames=4)
    turned = create("tokenizers", "video", 192, stem=None, frames=4, time_axis=1)
    channels_first = clip.transpose(3, 0, 1, 2)
    expected = usual.encode(clip)["clip"]
    np.testing.assert_array_equal(turned.encode(channels_first)["clip"], expected)
    np.testing.assert_array_equal(usual.encode(clip.transpose(0, 3, 1, 2))["clip"], expected)
    with pytest.raises(SampleError, match=r"\(3, 8, 64, 64\), with time behind the channels; set time_axis=1"):
        usual.encode(channels_first)


def test_patches_of_either_axis_are_the_same():
    patches = RNG.normal(size=(5, 3, 3, 12))
    usual = create("tokenizers", "hyperspectral", 192, patch_size=3).learn(list(patches))
    turned = create("tokenizers", "hyperspectral", 192, patch_size=3, band_axis=0).learn(
        list(patches.transpose(0, 3, 1, 2))
    )
    for patch in patches:
        np.testing.assert_array_equal(turned.encode(patch.transpose(2, 0, 1))["patch"], usual.encode(patch)["patch"])
    with pytest.raises(
        SampleError, match="expected patch_size, 3, each way; if bands stand elsewhere, set band_axis=0"
    ):
        usual.encode(patches[0].transpose(2, 0, 1))
    (example,) = turned.json_schema()["examples"]
    assert turned.encode(example)["patch"].shape == (9, 12)


def test_a_scene_with_its_bands_first_is_turned_by_its_mask():
    cube, mask = RNG.normal(size=(4, 5, 7)), RNG.integers(1, 3, (4, 5))
    usual, turned = (scene_of(each, {"all": mask}, "scene")["all"] for each in (cube, cube.transpose(2, 0, 1)))
    np.testing.assert_array_equal(turned.inputs[3].patch(1), usual.inputs[3].patch(1))


def test_a_cloud_with_its_coordinates_first_is_refused():
    tokenizer = create("tokenizers", "point_cloud", 192, groups=2)
    with pytest.raises(
        ValueError, match="3 points of 1,024 columns; expected .*: if columns come first, turn the array"
    ):
        tokenizer.learn([RNG.normal(size=(3, 1024))])


@pytest.mark.parametrize("names", [("node_feat", "edge_feat"), ("x", "edge_attr")])
def test_a_graph_is_read_with_its_features_by_either_name(names):
    edges = {"edge_index": np.array([[0, 1], [1, 2]]), "num_nodes": 3, "y": 1}
    parts = dict(zip(names, (RNG.normal(size=(3, 4)), RNG.normal(size=(2, 5))), strict=True))
    assert create("tokenizers", "graph", 192).learn([edges | parts] * 3).widths == [5, 5, 2]


def test_what_is_no_part_of_a_graph_is_named():
    tokenizer = create("tokenizers", "graph", 192).restore({"widths": [1, 0, 2], "molecules": False})
    graph = {"edge_index": [[0, 1], [1, 2]], "node_attr": [[1.0]] * 3}
    with pytest.raises(SampleError, match="graph has node_attr, which is not read; a graph has .*x or node_feat"):
        tokenizer.encode(graph)
    with pytest.raises(SampleError, match="both x and node_feat"):
        tokenizer.encode({"edge_index": [[0], [1]], "x": [[1], [2]], "node_feat": [[1], [2]]})
    with pytest.raises(SampleError, match=r"edge_index is \(3, 2\); expected two rows .*: turn it"):
        tokenizer.encode({"edge_index": [[0, 1], [1, 2], [2, 0]]})


@pytest.mark.parametrize("name", ["X_Testing", "x_TEST", "test_x", "Windows_test_set"])
def test_splits_of_windows_are_spelt_as_people_do(tmp_path, name):
    labels = name.replace("X", "y").replace("x", "y").replace("Windows", "labels")
    parts = {"X_train": WINDOWS, "y_train": np.arange(8), name: WINDOWS[:4], labels: np.arange(4)}
    np.savez(tmp_path / "a.npz", **parts)
    found = read_splits(tmp_path / "a.npz", (), containers=imu().readers)
    assert {split: (len(part), part.targets) for split, part in found.items()} == {
        "train": (8, list(range(8))),
        "test": (4, list(range(4))),
    }


def test_windows_of_no_known_split_are_told_and_of_one_twice_refused(tmp_path, caplog):
    np.savez(tmp_path / "a.npz", X_train=WINDOWS, X_later=WINDOWS)
    with caplog.at_level("INFO", "metatx"):
        assert [*read_splits(tmp_path / "a.npz", (), containers=imu().readers)] == ["train"]
    assert "x_later is of no known split" in caplog.text
    np.savez(tmp_path / "a.npz", X_train=WINDOWS, X_test=WINDOWS, X_Testing=WINDOWS)
    with pytest.raises(ValueError, match="x_test and x_testing, both of the test split"):
        read_splits(tmp_path / "a.npz", (), containers=imu().readers)


def test_graphs_whose_count_of_nodes_is_not_that_of_their_features_are_refused():
    graph = {"edge_index": [[0, 1], [1, 2]], "node_feat": np.ones((3, 2)), "num_nodes": 5}
    with pytest.raises(ValueError, match="num_nodes is 5, but features are of 3 nodes"):
        create("tokenizers", "graph", 64).learn([graph])
    assert create("tokenizers", "graph", 64).learn([graph | {"num_nodes": 3.0}]).widths == [3, 0, 2]


def test_a_table_without_a_column_to_read_says_what_its_columns_hold():
    with pytest.raises(ValueError, match=r"The tokenizer can read no column; columns: 0 \(float\), 1 \(float"):
        Task.from_data(load_backbone("nano"), "imu", (WINDOWS[:, 0], [0, 1] * 4))
