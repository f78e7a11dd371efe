"""The base of all tokenizers: recorded options, positions, the default description."""

import copy
import pickle

import numpy as np
import pytest
import torch

from metatx import Head, SampleError, Tokenizer
from metatx.tokenizer import LearnedPositions, orthogonal_linear, sinusoidal_positions


class Patches(Tokenizer):
    def __init__(self, dim, size, stride=2, names=None, stem=None):
        super().__init__(dim)
        self.size = size

    def encode(self, sample):
        return {"signal": torch.as_tensor(sample)}


class Halves(Patches):
    """A subclass with defaults of its own."""

    def __init__(self, dim, parts=2):
        super().__init__(dim, size=10 // parts)


class Plain(Patches):
    """A subclass without an __init__."""


class Answer(Head):
    def __init__(self, dim, horizon=3):
        super().__init__(dim)


@pytest.mark.parametrize(
    ("component", "options"),
    [
        (Patches(8, 4), {"size": 4}),
        (Patches(8, 4, 1), {"size": 4, "stride": 1}),
        (Patches(dim=8, size=4, names=["a"], stem="the stem"), {"size": 4, "names": ["a"]}),
        (Halves(8), {}),
        (Halves(8, parts=5), {"parts": 5}),
        (Plain(8, size=3), {"size": 3}),
        (Answer(8, 7), {"horizon": 7}),
    ],
)
def test_options_are_what_was_given_without_dim_and_stem(component, options):
    assert component.options == options
    assert component.dim == 8
    for copied in (copy.deepcopy(component), pickle.loads(pickle.dumps(component))):
        assert copied.options == options
    with pytest.raises(TypeError, match="options is read-only.* fit must return what it learns"):
        component.options["learned"] = [1]


@pytest.mark.parametrize("cls", [Patches, Halves])
def test_wrong_arguments_are_python_s_own_error(cls):
    with pytest.raises(TypeError, match="unexpected keyword argument 'sise'"):
        cls(8, sise=4)


def test_sinusoidal_positions_equal_the_formula():
    positions = torch.tensor([0.0, 1.0, 2.5, 300.0])
    found = sinusoidal_positions(positions, 6, max_period=100.0)
    for row, position in zip(found, positions.tolist(), strict=True):
        angles = [position / 100 ** (2 * i / 6) for i in range(3)]
        expected = torch.tensor([*np.sin(angles), *np.cos(angles)], dtype=torch.float32)
        torch.testing.assert_close(row, expected, atol=1e-5, rtol=0)
    assert sinusoidal_positions(torch.zeros(2, 3), 4).shape == (2, 3, 4)
    with pytest.raises(ValueError, match="even dim, not 5"):
        sinusoidal_positions(positions, 5)


def test_learned_positions_give_the_first_and_refuse_more():
    positions = LearnedPositions(8, 5)
    assert torch.equal(positions(3), positions.weight[:3])
    assert positions.weight.std().item() == pytest.approx(0.02, rel=0.3)
    with pytest.raises(ValueError, match="6 tokens, but positions for 5 only; raise max_length"):
        positions(6)


@pytest.mark.parametrize(("inputs", "dim"), [(4, 8), (8, 4)])
def test_orthogonal_linear(inputs, dim):
    """Either way the smaller side is orthonormal: distances are kept as far as they can be."""
    linear = orthogonal_linear(inputs, dim)
    weight = linear.weight if dim < inputs else linear.weight.T
    torch.testing.assert_close(weight @ weight.T, torch.eye(4), atol=1e-5, rtol=0)
    assert not linear.bias.any()
    assert orthogonal_linear(inputs, dim, bias=False).bias is None


def test_default_description_is_nine_statistics_of_each_row():
    signal = np.random.default_rng(0).normal(size=(2, 30))
    found = Patches(8, 4).baseline_features(signal).reshape(9, 2).T
    for row, expected in zip(found, signal, strict=True):
        steps = np.diff(expected)
        by_hand = [expected.mean(), expected.std(), steps.std(), np.abs(steps).mean()]
        by_hand += [expected.min(), *np.percentile(expected, [25, 50, 75]), expected.max()]
        np.testing.assert_allclose(row, by_hand)


@pytest.mark.parametrize(("shape", "features"), [((3, 4, 5), 9), ((), 9), ((1,), 9), ((4, 6), 36)])
def test_default_description_of_other_shapes(shape, features):
    described = Patches(8, 4).baseline_features(np.ones(shape))
    assert described.shape == (features,)
    np.testing.assert_allclose(described.reshape(9, -1).T, [[1, 0, 0, 0, 1, 1, 1, 1, 1]] * (features // 9))


def test_default_description_does_not_depend_on_the_length():
    assert {Patches(8, 4).baseline_features(np.ones((3, length))).shape for length in (1, 20, 35)} == {(27,)}


def test_accepts_files_of_its_kind_or_anything():
    assert Patches.accepts(3) and Patches.accepts("word")
    sound = type("Sound", (Tokenizer,), {"suffixes": (".wav",)})
    assert sound.accepts("a/B.WAV") and not sound.accepts("a.png") and not sound.accepts(3)


def test_what_a_subclass_must_write_is_said():
    tokenizer, head = Tokenizer(8), Head(8)
    for call in (lambda: tokenizer.encode(1), lambda: tokenizer({})):
        with pytest.raises(NotImplementedError, match="Tokenizer has no "):
            call()
    for call in (lambda: head.encode(1), lambda: head(1), lambda: head.loss(1, 2), lambda: head.decode(1)):
        with pytest.raises(NotImplementedError, match="Head has no "):
            call()


class Reader(Tokenizer):
    """Reads numbers, or files of them."""

    suffixes = (".npy",)


def test_what_comes_as_json_names_no_file():
    reader = Reader(8)
    assert reader.from_json([[1, 2], [3, 4.5]]).tolist() == [[1, 2], [3, 4.5]]
    assert reader.from_json({"array": [True], "rate": 3}) == {"array": np.array([True]), "rate": 3}
    for value in ("/etc/a.npy", ["a.npy"], {"path": "a.npy"}, [[1, "a.npy"]], None, [None], [10**30]):
        with pytest.raises(SampleError, match="expected numbers, or a file: .npy"):
            reader.from_json(value)
    with pytest.raises(SampleError, match="unequal length"):
        reader.from_json([[1], [2, 3]])
    assert Tokenizer(8).from_json("CCO") == "CCO" and Tokenizer(8).json_schema() == {}
