"""Maps in closed form: those of CCA, better than random ones, and refused where a side still changes."""

import numpy as np
import pytest

import metatx
from metatx.baselines.cca import RegularisedCCA
from metatx.metrics.retrieval import partner_ranking
from metatx.pretraining.closed_form import solve_maps
from metatx.pretraining.encoders import FrozenEncoder
from metatx.pretraining.paired_data import PairedDataset

NAMES = ("left", "right")


@pytest.fixture
def alignment(nano):
    """Two anchors of other models: each shows ten shared numbers and thirty of its own."""
    rng = np.random.default_rng(0)
    built = metatx.Alignment(nano, 16)
    for name in NAMES:
        turn = rng.normal(size=(40, 40))
        encoder = FrozenEncoder(
            function=lambda rows, turn=turn: np.stack(rows) @ turn + 3, dim=40, fingerprint=name, name=name
        )
        built.anchor(name, encoder)
    return built


def samples(count, seed):
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(count, 10))
    return {name: list(np.hstack([shared, rng.normal(size=(count, 30))]).astype(np.float32)) for name in NAMES}


def recall(alignment, rows):
    vectors = [alignment.embed(name, rows[name]) for name in NAMES]
    numbers = np.arange(len(vectors[0]))
    return partner_ranking(*vectors, numbers, numbers, at=(1,))["recall@1"]


def test_maps_are_those_of_cca_and_find_partners(alignment):
    train, validation, test = (samples(count, seed) for seed, count in enumerate((400, 100, 100)))
    before = recall(alignment, test)
    length = alignment.towers["left"].proj.weight.norm().item()
    ridges = solve_maps(alignment, *(PairedDataset(alignment, rows, cache=True) for rows in (train, validation)))
    assert before < 0.1 and recall(alignment, test) > 0.5
    assert alignment.towers["left"].proj.weight.norm().item() == pytest.approx(length, rel=1e-4)
    sides = [alignment.features(name, train[name]).astype(np.float64) for name in NAMES]
    model = RegularisedCCA(ridges, 17, centred=False).fit(*sides)
    for number, name in enumerate(NAMES):
        directions = (model.sides_[number][1] * model.correlations_)[:, 1:]
        expected = alignment.features(name, test[name]) @ directions
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose((alignment.embed(name, test[name]) * expected).sum(1), 1, atol=1e-4)


def test_a_side_that_changes_is_refused(nano, alignment):
    rows = samples(12, 0)
    alignment.add("text", ["a", "b"])
    for given in (
        PairedDataset(alignment, {"text": list("abcabcabcabc"), "left": rows["left"]}),
        PairedDataset(alignment, {**rows, "text": list("abcabcabcabc")}),
    ):
        with pytest.raises(ValueError, match="no linear map|found left, right, text"):
            solve_maps(alignment, given, given)
    unmapped = metatx.Alignment(nano, 40)
    for name in NAMES:
        unmapped.anchor(name, alignment.towers[name].encoder, mapped=False)
    pairs = PairedDataset(unmapped, rows)
    with pytest.raises(ValueError, match="no linear map"):
        solve_maps(unmapped, pairs, pairs)
