"""Masked text: hidden words, which the picture tells."""

import math

import pytest
import torch

from metatx.pretraining.batch import Batch
from metatx.pretraining.loop import Pretraining, PretrainingSettings
from metatx.pretraining.paired_data import PairedDataset
from tests.objectives.menu import QUICK, training
from tests.pairs import colour_alignment, coloured, small_backbone


def loss_of(made, positions, number=0, swap=False):
    sides, keys, at = made.pairs.batch(positions)
    if swap:
        sides["image"]["image"] = sides["image"]["image"].roll(1, 0)
    return made.objectives.others["masked_text"](made.alignment, Batch(sides, keys, at, number, 0.0), None).item()


def test_the_first_loss_is_that_of_a_guess_among_all_words():
    made = training(["masked_text"], frozen=True)
    size = made.alignment.tower("text").tokenizer.vocabulary
    assert loss_of(made, range(8)) == pytest.approx(math.log(size), abs=1e-5)
    with torch.no_grad():
        made.objectives.others["masked_text"].words["text"].bias[0] = 9.0
    losses = {loss_of(made, [3], number) for number in range(8)}
    assert len({round(loss) for loss in losses}) == 2, "each step hides other words"


def test_the_picture_tells_the_colour():
    made = training(["masked_text"], coloured(96), epochs=25, batch_size=32, objective_options=HALF)
    made.run(resume=False)
    right = sum(loss_of(made, range(24), number) for number in range(8)) / 8
    wrong = sum(loss_of(made, range(24), number, swap=True) for number in range(8)) / 8
    assert right < wrong - 0.1, "the captions differ in the colour alone, which only the picture shows"


HALF = {"masked_text": {"share": 0.5}}


def test_without_words_it_is_refused_first():
    samples = coloured(16)
    grey = [picture.mean(2).astype("uint8") for picture in samples["image"]]
    alignment = colour_alignment(small_backbone(), samples)
    alignment.add("infrared", grey)
    pairs = PairedDataset(alignment, {"image": samples["image"], "infrared": grey})
    settings = PretrainingSettings(**QUICK, objectives={"contrastive": 1.0, "masked_text": 1.0})
    with pytest.raises(ValueError, match="masked_text hides words, and neither image nor infrared"):
        Pretraining(alignment, pairs, settings, None, None, None)
    with pytest.raises(ValueError, match=r"share is 1.5"):
        training(["masked_text"], objective_options={"masked_text": {"share": 1.5}})
