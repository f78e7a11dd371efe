"""Advice of an input's tokenizer names options as a task of several inputs has them, and they are accepted."""

import re
import shlex

import numpy as np
import pandas as pd
import pytest

import metatx
from metatx.cli import main
from metatx.inputs.messages import with_options_of
from tests.own_data.layouts import lines_told
from tests.several import BACKBONE, labels

told = pytest.fixture(lines_told)

ROWS = pd.DataFrame(
    {
        "note": ["a red house", "a grey one"] * 16,
        "rooms": [1.0, 2.0, None, 4.0] * 8,
        "living area": range(32),
        "empty": [None] * 32,
        "price": [1.0, 2.0, 3.0, 4.0] * 8,
    }
)
LINE = "--input note=text --target price --epochs 1 --no-baseline"


def _error(reads, **options):
    facts = metatx.Input(name="facts", modality="tabular", columns=reads, options=options)
    with pytest.raises(ValueError) as raised:
        metatx.Task.from_data(BACKBONE, [facts, metatx.Input(name="note", modality="text")], ROWS, target="price")
    return str(raised.value)


def test_columns_that_cannot_be_read_and_both_ways_to_leave_them_out(tmp_path):
    said = _error("rooms,living area,empty")
    assert "--inputs" not in said and "--tokenizer.columns" not in said
    ROWS.to_csv(tmp_path / "t.csv", index=False)
    instead = re.search(r"as in (--input .*?); or", said)[1]
    assert shlex.split(instead) == ["--input", "facts=tabular:rooms,living area"]
    ignored = re.search(r"ignore it: (--tokenizer.*)\.$", said)[1]
    every = "--input 'facts=tabular:rooms,living area,empty'"
    for number, options in enumerate((instead, f"{every} {ignored}")):
        main(shlex.split(f"train {tmp_path}/t.csv {LINE} {options} --out {tmp_path}/{number}"))
        task = metatx.Task.from_pretrained(tmp_path / str(number) / "task")
        assert [column["name"] for column in task.tokenizer.tokenizer("facts").schema] == ["rooms", "living area"]


def test_no_column_is_left():
    assert "with --input facts=tabular:COLUMN,..." in _error("rooms", columns={"rooms": "ignore"})


@pytest.mark.parametrize(("options", "said"), [({"bins": 0}, "bins is 0"), ({"binz": 4}, "Unknown option of the tabu")])
def test_options_that_cannot_be_name_their_input(options, said):
    assert _error("rooms", **options).startswith(f"Input facts: {said}")


@pytest.mark.parametrize(("longer", "is_error"), [(0, False), (1, True)])
def test_series_whose_time_stands_first(longer, is_error, told):
    rng = np.random.default_rng(0)
    rows = [{"note": "a b", "motion": rng.normal(size=(120 + longer * at, 10))} for at in range(8)]
    data = rows, labels(8)
    inputs = {"note": "text", "motion": "time_series"}
    if is_error:
        with pytest.raises(ValueError, match=r"^Input motion: .*--tokenizer\.motion\.time-axis 0"):
            metatx.Task.from_data(BACKBONE, inputs, data)
    else:
        metatx.Task.from_data(BACKBONE, inputs, data)
        (line,) = (line for line in told if "time_axis" in line)
        assert line.startswith("Input motion: ") and "--tokenizer.motion.time-axis 0" in line


def test_a_bad_sample_of_a_shared_tokenizer_names_the_option_of_its_owner():
    owner = metatx.Input(name="front", modality="tabular")
    shared = metatx.Input(name="back", modality="tabular", shares="front")
    assert with_options_of("--tokenizer.bins", owner) == "--tokenizer.front.bins"
    data = [{"front": {"rooms": float(at)}, "back": {"rooms": 1.0}} for at in range(8)], labels(8)
    task = metatx.Task.from_data(BACKBONE, [owner, shared], data)
    with pytest.raises(metatx.SampleError, match="sample 1: input back: "):
        task.predict([{"back": {"rooms": "many"}}])


def test_a_head_of_masks_is_told_the_option_of_the_main_input():
    pictures = np.random.default_rng(0).integers(0, 255, (4, 16, 16, 3), dtype=np.uint8)
    rows = [{"photo": picture, "note": "a b"} for picture in pictures]
    masks = [(picture[..., 0] > 128).astype(int) for picture in pictures]
    photo = metatx.Input(name="photo", modality="image", options={"image_size": 16})
    inputs = [photo, metatx.Input(name="note", modality="text")]
    with pytest.raises(ValueError, match=r"such as --tokenizer\.photo\.image-size"):
        metatx.Task.from_data(
            BACKBONE, inputs, (rows, masks), head="segmentation", head_options={"layers": 1}, fusion="early"
        )
