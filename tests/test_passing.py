"""Made-up tokens, and how much of them can be read back: all, nothing, and more after training for it."""

from dataclasses import replace

import pytest
import torch

from metatx import Backbone
from metatx.pairs import Pairs
from metatx.passing import LENGTHS, Passing
from metatx.pretraining import PretrainingSettings, pretrain
from metatx.sequence import TokenSequence
from tests.pairs import colour_alignment, coloured, small_backbone

SMALL = small_backbone(dim=24, num_heads=2, mlp_dim=48)


def fitted(passing, reads, steps=400):
    """The loss of readouts that were trained for one reader alone."""
    optimizer = torch.optim.Adam(passing.parameters(), lr=0.03)
    for _ in range(steps):
        made = passing.made(16)
        loss = passing(made, reads(made))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def kept(made):
    """As they came, with their mean in front."""
    parts = torch.split(torch.nn.functional.layer_norm(made.embeddings, made.embeddings.shape[1:]), list(made.lengths))
    parts = [torch.cat([part.mean(0, keepdim=True), part]) for part in parts]
    return TokenSequence(torch.cat(parts), tuple(map(len, parts)), prefix=1)


def lost(made):
    return replace(kept(made), embeddings=torch.randn(len(made.embeddings) + len(made.lengths), 24))


def test_sequences_of_several_kinds_by_torchs_random_numbers():
    passing = Passing(SMALL)
    torch.manual_seed(0)
    made = passing.made(400)
    torch.manual_seed(0)
    assert torch.equal(passing.made(400).embeddings, made.embeddings)
    assert set(made.lengths) == set(range(LENGTHS[0], LENGTHS[1] + 1)) and made.embeddings.isfinite().all()
    parts = torch.split(made.embeddings, list(made.lengths))
    likeness = [torch.cosine_similarity(part[1:], part[:-1]).mean().item() for part in parts]
    assert min(likeness) < 0.1 and max(likeness) > 0.8


def test_what_is_kept_can_be_read_and_what_is_lost_cannot():
    torch.manual_seed(0)
    made = Passing(SMALL).made(8)
    assert Passing(SMALL)(made, kept(made)).item() == pytest.approx(1, abs=0.3)
    assert fitted(Passing(SMALL), lost) > 0.9
    half = fitted(Passing(SMALL), kept)
    assert 0.01 < half < 0.3, "what random blocks make of tokens is no linear function of them"


@torch.no_grad()
def unread(backbone):
    """Share of the tokens' variance that least squares cannot read, on sequences it was not fitted to."""
    torch.manual_seed(0)
    made = Passing(backbone).made(400)
    left = backbone(made)
    places = torch.cat([part[left.prefix :] for part in torch.split(left.embeddings, list(left.lengths))])
    places, true = torch.nn.functional.pad(places, (0, 1), value=1.0), kept(made)
    true = torch.cat([part[1:] for part in torch.split(true.embeddings, list(true.lengths))])
    half = len(places) // 2
    read = places[half:] @ torch.linalg.lstsq(places[:half], true[:half]).solution
    return ((read - true[half:]).square().sum() / (true[half:] - true[half:].mean(0)).square().sum()).item()


def test_blocks_that_are_trained_for_it_pass_more():
    quiet = small_backbone()
    loud = {name: weight * (3 if "blocks" in name and weight.ndim > 1 else 1) for name, weight in quiet.named_weights()}
    backbone = Backbone(quiet.config, loud, spec="loud").thawed()  # its blocks drown what enters them
    before, passing = unread(backbone), Passing(quiet)
    optimizer = torch.optim.Adam([*backbone.parameters(), *passing.parameters()], lr=5e-3)
    for _ in range(200):
        made = passing.made(24)
        optimizer.zero_grad()
        passing(made, backbone(made)).backward()
        optimizer.step()
    assert unread(backbone) < 0.7 * before


def test_it_is_a_part_of_the_loss_of_pretraining():
    losses, samples = [], coloured(64)
    for weight in (0.0, 1.0):
        alignment = colour_alignment(small_backbone().thawed(), samples)
        settings = PretrainingSettings(batch_size=32, epochs=1, lr=1e-4, precision="fp32", passing=weight)
        losses.append(pretrain(alignment, Pairs(alignment, samples), settings)[0]["train_loss"])
    assert losses[1] - losses[0] == pytest.approx(1, abs=0.2)
