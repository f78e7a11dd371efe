import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from metatx.layers.norms import BatchNorm
from metatx.registry import create


def both(width):
    """Ours and torch's, which starts from zeros and ones and never forgets them."""
    return BatchNorm(width), nn.BatchNorm1d(width, affine=False, momentum=None)


@given(st.integers(0, 1000), st.integers(2, 9), st.integers(1, 5))
def test_parity_with_torch_in_training(seed, count, width):
    ours, theirs = both(width)
    generator = torch.Generator().manual_seed(seed)
    features = [torch.randn(count, width, generator=generator, requires_grad=True) for _ in range(2)]
    features[1].data = features[0].data.clone()
    outputs = [norm(one) for norm, one in zip((ours, theirs), features, strict=True)]
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-5, rtol=1e-4)
    for output in outputs:
        output.square().mul(torch.arange(float(width))).sum().backward()
    torch.testing.assert_close(features[0].grad, features[1].grad, atol=1e-4, rtol=1e-3)


def test_prediction_uses_averages_over_batches_the_first_ones_alike():
    ours, theirs = both(3)
    batches = torch.randn(5, 8, 3) * torch.tensor([1.0, 10.0, 0.1]) + 4
    for batch in batches:
        ours(batch), theirs(batch)
    torch.testing.assert_close(ours.mean, theirs.running_mean)
    torch.testing.assert_close(ours.variance, theirs.running_var)
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours(batches[0]), theirs(batches[0]))
    torch.testing.assert_close(ours(batches[0])[:1], ours(batches[0][:1]), msg="a sample depends on no other")


def test_later_batches_count_a_tenth():
    norm = BatchNorm(1)
    for _ in range(30):
        norm(torch.tensor([[0.0], [2.0]]))
    norm(torch.tensor([[10.0], [12.0]]))
    assert norm.mean.item() == pytest.approx(0.9 * 1 + 0.1 * 11)


def test_one_sample_is_read_as_in_prediction_and_teaches_nothing():
    norm = BatchNorm(2)
    norm(torch.randn(6, 2))
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    sample = torch.randn(1, 2)
    trained = norm(sample)
    assert torch.equal(trained, norm.eval()(sample))
    assert all(torch.equal(before[name], value) for name, value in norm.state_dict().items())


def test_half_precision_is_read_in_full():
    assert BatchNorm(2)(torch.randn(4, 2, dtype=torch.bfloat16)).dtype == torch.float32


def test_an_unknown_norm_is_refused():
    with pytest.raises(ValueError, match="norm is 'group'; expected one of 'layer', 'batch'"):
        create("heads", "regression", 4, norm="group")
