"""Captioning: the words of a text in turn, which the picture tells."""

import math

import pytest
import torch

from metatx.pretraining.batch import Batch
from metatx.pretraining.loop import Pretraining, PretrainingSettings
from metatx.pretraining.paired_data import PairedDataset
from tests.adapters.trained import scramble
from tests.objectives.menu import QUICK, training
from tests.pairs import colour_alignment, coloured, small_backbone


def loss_of(made, positions, swap=False):
    sides, keys, at = made.pairs.batch(positions)
    if swap:
        sides["image"]["image"] = sides["image"]["image"].roll(1, 0)
    return made.objectives.others["captioning"](made.alignment, Batch(sides, keys, at, 0, 0.0), None).item()


def test_the_first_loss_is_that_of_a_guess_among_all_words():
    made = training(["captioning"], frozen=True)
    size = made.alignment.tower("text").tokenizer.vocabulary
    assert loss_of(made, range(8)) == pytest.approx(math.log(size), abs=1e-5)


def test_a_word_is_told_from_the_words_before_it_alone():
    """The logits of a place change with the words before it, not with its own word or those behind it."""
    made = training(["captioning"], frozen=True)
    scramble(made.objectives)
    decoder = made.objectives.others["captioning"].decoders["text"]
    sides, _, _ = made.pairs.batch(range(3))
    text = made.alignment.tower("text").tokens(sides["text"])
    partner = made.alignment.backbone(made.alignment.tower("image").tokens(sides["image"]))
    length = text.lengths[0]
    changed = text.embeddings.clone()
    changed[2] = changed[2].flip(0)
    found = decoder(text, partner)
    moved = (decoder(text.with_embeddings(changed), partner) - found).abs().amax(1) > 1e-6
    assert moved.tolist() == [False] * 3 + [True] * (length - 3) + [False] * (len(found) - length)


def test_the_picture_tells_the_colour():
    made = training(["captioning"], coloured(96), epochs=25, batch_size=32)
    made.run(resume=False)
    assert loss_of(made, range(24)) < loss_of(made, range(24), swap=True) - 0.1


def test_bad_choices_are_refused_first():
    samples = coloured(16)
    grey = [picture.mean(2).astype("uint8") for picture in samples["image"]]
    alignment = colour_alignment(small_backbone(), samples)
    alignment.add("infrared", grey)
    pairs = PairedDataset(alignment, {"image": samples["image"], "infrared": grey})
    settings = PretrainingSettings(**QUICK, objectives={"contrastive": 1.0, "captioning": 1.0})
    with pytest.raises(ValueError, match="captioning tells words, and neither image nor infrared"):
        Pretraining(alignment, pairs, settings, None, None, None)
    with pytest.raises(ValueError, match="queries is 0"):
        training(["captioning"], objective_options={"captioning": {"queries": 0}})


def test_long_texts_are_told_window_by_window():
    samples = coloured(6)
    samples["text"] = [" ".join([text] * (1 + 3 * (at % 2))) for at, text in enumerate(samples["text"])]
    made = training(["captioning"], samples, frozen=True, batch_size=6, epochs=1)
    scramble(made.objectives)
    together = loss_of(made, range(6))
    alone = [loss_of(made, [at]) for at in range(6)]
    assert together == pytest.approx(torch.tensor(alone).mean().item(), rel=1e-4)
