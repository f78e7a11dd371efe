"""TokenSequence against plain loops over lists."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metatx import TokenSequence
from metatx.sequence import LATE, as_sequence, concatenate, divide, joined

D = 5
FACTS = ("lengths", "sequences_per_sample", "sources", "fuse_at", "grids", "num_prefix_tokens")
EXAMPLES = settings(max_examples=40, deadline=None)


@st.composite
def batches(draw):
    """A batch, and its samples as lists of sequences (N, D)."""
    prefix = draw(st.integers(0, 2))
    counts = draw(st.lists(st.integers(1, 3), min_size=1, max_size=5))
    if draw(st.booleans()):
        counts = [1] * len(counts)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    equal = draw(st.booleans())
    sizes = [prefix + (4 if equal else draw(st.integers(1, 6))) for _ in range(sum(counts))]
    sequences = [torch.randn(size, D, generator=generator) for size in sizes]
    packed = tuple(counts) if max(counts) > 1 or draw(st.booleans()) else None
    sources = draw(st.none() | st.tuples(*[st.sampled_from(["a", "b"])] * len(sizes)))
    batch = TokenSequence(
        torch.cat(sequences),
        tuple(sizes),
        sequences_per_sample=packed,
        sources=sources,
        fuse_at=draw(st.none() | st.tuples(*[st.integers(0, 4)] * len(counts))),
        grids={source: (4,) for source in set(sources or [""])} if equal else {},
        num_prefix_tokens=prefix,
    )
    samples, start = [], 0
    for count in counts:
        samples.append(sequences[start : start + count])
        start += count
    return batch, samples


@EXAMPLES
@given(batches())
def test_mean_is_that_of_each_sample_s_tokens(case):
    batch, samples = case
    expected = [torch.cat([sequence[batch.num_prefix_tokens :] for sequence in sample]).mean(0) for sample in samples]
    assert len(batch) == len(samples)
    torch.testing.assert_close(batch.mean(), torch.stack(expected), atol=1e-6, rtol=1e-5)


@EXAMPLES
@given(batches())
def test_cls_is_the_first_token_averaged_over_parts(case):
    batch, samples = case
    if not batch.num_prefix_tokens:
        with pytest.raises(ValueError, match="no CLS token; pool by the mean"):
            batch.cls()
        return
    expected = [torch.stack([sequence[0] for sequence in sample]).mean(0) for sample in samples]
    torch.testing.assert_close(batch.cls(), torch.stack(expected))


@EXAMPLES
@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4).filter(any), min_size=1, max_size=5), st.booleans())
def test_unpacking_what_was_packed(rows, everything):
    mask = torch.ones(len(rows), 4, dtype=torch.bool) if everything else torch.tensor(rows)
    embeddings = torch.randn(len(rows), 4, D)
    batch = TokenSequence.pack(embeddings, mask)
    assert batch.lengths == tuple(mask.sum(1).tolist())
    padded, kept = batch.unpack()
    assert torch.equal(padded[kept], embeddings[mask])
    assert not padded[~kept].any()
    again = TokenSequence.pack(padded, kept)
    assert torch.equal(again.embeddings, batch.embeddings) and again.lengths == batch.lengths
    for i, length in enumerate(batch.lengths):
        assert torch.equal(padded[i, :length], embeddings[i][mask[i]])


@EXAMPLES
@given(batches(), st.integers(1, 3))
def test_batches_put_together_come_apart(case, copies):
    batch, _ = case
    others = [batch.with_embeddings(batch.embeddings * i) for i in range(copies)]
    together = concatenate(others)
    assert len(together.embeddings) == copies * len(batch.embeddings)
    for part, other in zip(divide(together, others), others, strict=True):
        assert torch.equal(part.embeddings, other.embeddings)
        for name in FACTS:
            assert getattr(part, name) == getattr(other, name)


def test_coming_apart_behind_a_backbone_that_put_a_token_in_front():
    first = TokenSequence.pack(torch.randn(2, 4, D), grid=(2, 2))
    second = TokenSequence(torch.randn(5, D), (2, 3), sequences_per_sample=(2,), context={"loc": torch.ones(1)})
    together = concatenate([first, second])
    behind = TokenSequence(torch.randn(17, D), tuple(n + 1 for n in together.lengths), num_prefix_tokens=1)
    one, other = divide(behind, [first, second])
    assert (one.lengths, one.grid, one.num_prefix_tokens, len(one)) == ((5, 5), (2, 2), 1, 2)
    assert (other.lengths, other.sequences_per_sample, other.num_prefix_tokens, len(other)) == ((3, 4), (2,), 1, 1)
    assert "loc" in other.context
    assert torch.equal(torch.cat([one.embeddings, other.embeddings]), behind.embeddings)


def test_gradients_pass_through_packing_and_pooling():
    embeddings = torch.randn(2, 3, D, requires_grad=True)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    TokenSequence.pack(embeddings, mask).mean().sum().backward()
    expected = mask[..., None] / mask.sum(1)[:, None, None]
    torch.testing.assert_close(embeddings.grad, expected.expand(2, 3, D).float())


def test_what_a_tokenizer_may_return():
    embeddings, mask = torch.randn(2, 3, D), torch.tensor([[True, False, True], [True, True, True]])
    assert as_sequence(embeddings).lengths == (3, 3)
    masked = as_sequence((embeddings, mask))
    assert masked.lengths == (2, 3)
    assert torch.equal(masked.embeddings[:2], embeddings[0, [0, 2]])
    assert as_sequence(masked) is masked


def test_other_embeddings_keep_everything_else():
    batch = TokenSequence.pack(torch.randn(2, 4, D), grid=(2, 2), context={"loc": torch.zeros(2)})
    wider = batch.with_embeddings(torch.zeros(8, 7))
    assert (wider.lengths, wider.grid, wider.context) == (batch.lengths, batch.grid, batch.context)
    assert wider.embeddings.shape == (8, 7)


def pair(**facts):
    return TokenSequence(torch.zeros(6, D), (3, 3), **facts)


MASK = torch.ones(2, 3, dtype=torch.bool)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TokenSequence(torch.zeros(2, 3, D), (3, 3)), r"must be \(T, D\), not \(2, 3, 5\)"),
        (lambda: TokenSequence(torch.zeros(6, D), (3, 2)), "lengths sum to 5, but there are 6 tokens"),
        (lambda: TokenSequence(torch.zeros(6, D), (6, 0)), "Sequence 1 has no token"),
        (lambda: pair(sequences_per_sample=(1,)), "sequences_per_sample sum to 1, but there are 2 sequences"),
        (lambda: pair(sequences_per_sample=(3, -1)), r"sequences_per_sample are \(3, -1\); each must be 0 or more"),
        (lambda: pair(sources=("a",)), "sources names 1 inputs for 2 sequences"),
        (lambda: pair(fuse_at=(0,)), "give each of the 2 samples a block"),
        (lambda: pair(fuse_at=(0, -1)), r"fuse_at is \(0, -1\)"),
        (lambda: pair(grids={"a": (3,)}), "grids has the source 'a', but no sequence comes from it"),
        (lambda: pair(sources=("a", "b"), grids={"": (3,)}), "grids has the source ''"),
        (lambda: TokenSequence.pack(torch.zeros(6, D)), r"gives \(B, N, D\) embeddings, not \(6, 5\)"),
        (lambda: TokenSequence.pack(torch.zeros(2, 3, D), MASK.float()), "must be torch.bool"),
        (lambda: TokenSequence.pack(torch.zeros(2, 3, D), MASK[:1]), r"\(1, 3\); it must be torch.bool \(2, 3\)"),
        (lambda: TokenSequence.pack(torch.zeros(2, 3, D), MASK & torch.tensor([[True], [False]])), "Sequence 1 has no"),
        (lambda: TokenSequence.pack(torch.zeros(2, 0, D)), "Sequence 0 has no token"),
    ],
)
def test_what_does_not_fit_together_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@EXAMPLES
@given(batches(), st.integers(1, 3))
def test_batches_of_one_tokenizer_are_joined_with_all_their_facts(case, copies):
    batch, _ = case
    batch = replace(batch, context={"scale": torch.randn(len(batch), 2), "points": [torch.ones(len(batch) + 1, 3)]})
    others = [batch.with_embeddings(batch.embeddings * (i + 1)) for i in range(copies)]
    together = joined(others)
    assert len(together) == copies * len(batch)
    torch.testing.assert_close(together.mean(), torch.cat([other.mean() for other in others]))
    assert torch.equal(together.context["scale"], batch.context["scale"].repeat(copies, 1))
    assert len(together.context["points"]) == copies


def test_lists_of_context_and_parts_are_joined():
    ragged = [TokenSequence(torch.zeros(1, D), (1,), context={"at": [torch.ones(n)]}) for n in (2, 3)]
    assert [tuple(at.shape) for at in joined(ragged).context["at"]] == [(2,), (3,)]


@pytest.mark.parametrize("put_together", [joined, concatenate])
def test_facts_that_one_batch_states_and_another_does_not(put_together):
    fused = pair(sequences_per_sample=(2,), sources=("a", "b"), fuse_at=(1,), grids={"b": (3,)})
    plain = pair()
    both = put_together([fused, plain])
    assert (both.sequences_per_sample, both.fuse_at) == ((2, 1, 1), (1, LATE, LATE))
    front = "0." if put_together is concatenate else ""
    assert both.sources == (f"{front}a", f"{front}b", "", "")
    assert both.grids == {f"{front}b": (3,)}
    bare = put_together([plain, plain])
    assert (bare.sequences_per_sample, bare.sources, bare.fuse_at, bare.grids) == (None, None, None, {})


def test_each_batch_keeps_its_grid_in_one_batch_of_all():
    small = TokenSequence.pack(torch.zeros(1, 4, D), grid=(2, 2))
    large = TokenSequence.pack(torch.zeros(2, 6, D), grid=(2, 3))
    together = concatenate([small, large])
    assert [together.grids[source] for source in together.sources] == [(2, 2), (2, 3), (2, 3)]


def test_a_sample_without_a_sequence_is_zero():
    batch = TokenSequence(torch.ones(4, D), (2, 2), sequences_per_sample=(2, 0), num_prefix_tokens=1)
    assert batch.mean().tolist() == batch.cls().tolist() == [[1] * D, [0] * D]
