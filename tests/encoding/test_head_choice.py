"""What the user left unsaid is inferred where there is one sensible reading."""

import pytest

from metatx.encoding.head_choice import build_head, build_tokenizer
from metatx.registry import lookup


@pytest.mark.parametrize(
    ("targets", "head"),
    [
        (["a", "b", "a"], "classification"),
        ([True, False], "classification"),
        ([0, 1] * 10, "classification"),
        ([0.5, 1.0, 2.0], "regression"),
        (list(range(1000)), "regression"),
    ],
)
def test_targets_choose_the_head(targets, head):
    assert build_head(None, lookup("tokenizers", "tabular"), targets, 8, {}).name == head


def test_without_a_target_the_tokenizer_s_own_head_or_a_question():
    built = build_head(None, lookup("tokenizers", "time_series"), None, 8, {"horizon": 3})
    assert built.name == "forecasting"
    with pytest.raises(ValueError, match="name it with --target: a, b"):
        build_head(None, lookup("tokenizers", "tabular"), None, 8, {}, ["a", "b"])


def test_targets_of_no_known_kind_ask_for_the_head():
    with pytest.raises(ValueError, match="does not say which head"):
        build_head(None, lookup("tokenizers", "tabular"), [[1, 2], [3]], 8, {})


def test_tokenizers_get_the_stem_that_they_ask_for(nano):
    assert build_tokenizer("image", nano, {}).patch_stem is nano.stem
    assert build_tokenizer("tabular", nano, {"bins": 4}).options == {"bins": 4}
