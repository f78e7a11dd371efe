"""Matching: ln 2 at first, and a classifier that learns which captions belong to which pictures."""

import math

import pytest
import torch

from metatx.pretraining.batch import Batch
from metatx.pretraining.contrastive import matches
from metatx.pretraining.negatives import Compared
from tests.objectives.menu import training
from tests.pairs import coloured


def loss_of(made, positions, keys=None):
    sides, own, at = made.pairs.batch(positions)
    keys = own if keys is None else keys
    batch = Batch(sides, keys, at, 0, 0.0)
    compared = Compared.of([batch], at, torch.zeros(len(at), len(at)), matches(keys), samples=True)
    return made.objectives.others["matching"](made.alignment, batch, compared)


@pytest.mark.parametrize("hard", [False, True])
def test_the_first_loss_is_that_of_a_coin(hard):
    made = training(["matching"], frozen=True, objective_options={"matching": {"hard": hard}})
    assert loss_of(made, range(8)).item() == pytest.approx(math.log(2), abs=1e-6)


def test_pairs_that_all_belong_together_have_no_mismatch():
    made = training(["matching"], frozen=True)
    with torch.no_grad():
        made.objectives.others["matching"].classifier.bias[:] = torch.tensor([0.0, 3.0])  # all are pairs
    alone = loss_of(made, range(4), torch.zeros(2, 4, dtype=torch.int64))
    assert alone.item() == pytest.approx(math.log(1 + math.exp(-3)), abs=1e-5), "only the pairs count"
    mixed = loss_of(made, range(4), torch.arange(8).view(2, 4))
    wrong = math.log(1 + math.exp(3))
    assert mixed.item() == pytest.approx((alone.item() + 2 * wrong) / 3, abs=1e-4), "one pair and two mismatches"


def test_pairs_are_told_from_mismatches():
    made = training(["matching"], coloured(96), epochs=20, batch_size=32)
    held = training(["matching"], coloured(24, seed=1), frozen=True)
    made.run(resume=False)
    held.alignment.load_state_dict(made.alignment.state_dict())
    made.sets = held.sets
    assert loss_of(made, range(24)).item() < 0.4
