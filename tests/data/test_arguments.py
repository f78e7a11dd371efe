"""Doors of the Python API: what numpy, pandas, torch, polars and Arrow give."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

import metatx
from metatx.data.table_files import as_dataset
from metatx.data.tables import as_table
from metatx.settings import TrainingSettings

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame({"x": RNG.normal(size=40), "z": RNG.normal(size=40), "y": ["a", "b"] * 20})


@pytest.fixture(scope="module")
def backbone():
    return metatx.load_backbone("nano")


# Doors


class Stream:
    """A table of another library, which gives itself to Arrow."""

    def __init__(self, frame):
        self.table, self.columns = pa.table(frame), list(frame.columns)

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize(
    "make",
    [
        lambda frame: frame,
        pa.table,
        Stream,
        lambda frame: frame.to_dict("list"),
        lambda frame: frame.to_dict("records"),
        lambda frame: {name: frame[name].to_numpy() for name in frame},
        lambda frame: Dataset.from_pandas(frame).with_format("torch"),
        lambda frame: DatasetDict(train=Dataset.from_pandas(frame), test=Dataset.from_pandas(frame[:2])),
        lambda frame: {"train": frame, "val": frame[:2]},
    ],
)
def test_tables_of_other_libraries(make):
    assert as_table(make(FRAME), (), "train").to_dict() == FRAME.to_dict("list")


@pytest.mark.parametrize("data", [3, b"x", [1, 2], {"a": 1}, [{"a": 1}, 2]])
def test_what_is_no_table_says_what_is(data):
    with pytest.raises(TypeError, match="Data is a path, a DataFrame"):
        as_dataset(data)


def test_columns_of_unequal_length():
    with pytest.raises(ValueError, match="different lengths: .'a': 1, 'b': 2"):
        as_dataset({"a": [1], "b": [1, 2]})


def test_arrays_behind_a_gap_stay_arrays():
    table = as_dataset(pd.DataFrame({"x": [None, np.ones((2, 2))]}))
    assert table["x"][:] == [None, [[1.0, 1.0], [1.0, 1.0]]]


def test_class_labels_are_words():
    features = Features({"label": ClassLabel(names=["cat", "dog"]), "x": Value("int64")})
    table = as_dataset(Dataset.from_dict({"label": [1, 0, -1, None], "x": [1, 2, 3, 4]}, features=features))
    assert table.to_dict() == {"label": ["dog", "cat", None, None], "x": [1, 2, 3, 4]}
    assert table.column_names == ["label", "x"]


@pytest.mark.parametrize(
    "inputs",
    [FRAME.columns.drop("y"), FRAME.columns[:2], np.array(["x", "z"]), ("x", "z"), pd.Series(["x", "z"]), "x, z"],
)
def test_inputs_are_any_sequence_of_names(backbone, inputs):
    assert metatx.Task.from_data(backbone, "tabular", FRAME, target="y", inputs=inputs).inputs == ["x", "z"]


def test_names_with_commas(backbone):
    frame = FRAME.rename(columns={"x": "alc, ohol"})
    for inputs in ("z,alc, ohol", ["z", "alc, ohol"]):
        assert metatx.Task.from_data(backbone, "tabular", frame, target="y", inputs=inputs).inputs == ["z", "alc, ohol"]


def test_numbers_of_numpy_become_python_s(backbone, tmp_path):
    options = {"hidden": np.int64(16), "dropout": np.float32(0.5)}
    task = metatx.Task.from_data(
        backbone, "tabular", FRAME, target="y", head_options=options, tokenizer_options={"bins": np.int16(4)}
    )
    assert json.dumps({**task.head.options, **task.tokenizer.options})
    task.fit(FRAME, epochs=np.int64(1), batch_size=np.uint8(40), lr=np.float64(1e-3), cache=np.bool_(False))
    task.save_pretrained(tmp_path / "task")
    settings_ = TrainingSettings.of(epochs=np.int64(2), lr=np.float32(0.5), seed=torch.tensor(3), shard=np.bool_(False))
    assert [type(getattr(settings_, name)) for name in ("epochs", "lr", "seed", "shard")] == [int, float, int, bool]


X = FRAME[["x", "z"]].to_numpy()


@pytest.mark.parametrize(
    ("samples", "targets"),
    [
        (FRAME[["x", "z"]], FRAME.y),
        (FRAME[["x", "z"]].set_index(np.arange(40)[::-1]), FRAME.y[::-1]),
        (pa.table(FRAME[["x", "z"]]), pa.array(FRAME.y)),
        (X, FRAME.y.to_numpy()),
        (X.tolist(), FRAME.y.tolist()),
        (torch.tensor(X, requires_grad=True), FRAME.y.astype("category")),
    ],
)
def test_pairs_of_samples_and_targets(backbone, samples, targets):
    task = metatx.Task.from_data(backbone, "tabular", (samples, targets))
    assert task.head.classes == ["a", "b"] and len(task.inputs) == 2
    whole = task.examples((samples, targets), "train")
    assert list(whole.targets) == list(targets.to_pylist() if isinstance(targets, pa.Array) else targets)
    np.testing.assert_allclose([list(row.values()) for row in whole.inputs], X)
    assert len(task.predict(samples)) == 40
    if not isinstance(samples, pd.DataFrame | pa.Table):
        with pytest.raises(ValueError, match="sample 1: found 3 values; expected 2: 0, 1;"):
            task.predict(np.zeros((2, 3)))


def test_tensors_with_a_gradient_are_samples(backbone):
    series = [torch.randn(32, 2, requires_grad=True) for _ in range(4)]
    task = metatx.Task.from_data(backbone, "time_series", (series, torch.tensor([0, 1, 0, 1])))
    assert task.head.classes == [0, 1]
    assert task.predict(series).shape == (4,)
    pictures = torch.rand(4, 3, 16, 16, requires_grad=True)
    task = metatx.Task.from_data(backbone, "image", (pictures, ["a", "b"] * 2))
    assert task.predict(pictures).shape == (4,) and task.predict(list(pictures)).shape == (4,)


@pytest.mark.parametrize("target", [["y"], pd.Index(["y"]), np.str_("y"), ("y",)])
def test_a_target_is_named_by_any_sequence(backbone, target):
    task = metatx.Task.from_data(backbone, "tabular", FRAME, target=target)
    assert (task.target, type(task.target)) == ("y", str)


@pytest.mark.parametrize(
    "targets", [FRAME[["y"]], FRAME[["y"]].to_numpy(), np.arange(40)[:, None] % 2, torch.arange(40)[:, None] % 2]
)
def test_a_column_of_targets_is_one_target_a_sample(backbone, targets):
    task = metatx.Task.from_data(backbone, "tabular", (FRAME[["x", "z"]], targets))
    assert task.head.name == "classification" and len(task.head.classes) == 2


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">i2", "<u4", "Sparse[float]", "Sparse[int]"])
def test_columns_of_any_order_of_bytes(dtype):
    table = as_dataset(pd.DataFrame({"x": pd.Series([0, 1, 2]).astype(dtype), "y": ["a", "b", "c"]}))
    assert table.to_dict() == {"x": [0, 1, 2], "y": ["a", "b", "c"]}


def test_a_column_is_no_table(backbone):
    task = metatx.Task.from_data(backbone, "tabular", FRAME, target="y")
    with pytest.raises(TypeError, match="Data is a path, a DataFrame .*, not Series"):
        task.fit(FRAME, FRAME.y)
    with pytest.raises(TypeError, match=r"of type Series; expected a list of samples \(for one: \[sample\]\)"):
        task.predict(FRAME.iloc[0])
    with pytest.raises(ValueError, match="The data has no test split; it has train"):
        task.predict(DatasetDict(train=Dataset.from_pandas(FRAME)))


def test_only_a_target_leaves_nothing_to_read(backbone):
    with pytest.raises(ValueError, match="The tokenizer can read no column; columns: y"):
        metatx.Task.from_data(backbone, "tabular", FRAME[["y"]], target="y")
