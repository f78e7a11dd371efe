"""Cross-attention between the blocks: who reads whom."""

import pytest
import torch

from tests.fusions.meetings import BATCH, backbone, batch, trained

BACKBONE = backbone()
PHOTO = slice(0, 5)
WORDS = slice(5, 10)
FACTS = slice(10, 11)


def changed_rows(name: str, row: int) -> set[int]:
    """Tokens of a sample that one exchange changes if one token is another, itself left out."""
    fusion = trained(name, BACKBONE)
    sequence = batch(BATCH[:1])
    tokens = sequence.embeddings.clone()
    tokens[row] += torch.randn(32)
    before = fusion(1, sequence)
    after = fusion(1, sequence.with_embeddings(tokens))
    return set((after - before).abs().amax(1).gt(1e-7).nonzero().flatten().tolist()) - {row}


def rows(*parts: slice) -> set[int]:
    return {row for part in parts for row in range(11)[part]}


@torch.no_grad()
def test_coattention_reads_the_other_inputs_alone() -> None:
    assert changed_rows("coattention", 0) == rows(WORDS, FACTS)
    assert changed_rows("coattention", 8) == rows(PHOTO, FACTS), "not the other window of the words"
    assert changed_rows("coattention", 10) == rows(PHOTO, WORDS)


@torch.no_grad()
def test_only_the_main_input_reads_with_a_gate() -> None:
    assert changed_rows("gated", 0) == rows(WORDS)
    assert changed_rows("gated", 8) == set()
    assert changed_rows("gated", 10) == rows(WORDS)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("coattention", [[5], [], []]),
        ("coattention", [[], [2, 3], []]),
        ("gated", [[5], [], [1]]),
        ("gated", [[], [4], []]),
    ],
)
@torch.no_grad()
def test_a_sample_with_nothing_to_read_stays(name, sizes) -> None:
    fusion = trained(name, BACKBONE)
    alone = batch([sizes])
    assert torch.equal(fusion(1, alone), alone.embeddings)
    among = batch([sizes, *BATCH])
    count = sum(alone.lengths)
    assert torch.equal(fusion(1, among)[:count], among.embeddings[:count])
    assert not torch.equal(fusion(1, among)[count:], among.embeddings[count:])
