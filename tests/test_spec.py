"""TaskSpec and Input: what they accept, and one clear line about the rest."""

import pickle

import pytest

import metatx
from metatx import Input, TaskSpec
from metatx.spec import NAME


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"name": 3}, "An input is called 3"),
        ({"name": "0"}, "An input is called '0'"),
        ({"name": "a.b"}, "An input is called 'a.b'"),
        ({"name": "a\n"}, "An input is called"),
        ({"modality": 5}, "modality of input photo is 5; expected the name of one: audio, "),
        ({"modality": None}, "modality of input photo is None"),
        ({"modality": "inputs"}, "modality of input photo is 'inputs'"),
        ({"options": [1]}, r"options of input photo is \[1\]"),
        ({"options": {1: 2}}, "options of input photo is {1: 2}"),
        ({"columns": ""}, "columns of input photo is ''"),
        ({"columns": "a,"}, "columns of input photo is 'a,'"),
        ({"columns": ()}, "columns of input photo is"),
        ({"columns": 3}, "columns of input photo is 3"),
        ({"columns": [3]}, "columns of input photo is"),
        ({"columns": "a,a"}, "each once"),
        ({"columns": {"a": 1}}, "columns of input photo is"),
        ({"shares": "front", "options": {"image_size": 32}}, "shares the tokenizer of front; give them to front"),
    ],
)
def test_a_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Input(**{"name": "photo", "modality": "image", **arguments})


FRONT = Input(name="front", modality="image")


@pytest.mark.parametrize(
    "modality, message",
    [
        ({}, "There is no input"),
        (None, "modality is None; expected a name, inputs by name"),
        (5, "modality is 5"),
        (["image", "text"], "expected a name, inputs by name as in {'photo': 'image'}, or a list of metatx.Input"),
        ("inputs", "modality of the task is 'inputs'"),
        ({3: "image"}, "An input is called 3"),
        ({"photo": {"modality": "image"}}, "modality of input photo is"),
        ({"back": FRONT}, "input given as 'back' is called front"),
        ({"photo": "image", "Photo": "image"}, "Two inputs are called photo and Photo"),
        ([FRONT, Input(name="front", modality="text")], "Two inputs are called front and front"),
        ([FRONT, Input(name="back", modality="image", shares="side")], "shares the tokenizer of 'side'"),
        ([FRONT, Input(name="back", modality="xray", shares="front")], "expected another input of the modality xray"),
        ([Input(name="front", modality="image", shares="front")], "shares the tokenizer of 'front'"),
        (
            [FRONT, *(Input(name=a, modality="image", shares=b) for a, b in [("back", "front"), ("left", "back")])],
            "shares the tokenizer of 'back'",
        ),
        ([Input(name=name, modality="tabular", columns="a") for name in ("one", "two")], "read by one and by two"),
        ([FRONT, Input(name="facts", modality="tabular", columns="front,b")], "front is read by front and by facts"),
        (
            [Input(name=name, modality="tabular", columns=columns) for name, columns in [("a", "b"), ("c", "a,d")]],
            "Input a is called as the column a, which c reads",
        ),
    ],
)
def test_inputs_that_do_not_fit_together_are_refused(modality, message):
    with pytest.raises(ValueError, match=message):
        TaskSpec(modality=modality)


@pytest.mark.parametrize("options, message", [({"words": {}}, "Unknown input"), ({"photo": 3}, "of input photo is 3")])
def test_options_of_tokenizers_go_by_input(options, message):
    with pytest.raises(ValueError, match=message):
        _ = TaskSpec(modality={"photo": "image"}, tokenizer_options=options).several


def test_options_of_an_input_and_of_the_spec_are_joined():
    photo = Input(name="photo", modality="image", options={"image_size": 32, "augment": "none"})
    spec = TaskSpec(modality=[photo], tokenizer_options={"photo": {"image_size": 64}})
    assert spec.several[0].options == {"image_size": 64, "augment": "none"}
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert Input(**spec.several[0].as_json()) == spec.several[0]


def test_forms_of_the_same_inputs_are_equal():
    assert TaskSpec(modality={"photo": "image"}) == TaskSpec(modality=[Input(name="photo", modality="image")])
    assert TaskSpec.of({"photo": "image"}).said == "photo (image)"
    assert all(NAME.fullmatch(name) for name in ("keys", "forward", "_a-1"))


def test_the_tokenizer_of_several_inputs_is_no_modality():
    metatx.registry.lookup("tokenizers", "inputs")
    assert "inputs" not in metatx.names("tokenizers")
    with pytest.raises(ValueError, match="'inputs' exists already"):
        metatx.register_tokenizer("inputs")(type("Own", (metatx.Tokenizer,), {}))
