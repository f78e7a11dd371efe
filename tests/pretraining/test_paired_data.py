"""Pairs as batches, and patches that are left out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metatx.pretraining.paired_data import PairedDataset, drop_tokens, part_of
from metatx.sequence import TokenSequence
from tests.pairs import colour_alignment, coloured, small_backbone


def test_both_sides_of_a_batch_belong_together():
    samples = coloured(20)
    pairs = PairedDataset(colour_alignment(small_backbone(), samples), samples)
    batches, keys, positions = pairs.batch([3, 17, 3])
    assert positions.tolist() == [3, 17, 3]
    assert torch.equal(batches["image"]["image"][0], torch.from_numpy(samples["image"][3]).permute(2, 0, 1))
    assert torch.equal(batches["text"]["tokens"][1], pairs.sides["text"].encoded(17)["tokens"])
    assert torch.equal(keys, pairs.keys[:, [3, 17, 3]])
    alike = [[one == other for other in samples["text"]] for one in samples["text"]]
    assert (pairs.keys[1][:, None] == pairs.keys[1]).tolist() == alike, "one key a caption"
    assert len(set(pairs.keys[0].tolist())) == 20, "all pictures differ"


def test_bad_samples_are_named_or_left_out_with_their_partner():
    samples = coloured(6)
    alignment = colour_alignment(small_backbone(), samples)
    bad = {"image": [*samples["image"][:5], "gone.png"], "text": ["", *samples["text"][1:]]}
    with pytest.raises(ValueError, match=r"1 of 6 samples cannot be used: the data, row 6: image file gone.png"):
        PairedDataset(alignment, bad)
    pairs = PairedDataset(alignment, bad, skip_bad=True)
    assert len(pairs) == 4
    batches, _, _ = pairs.batch([0])
    assert torch.equal(batches["image"]["image"][0], torch.from_numpy(samples["image"][1]).permute(2, 0, 1))
    with pytest.raises(ValueError, match="No pair is left"):
        PairedDataset(alignment, {"image": [samples["image"][0], "gone.png"], "text": ["", "red"]}, skip_bad=True)


@pytest.mark.parametrize("sides", [{"image": [1]}, {"image": [1, 2], "text": ["a"]}, {"image": [], "text": []}])
def test_sides_must_be_two_and_equally_long(sides):
    alignment = colour_alignment(small_backbone(), coloured(4))
    with pytest.raises(ValueError, match="equally many of each"):
        PairedDataset(alignment, sides)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 6), st.integers(1, 20), st.floats(0, 0.99))
def test_dropped_tokens_are_a_part_of_each_sequence_in_order(count, length, share):
    x = torch.arange(count * length, dtype=torch.float32)[:, None]
    kept, chosen = drop_tokens(TokenSequence(x, (length,) * count, grids={"": (length,)}), share)
    assert len(set(kept.lengths)) == 1 and 1 <= kept.lengths[0] <= length
    rows = kept.embeddings.view(count, -1)
    if chosen is None:
        assert kept.lengths[0] == length
        return
    assert torch.equal(rows, chosen + length * torch.arange(count)[:, None])
    assert (rows.diff(dim=1) > 0).all()


def test_sequences_without_a_grid_lose_nothing():
    sequence = TokenSequence(torch.randn(7, 4), (3, 4))
    assert drop_tokens(sequence, 0.5) == (sequence, None)


def test_a_part_of_a_batch_takes_the_same_rows_everywhere():
    batch = {"a": torch.arange(5), "b": [torch.full((i,), i) for i in range(5)]}
    part = part_of(batch, slice(1, 3))
    assert part["a"].tolist() == [1, 2]
    assert [len(tensor) for tensor in part["b"]] == [1, 2]
