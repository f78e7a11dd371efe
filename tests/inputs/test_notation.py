"""Inputs as the command line writes them: what is read is what was written."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metatx.inputs.notation import parsed, written
from metatx.spec import Input

NAMES = st.lists(st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,6}", fullmatch=True), min_size=1, max_size=4, unique=True)
COLUMNS = st.text(st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp", "Zs")), min_size=1, max_size=8)
LINES = st.tuples(NAMES, st.sampled_from(["image", "text", "tabular"]), st.lists(COLUMNS, min_size=1, max_size=3))


def test_names_of_one_line_share_the_first_ones_tokenizer():
    front, back, facts = parsed(["front, back=image:file a,file b", "facts=tabular:rooms,'area'"])
    assert front == Input(name="front", modality="image", columns=["file a"])
    assert back == Input(name="back", modality="image", columns=["file b"], shares="front")
    assert facts.columns == ("rooms", "'area'")


def test_a_column_may_have_commas_equals_signs_and_colons():
    (facts,) = parsed(['facts=tabular:"alcohol, in %",a=b,c:d'])
    assert facts.columns == ("alcohol, in %", "a=b", "c:d")


@pytest.mark.parametrize("line", ["photo", "=image", "photo=", "photo=image:", "photo:image", ""])
def test_another_form_is_refused(line):
    with pytest.raises(ValueError, match="expected NAME=MODALITY"):
        parsed([line])


def test_inputs_that_share_read_a_column_each():
    with pytest.raises(ValueError, match="has 2 names and 3 columns"):
        parsed(["a,b=image:x,y,z"])
    with pytest.raises(ValueError, match="'1st'; expected a letter"):
        parsed(["1st=image"])


@given(st.lists(LINES, min_size=1, max_size=3))
def test_what_is_written_is_read_back(lines):
    inputs = []
    for names, modality, columns in lines:
        for at, name in enumerate(names):
            own = columns if len(names) == 1 else [columns[at % len(columns)]]
            inputs.append(Input(name=name, modality=modality, columns=own, shares=names[0] if at else None))
    if len({each.name for each in inputs}) < len(inputs):
        return
    words = shlex.split(written(inputs))
    again = parsed(words[1::2])
    assert set(words[::2]) == {"--input"}
    assert [each.name for each in again] == [each.name for each in inputs]
    for before, after in zip(inputs, again, strict=True):
        assert (after.modality, after.shares) == (before.modality, before.shares)
        assert (after.columns or (after.name,)) == before.columns
