"""Early, mid and late are one number: the block from which the inputs attend to one another."""

import pytest
import torch

from metatx.backbone.attention import Packing
from tests.fusions.meetings import backbone, batch, built, passed, samples_of

BACKBONE = backbone()


def two_stages(sample, at: int) -> torch.Tensor:
    """Each sequence by itself up to block ``at``, all of them in one row from there on."""
    rows = [torch.cat([BACKBONE.cls_token, tokens]) for tokens in sample.embeddings.split(sample.lengths)]
    rows = [BACKBONE.norm_pre(row) for row in rows]
    for number, block in enumerate(BACKBONE.blocks):
        rows = rows if number < at else [torch.cat(rows)]
        rows = [block(row, Packing((len(row) - 1,), 1, BACKBONE.device)) for row in rows]
    return BACKBONE.norm(torch.cat(rows))


@pytest.mark.parametrize("at", range(5))
@torch.no_grad()
def test_mid_fusion_is_two_stages(at) -> None:
    found = passed(built("mid", BACKBONE, at=at), BACKBONE, batch()).embeddings
    wanted = torch.cat([two_stages(sample, at) for sample in samples_of(batch())])
    torch.testing.assert_close(found, wanted, atol=2e-6, rtol=1e-6)


@pytest.mark.parametrize(("at", "name"), [(0, "early"), (4, "late")])
@torch.no_grad()
def test_both_ends_have_names(at, name) -> None:
    found = passed(built("mid", BACKBONE, at=at), BACKBONE, batch()).embeddings
    assert torch.equal(found, passed(built(name, BACKBONE), BACKBONE, batch()).embeddings)
