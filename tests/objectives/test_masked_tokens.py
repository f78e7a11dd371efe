"""Masked tokens: what is hidden does not reach the loss but as its target, which never changes."""

import pytest
import torch

from metatx.pretraining.batch import Batch
from metatx.pretraining.loop import Pretraining, PretrainingSettings
from metatx.pretraining.paired_data import PairedDataset
from tests.adapters.trained import scramble
from tests.objectives.menu import QUICK, record_tokens, training
from tests.pairs import colour_alignment, coloured, small_backbone


def batch_of(made, count):
    sides, keys, at = made.pairs.batch(range(count))
    return Batch(sides, keys, at, 0, 0.0)


@pytest.mark.parametrize("distance", ["cosine", "mse"])
def test_hidden_tokens_do_not_enter(monkeypatch, distance):
    options = {"masked_tokens": {"share": 0.25, "distance": distance}}
    made = training(["masked_tokens"], frozen=True, objective_options=options)
    scramble(made.objectives)
    entered = record_tokens(monkeypatch)
    made.objectives.others["masked_tokens"](made.alignment, batch_of(made, 5), None).backward()
    pictures = entered[0][1].grad.view(5, 16, -1).abs().sum(2)
    assert (pictures == 0).sum(1).tolist() == [4] * 5, "a quarter of the 16 places of each picture"
    assert len({tuple(row.tolist()) for row in pictures == 0}) > 1, "at other places in each picture"


def test_targets_are_those_of_the_start():
    made = training(["masked_tokens"], coloured(32), lr=1e-2)
    objective = made.objectives.others["masked_tokens"]
    before = objective.facts()
    fingerprint = made.alignment.backbone.fingerprint
    made.run(resume=False)
    assert made.alignment.backbone.fingerprint != fingerprint
    assert objective.facts() == before == training(["masked_tokens"]).objectives.facts()
    assert not any("start" in name or "towers" in name for name in objective.state_dict())


def test_places_are_learned():
    made = training(["masked_tokens"], coloured(64), epochs=10, batch_size=32)
    first = made.objectives.others["masked_tokens"](made.alignment, batch_of(made, 32), None).item()
    made.run(resume=False)
    last = made.objectives.others["masked_tokens"](made.alignment, batch_of(made, 32), None).item()
    assert last < first - 0.3


def test_without_a_grid_it_is_refused_first():
    samples = coloured(16)
    rows = [{"red": float(row)} for row in range(16)]
    alignment = colour_alignment(small_backbone(), samples).add("tabular", rows)
    pairs = PairedDataset(alignment, {"tabular": rows, "text": samples["text"]})
    settings = PretrainingSettings(**QUICK, objectives={"contrastive": 1.0, "masked_tokens": 1.0})
    with pytest.raises(ValueError, match="masked_tokens hides places of a grid; neither tabular nor text"):
        Pretraining(alignment, pairs, settings, None, None, None)
    for share in (0.0, 1.0):
        with pytest.raises(ValueError, match="share is"):
            training(["masked_tokens"], objective_options={"masked_tokens": {"share": share}})
    assert torch.is_grad_enabled()
