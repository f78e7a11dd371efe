"""Packing loses nothing, and pooling equals the plain loop over samples."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metatx.sequence import TokenSequence, as_sequence, concatenate, divide

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def _sequence(lengths, prefix=0, parts=None):
    generator = torch.Generator().manual_seed(sum(lengths))
    embeddings = torch.randn(sum(lengths), 4, generator=generator)
    return TokenSequence(embeddings, tuple(lengths), prefix=prefix, parts=parts)


@given(LENGTHS)
def test_unpack_undoes_pack(lengths):
    sequence = _sequence(lengths)
    again = TokenSequence.pack(*sequence.unpack())
    assert again.lengths == sequence.lengths
    assert torch.equal(again.embeddings, sequence.embeddings)


@settings(max_examples=50)
@given(LENGTHS, st.integers(0, 2), st.booleans())
def test_pooling_is_the_plain_loop(lengths, prefix, cut):
    lengths = [length + prefix for length in lengths]
    parts = None
    if cut and len(lengths) > 1:
        parts = (len(lengths) - 1, 1)
    sequence = _sequence(lengths, prefix, parts)
    tokens = sequence.embeddings.split(lengths)
    grouped = [list(group) for group in _grouped(tokens, parts or (1,) * len(lengths))]
    mean = torch.stack([torch.cat([t[prefix:] for t in group]).mean(0) for group in grouped])
    torch.testing.assert_close(sequence.mean(), mean)
    if prefix:
        first = torch.stack([torch.stack([t[0] for t in group]).mean(0) for group in grouped])
        torch.testing.assert_close(sequence.cls(), first)
    else:
        with pytest.raises(ValueError, match="no CLS"):
            sequence.cls()


def _grouped(items, sizes):
    start = 0
    for size in sizes:
        yield items[start : start + size]
        start += size


@given(st.lists(LENGTHS, min_size=1, max_size=4))
def test_divide_undoes_concatenate(batches):
    originals = [_sequence(lengths) for lengths in batches]
    for original, again in zip(originals, divide(concatenate(originals), originals), strict=True):
        assert torch.equal(original.embeddings, again.embeddings) and original.lengths == again.lengths


def test_what_a_tokenizer_may_return():
    embeddings = torch.randn(2, 3, 4)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    assert as_sequence(embeddings).lengths == (3, 3)
    assert as_sequence((embeddings, mask)).lengths == (2, 3)
    sequence = _sequence([1, 2])
    assert as_sequence(sequence) is sequence


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TokenSequence(torch.zeros(2, 3, 4), (2,)), r"must be \(T, D\)"),
        (lambda: TokenSequence(torch.zeros(3, 4), (2,)), "lengths sum to 2"),
        (lambda: TokenSequence(torch.zeros(3, 4), (1, 2), parts=(1,)), "parts sum to 1"),
        (lambda: TokenSequence.pack(torch.zeros(3, 4)), r"\(B, N, D\)"),
        (lambda: TokenSequence.pack(torch.zeros(1, 2, 4), torch.ones(1, 2)), "torch.bool"),
        (lambda: TokenSequence.pack(torch.zeros(1, 2, 4), torch.ones(1, 3).bool()), "torch.bool"),
        (lambda: TokenSequence.pack(torch.zeros(1, 2, 4), torch.zeros(1, 2).bool()), "no token"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
