"""Joined pairs: both sides attend to one another, each pair to itself; and what is drawn for a pair."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metatx.pretraining.batch import Batch
from metatx.pretraining.joining import JoinedPass, draws, hidden_places, mean_over_pairs
from metatx.sequence import TokenSequence
from tests.pairs import colour_alignment, coloured, small_backbone


def sides(lengths_left=(3, 4), lengths_right=(2, 1, 5), counts=(1, 2)):
    torch.manual_seed(0)
    left = TokenSequence(torch.randn(sum(lengths_left), 48), lengths_left)
    right = TokenSequence(torch.randn(sum(lengths_right), 48), lengths_right, sequences_per_sample=counts)
    return {"image": left, "text": right}


def test_a_pair_is_one_sequence_and_keeps_its_sides():
    alignment = colour_alignment(small_backbone(), coloured(4))
    joined = JoinedPass(48, ["image", "text"])
    given_sides = sides()
    out = joined(alignment, given_sides)
    assert out["image"].lengths == (4, 5) and out["text"].lengths == (3, 2, 6), "with CLS each"
    assert out["text"].sequences_per_sample == (1, 2)
    alone = alignment.backbone(given_sides["image"])
    assert not torch.allclose(out["image"].embeddings, alone.embeddings, atol=1e-3), "the partner is read"
    other = sides()
    other["text"] = other["text"].with_embeddings(other["text"].embeddings * torch.tensor([[1.0]] * 2 + [[-1.0]] * 6))
    changed = joined(alignment, other)
    torch.testing.assert_close(changed["image"].embeddings[:4], out["image"].embeddings[:4])
    assert not torch.allclose(changed["image"].embeddings[4:], out["image"].embeddings[4:], atol=1e-3)


def test_what_is_drawn_for_a_pair_does_not_depend_on_its_neighbours():
    batch = Batch({}, torch.zeros(2, 3), torch.tensor([4, 9, 2]), 7, 0.0)
    whole = draws(batch, 1, [5, 3, 8])
    (alone,) = draws(batch.part(slice(1, 2)), 1, [3])
    assert torch.equal(whole[1], alone)
    assert not torch.equal(draws(batch, 2, [5, 3, 8])[0], whole[0]), "the seed decides"


@given(st.integers(1, 20), st.floats(0.01, 0.99), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_a_share_of_the_places_is_hidden_at_least_one(count, share, random):
    numbers = torch.tensor([random.random() for _ in range(count)])
    assert hidden_places(numbers, share).sum() == max(1, round(share * count))
    allowed = torch.tensor([random.random() < 0.5 for _ in range(count)])
    hidden = hidden_places(numbers, share, allowed)
    assert not (hidden & ~allowed).any()
    assert hidden.sum() == (max(1, round(share * int(allowed.sum()))) if allowed.any() else 0)


def test_each_pair_counts_the_same_however_many_tokens_it_has():
    sequence = sides()["text"]
    losses = torch.tensor([1.0, 5.0, 7.0])
    assert mean_over_pairs(losses, sequence, torch.tensor([0, 2, 6])).item() == (1 + 6) / 2
    assert mean_over_pairs(losses[:1], sequence, torch.tensor([7])).item() == 0.5, "a pair without any is zero"
