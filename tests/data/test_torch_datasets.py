"""Data as other libraries have them: what is taken by which method, and streams that are answered in blocks."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from PIL import Image as Pillow

import metatx
from metatx.data import torch_datasets

rng = np.random.default_rng(0)
ROWS = pd.DataFrame({"a": rng.normal(size=24), "b": rng.choice(["x", "y"], 24)})
ROWS["label"] = np.where(ROWS.a > 0, "large", "small")
CODES = Dataset.from_dict(
    {"a": list(ROWS.a), "b": list(ROWS.b), "label": [int(kind == "small") for kind in ROWS.label]},
    features=Features({"a": Value("float64"), "b": Value("string"), "label": ClassLabel(names=["large", "small"])}),
)
PIXELS = rng.integers(0, 255, (8, 32, 32, 3)).astype("uint8")
PIXELS[1::2] //= 4
LABELS = [number % 2 for number in range(8)]
PICTURES = [Pillow.fromarray(pixels) for pixels in PIXELS]
SHOWN = Dataset.from_dict(
    {"image": PICTURES, "label": LABELS}, features=Features({"image": Image(), "label": ClassLabel(names=["n", "p"])})
)


class Items(torch.utils.data.Dataset):
    """A data set of torch of items that are made on access."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, number):
        return self.items[number]


class Stream(torch.utils.data.IterableDataset):
    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)


DICTS = ROWS.to_dict("records")
TABLES = {
    "pandas": ROWS,
    "pyarrow": pa.Table.from_pandas(ROWS),
    "datasets": Dataset.from_pandas(ROWS),
    "datasets, ClassLabel": CODES,
    "datasets, by split": DatasetDict(train=CODES, test=CODES),
    "list of dicts": DICTS,
    "dict of lists": ROWS.to_dict("list"),
    "dict of tensors and lists": {"a": torch.tensor(ROWS.a), "b": list(ROWS.b), "label": list(ROWS.label)},
    "torch, rows": Items(DICTS),
    "torch, pairs": Items([({"a": row["a"], "b": row["b"]}, row["label"]) for row in DICTS]),
}
IMAGES = {
    "numpy": (PIXELS, LABELS),
    "torch, uint8": (torch.from_numpy(PIXELS), torch.tensor(LABELS)),
    "torch, (B, C, H, W) in 0 to 1": (torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255, LABELS),
    "Pillow": (PICTURES, LABELS),
    "datasets, Image": SHOWN,
    "datasets, Image, by split": DatasetDict(train=SHOWN, test=SHOWN),
    "torch, pairs": Items(list(zip(PICTURES, LABELS, strict=True))),
}


def answers(backbone, modality, data):
    """Loss and answers of a task that is built, trained and asked with data of one form."""
    task = metatx.Task.from_data(backbone, modality, data)
    task.fit(data, epochs=1)
    samples = data[0] if isinstance(data, tuple) else data
    assert len(task.embed(samples)) == len(task.records(samples)) == len(task.predict(samples))
    return task.evaluate(data)["loss"], task.predict_proba(samples)


@pytest.mark.parametrize(("modality", "kinds"), [("tabular", TABLES), ("image", IMAGES)])
def test_the_form_of_the_data_does_not_change_the_answers(nano, modality, kinds):
    (_, first), *others = kinds.items()
    loss, proba = answers(nano, modality, first)
    for name, data in others:
        again, probabilities = answers(nano, modality, data)
        assert again == pytest.approx(loss, rel=1e-4), name
        np.testing.assert_allclose(probabilities, proba, atol=1e-4, err_msg=name)


def test_polars_is_taken(nano):
    polars = pytest.importorskip("polars")
    _, proba = answers(nano, "tabular", ROWS)
    np.testing.assert_allclose(answers(nano, "tabular", polars.from_pandas(ROWS))[1], proba, atol=1e-5)


@pytest.fixture(scope="module")
def task():
    return metatx.Task.from_data(metatx.load_backbone("nano"), "tabular", ROWS, target="label")


@pytest.mark.parametrize("block", [7, 24, 1000])
def test_a_stream_is_answered_in_blocks_as_a_table_is(task, block, monkeypatch):
    monkeypatch.setattr(torch_datasets, "BLOCK", block)
    read = []

    def rows():
        for row in DICTS:
            read.append(row)
            yield row

    whole = task.predict_proba(ROWS)
    for stream in (Dataset.from_pandas(ROWS).to_iterable_dataset(), rows(), Stream(DICTS)):
        np.testing.assert_allclose(task.predict_proba(stream), whole, atol=1e-5)
    assert len(read) == 24
    assert task.records(Stream(DICTS)) == task.records(DICTS)
    np.testing.assert_allclose(task.embed(Stream(DICTS)), task.embed(ROWS), atol=1e-5)


def test_bad_samples_of_a_stream_are_counted_over_all_blocks(task, monkeypatch):
    monkeypatch.setattr(torch_datasets, "BLOCK", 3)
    rows = [*DICTS[:5], {"a": "much", "b": "x"}, {"a": "more", "b": "x"}]
    with pytest.raises(metatx.SampleError, match="sample 6: "):
        task.predict(Stream(rows))
    answered = task.predict(Stream(rows), skip_bad_samples=True)
    assert list(answered[5:]) == [None, None]
    assert list(answered[:5]) == list(task.predict(rows[:5]))
    with pytest.raises(metatx.SampleError, match="None of 2 samples"):
        task.predict(Stream(rows[5:]), skip_bad_samples=True)
    with pytest.raises(ValueError, match="no samples"):
        task.predict(Stream([]))


def test_pictures_of_a_stream_are_decoded_by_the_tokenizer(nano):
    task = metatx.Task.from_data(nano, "image", (PICTURES, LABELS))
    named = SHOWN.rename_column("image", "file").remove_columns("label")
    streamed = task.predict_proba(row["file"] for row in named)
    np.testing.assert_allclose(streamed, task.predict_proba(PICTURES), atol=1e-5)


def test_training_refuses_a_stream_and_says_what_to_do(nano, task):
    with pytest.raises(TypeError, match="training and evaluation need a table"):
        metatx.Task.from_data(nano, "tabular", Stream(DICTS), target="label")
    with pytest.raises(TypeError, match="training and evaluation need a table"):
        task.evaluate(iter(DICTS))
