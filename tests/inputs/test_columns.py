"""Columns that the inputs of a task read: found, or refused with the name of what is wrong."""

import re

import pytest

from metatx.data.table_files import as_dataset
from metatx.inputs.columns import resolved
from metatx.spec import Input, TaskSpec

TABLE = as_dataset({"front": ["a.png"], "back": ["b.png"], "rooms": [3], "area": [70.0], "price": [1.0]})


def _columns(modality, **choices):
    return [each.columns for each in resolved(TaskSpec(modality=modality, **choices), TABLE, "price")]


def test_an_input_reads_the_column_of_its_name_and_a_row_what_is_left():
    assert _columns({"front": "image", "facts": "tabular"}) == [("front",), ("back", "rooms", "area")]
    assert _columns({"photo": Input(name="photo", modality="image", columns="back"), "area": "tabular"}) == [
        ("back",),
        ("area",),
    ]


@pytest.mark.parametrize(
    ("modality", "choices", "said"),
    [
        ({"frnt": "image"}, {}, "Unknown column of input frnt: 'frnt'. Did you mean 'front'?"),
        ({"price": "tabular", "front": "image"}, {}, "Input price reads price, which is the target; leave it out."),
        (
            {"front": "image", "same": Input(name="same", modality="image", columns="front")},
            {},
            "Column front is read by front and by same; give it to one of them.",
        ),
        ({"front": "image"}, {"inputs": "front"}, "names the columns of each"),
        (
            [Input(name="a", modality="image", columns="front,back"), Input(name="rooms", modality="tabular")],
            {},
            "Input a is given the columns front, back, and image reads one. Make each an input, with one tokenizer for "
            "all: --input a,a_2=image:front,back",
        ),
        ({"a": "tabular", "b": "tabular"}, {}, "Inputs a and b name no columns; name those of all but one: a=...:a,b"),
    ],
)
def test_what_does_not_fit_is_refused(modality, choices, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        _columns(modality, **choices)
