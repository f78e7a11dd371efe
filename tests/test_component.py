"""The base of tokenizers and heads: checked options, facts that build takes, statistics in buffers."""

import copy
import functools
import pickle
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import nn

import metatx
from metatx.component import Component


class Words(Component):
    """Learns a vocabulary, and how long words are."""

    def __init__(
        self,
        dim: int,
        size: int = 4,
        rate: float = 0.5,
        case: Literal["lower", "upper"] = "lower",
        axes: Sequence[int] | None = None,
        types: dict[str, str] | None = None,
        anything: Any = None,
        stem: object = None,
    ) -> None:
        super().__init__(dim)
        self.register_buffer("length", torch.zeros((), dtype=torch.float64))

    def fit(self, samples):
        return {"words": sorted(set(samples)), "length": torch.tensor([len(word) for word in samples]).double().mean()}

    def build(self, words: list[str]) -> None:
        self.vectors = nn.Embedding(len(words), self.dim)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "4"}, "size is '4'; expected a whole number."),
        ({"size": 4.0}, "size is 4.0; expected a whole number."),
        ({"size": True}, "size is True; expected a whole number."),
        ({"rate": "0.5"}, "rate is '0.5'; expected a number."),
        ({"case": "title"}, "case is 'title'; expected one of 'lower', 'upper'."),
        ({"axes": 3}, "axes is 3; expected a list of whole numbers or null."),
        ({"axes": [1, "x"]}, r"axes is \[1, 'x'\]; expected a list of whole numbers or null."),
        ({"types": {"a": 1}}, "types is {'a': 1}; expected texts by name or null."),
    ],
)
def test_options_are_checked_against_the_annotations(options, message):
    with pytest.raises(ValueError, match=f"^Option of Words: {message}$"):
        Words(8, **options)


def test_sound_options_are_kept_as_json_values():
    options = {"size": 2, "rate": 1, "case": "upper", "axes": (0, 1), "types": {"a": "b"}, "anything": object}
    assert Words(8, **options, stem="the stem").options == options


def test_fit_changes_nothing_and_learn_builds_and_fills():
    words = Words(8, size=2)
    assert words.fit(["a", "bcd", "a"])["words"] == ["a", "bcd"] and words.fitted == {}
    words.learn(["a", "bcd", "a"])
    assert words.fitted == {"words": ["a", "bcd"]} and words.options == {"size": 2}
    assert words.length.item() == pytest.approx(5 / 3) and words.vectors.weight.shape == (2, 8)


def test_restored_from_its_facts_it_takes_the_state():
    words = Words(8).learn(["a", "bcd"])
    again = Words(8).restore(words.fitted)
    again.load_state_dict(words.state_dict())
    for copied in (again, copy.deepcopy(words), pickle.loads(pickle.dumps(words))):
        assert copied.fitted == words.fitted and torch.equal(copied.vectors.weight, words.vectors.weight)


def test_the_old_contract_is_told_what_to_return():
    class Old(Words):
        def fit(self, samples):
            return self

    with pytest.raises(TypeError, match=r"Old.fit returned a Old; it must return a dict: .* \{\} if there is"):
        Old(8).learn(["a"])


def test_a_component_that_learns_nothing_needs_neither():
    assert Component(8).learn(["a"]).restore({}).fitted == {}
    with pytest.raises(TypeError, match="Component has no build, but was given words"):
        Component(8).restore({"words": []})


@pytest.mark.parametrize("fact", [{1: 2}, {"a"}, float("nan"), object(), [float("inf")]])
def test_a_fact_that_a_saved_task_would_give_back_otherwise_is_refused_before_training(fact):
    class Learns(metatx.Tokenizer):
        def fit(self, samples):
            return {"fact": fact}

        def build(self, fact):
            raise AssertionError("not reached")

    with pytest.raises(TypeError, match=r"Learns: the fact 'fact' is .* expected a JSON value"):
        Learns(8).learn(["a"])


def test_an_option_that_cannot_be_saved_is_refused_before_training():
    class Optional(metatx.Tokenizer):
        def __init__(self, dim, act=nn.GELU()):  # noqa: B008
            super().__init__(dim)

    with pytest.raises(TypeError, match="the option 'act' is"):
        Optional(8).learn(["a"])


@pytest.mark.parametrize("number", [10_000_001, -(10**7) - 1, 1.1e9])
def test_a_number_that_a_saved_task_may_not_hold_is_refused_before_training(number):
    class Learns(metatx.Tokenizer):
        def __init__(self, dim, size=0.0):
            super().__init__(dim)

        def fit(self, samples):
            return {"fact": number}

        def build(self, fact):
            raise AssertionError("not reached")

    with pytest.raises(ValueError, match="the fact 'fact' is .*; expected at most 10,000,000"):
        Learns(8).learn(["a"])
    with pytest.raises(ValueError, match="the option 'size' is .*; expected at most 10,000,000"):
        Learns(8, size=number).learn(["a"])


@pytest.mark.parametrize("fact", ["\ud800", 2**70, functools.reduce(lambda inner, _: [inner], range(30), 0)])
def test_a_value_that_the_reader_of_a_config_refuses_is_refused_before_training(fact):
    class Learns(metatx.Tokenizer):
        def fit(self, samples):
            return {"fact": [fact]}

        def build(self, fact):
            raise AssertionError("not reached")

    with pytest.raises(ValueError, match="the fact 'fact' cannot be saved"):
        Learns(8).learn(["a"])


def test_statistics_are_numbers():
    class Learns(Words):
        def fit(self, samples):
            return {**super().fit(samples), "length": torch.tensor(torch.nan)}

    with pytest.raises(ValueError, match="the tensor 'length' with NaN"):
        Learns(8).learn(["a"])


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"words": "ab"}, "Fact of Words: words is 'ab'; expected a list of texts."),
        ({"words": ["a", 1]}, r"Fact of Words: words is \['a', 1\]; expected a list of texts."),
        ({}, "Fact of Words: words is missing; build needs it."),
        ({"words": [], "word": 1}, "Unknown fact of Words 'word'. Did you mean 'words'\\? Choices: words."),
    ],
)
def test_facts_are_checked_against_the_annotations_of_build(facts, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Words(8).restore(facts)


def test_build_takes_what_a_saved_task_gives():
    class Learns(metatx.Tokenizer):
        def fit(self, samples):
            return {"pairs": [("a", 1)], "number": np.float32(0.5)}

        def build(self, pairs, number):
            self.seen = [pairs, number]

    assert Learns(8).learn(["a"]).seen == [[["a", 1]], 0.5]
