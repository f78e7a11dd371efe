"""The tabular tokenizer on numbers: piecewise-linear encoding on quantile bins."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metatx.tokenizers.tabular import TabularTokenizer
from tests.tokenizers.tabular_rows import column, token

# Numbers


def reference(value: float, edges: list[float]) -> list[float]:
    """Piecewise-linear encoding as the paper defines it (its equation 1), within the training range."""
    encoded = []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        if value < low:
            encoded.append(0.0)
        elif value >= high:
            encoded.append(1.0)
        else:
            encoded.append((value - low) / (high - low))
    return encoded


def bins_of(tokenizer: TabularTokenizer, row: int = 0) -> list[float]:
    """Bin edges of a column, in its own unit."""
    entry = tokenizer.schema[row]
    left, width = tokenizer.left[row].double(), tokenizer.width[row].double()
    edges = [*left[: entry["bins"]], left[entry["bins"] - 1] + width[entry["bins"] - 1]]
    return [float(edge) * entry["scale"] + entry["centre"] for edge in edges]


@pytest.mark.parametrize("bins", [1, 2, 8, 64])
def test_piecewise_linear_encoding_equals_the_reference(bins):
    values = np.random.default_rng(0).lognormal(size=500).tolist()
    tokenizer = column(values, bins=bins)
    edges = bins_of(tokenizer)
    assert len(edges) == bins + 1
    np.testing.assert_allclose([edges[0], edges[-1]], [min(values), max(values)], rtol=1e-5)
    for value in values[:50]:
        encoded = torch.tensor(reference(value, edges))
        expected = encoded @ tokenizer.weight[0] + tokenizer.column[0]
        torch.testing.assert_close(token(tokenizer, value), expected.detach(), atol=1e-4, rtol=0)


def test_bins_are_quantiles_of_different_values():
    edges = bins_of(column(np.random.default_rng(0).normal(size=10_000).tolist(), bins=4))
    np.testing.assert_allclose(edges[1:4], [-0.674, 0, 0.674], atol=0.05)


def test_bins_are_the_values_where_they_are_few():
    np.testing.assert_allclose(bins_of(column([3, 1, 10, 1, 1] * 9)), [1, 3, 10], rtol=1e-6)


def test_a_frequent_value_takes_one_share_of_the_bins():
    rare = np.random.default_rng(0).uniform(100, 200, 100)
    edges = bins_of(column([0] * 900 + [*rare[:50], *-rare[50:]], bins=20))
    assert sum(edge >= 100 for edge in edges) > 5  # plain quantiles leave 2
    assert sum(edge <= -100 for edge in edges) > 5


@given(
    values=st.lists(st.floats(-1e9, 1e9), min_size=3, max_size=60),
    asked=st.lists(st.floats(-2e9, 2e9), min_size=2, max_size=20),
    bins=st.integers(1, 20),
)
@settings(max_examples=50, deadline=None)
def test_tokens_rise_with_numbers(values, asked, bins):
    tokenizer = column(values, bins=bins)
    with torch.no_grad():
        tokenizer.weight.fill_(1.0)  # then each entry of a token is the number of bins below
    found = torch.stack([token(tokenizer, value) for value in sorted(asked)]) - tokenizer.column
    assert (found.diff(dim=0) >= 0).all()
    assert found.min() >= 0 and found.max() <= tokenizer.schema[0]["bins"] + 1e-4


@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_any_numbers_give_finite_tokens(values):
    read_all = [value for value in values if abs(value) <= 1e150]
    if not read_all:
        with pytest.raises(ValueError, match="none of its values is that, such as"):
            column(values)
        return
    tokenizer = column(values)
    for value in [*read_all, 1e150, -1e150, 0, None]:
        assert token(tokenizer, value).isfinite().all()


def test_large_close_numbers_are_told_apart():
    large, small = ([start + i for i in range(50)] for start in (1_700_000_000_000, 0))
    one, other = column(large), column(small)
    found = torch.stack([token(one, value) for value in large])
    torch.testing.assert_close(found, torch.stack([token(other, value) for value in small]))


def test_beyond_the_training_range_is_its_end():
    tokenizer = column(list(range(100)))
    torch.testing.assert_close(token(tokenizer, 1e100), token(tokenizer, 99))
    torch.testing.assert_close(token(tokenizer, -7), token(tokenizer, 0))


def test_a_constant_column_says_only_whether_it_is_missing():
    tokenizer = column([5.0] * 30)
    torch.testing.assert_close(token(tokenizer, 5), token(tokenizer, 6))
    assert token(tokenizer, 5).isfinite().all()
    assert not torch.equal(token(tokenizer, 5), token(tokenizer, None))


def test_numbers_written_as_text_are_numbers():
    tokenizer = column([1, 2, 3.5])
    torch.testing.assert_close(token(tokenizer, " 2.0 "), token(tokenizer, 2))
