"""Sum of objectives: weights, and what is refused before the first step."""

import pytest
import torch

from metatx.pretraining.objective_sum import ObjectiveSum
from metatx.pretraining.paired_data import PairedDataset
from tests.objectives.menu import training
from tests.pairs import colour_alignment, coloured, small_backbone


def made(weights, options=None):
    samples = coloured(6)
    alignment = colour_alignment(small_backbone(), samples)
    return ObjectiveSum(alignment, [PairedDataset(alignment, samples).batch([0])[0]], weights, options or {}, 0)


def test_weights_scale_the_losses():
    losses = []
    for weight in (1.0, 2.0):
        run = training([], epochs=1)
        run.objectives.weights["contrastive"] = weight
        losses.append(run.run(resume=False)[0]["train_loss"])
    assert losses[1] == pytest.approx(2 * losses[0], rel=1e-4)


def test_the_seed_decides_the_first_weights_and_nothing_else_does():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = made({"contrastive": 1.0, "masked_tokens": 1.0})
    assert torch.equal(torch.get_rng_state(), before), "the run draws what it drew without objectives"
    torch.manual_seed(6)
    again = made({"contrastive": 1.0, "masked_tokens": 1.0})
    assert all(torch.equal(*pair) for pair in zip(first.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize(
    ("weights", "options", "message"),
    [
        ({"contrastive": 1.0, "matchin": 1.0}, {}, "Unknown objective 'matchin'. Did you mean 'matching'"),
        ({"contrastive": 0.0}, {}, "weight of the objective contrastive is 0"),
        ({"contrastive": float("nan")}, {}, "weight of the objective contrastive is nan"),
        ({"masked_text": 1.0}, {}, "add contrastive"),
        ({}, {}, r"None of the objectives \(none\)"),
        ({"contrastive": 1.0}, {"matching": {"hard": True}}, "Unknown objective among objective_options 'matching'"),
        ({"contrastive": 1.0, "matching": 1.0}, {"matching": {"hrd": True}}, "hrd"),
        ({"contrastive": 1.0, "matching": 1.0}, {"matching": {"hard": 3}}, "hard is 3; expected true or false"),
    ],
)
def test_what_cannot_be_summed_is_said(weights, options, message):
    with pytest.raises(ValueError, match=message):
        made(weights, options)


def test_objectives_of_tokens_need_the_tokens_of_two_sides():
    whole = {"image": {"image": torch.zeros(1, 3, 32, 32)}, "text": {"tokens": torch.zeros(1, 4)}}
    cached = {**whole, "text": {"features": torch.zeros(1, 8)}}
    alignment = colour_alignment(small_backbone(), coloured(6))
    both = {"contrastive": 1.0, "matching": 1.0}
    ObjectiveSum(alignment, [whole, cached], {"contrastive": 1.0}, {}, 0)
    ObjectiveSum(alignment, [whole], both, {}, 0)
    with pytest.raises(ValueError, match="matching reads the tokens of both sides, and those of text"):
        ObjectiveSum(alignment, [whole, cached], both, {}, 0)
    with pytest.raises(ValueError, match="matching joins the two sides of a pair; found 3"):
        ObjectiveSum(alignment, [{**whole, "audio": {}}], both, {}, 0)
