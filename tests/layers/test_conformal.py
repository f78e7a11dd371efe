"""Split conformal prediction: of n + 1 exchangeable scores, the last is within the bound of the others as promised."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from metatx.layers.conformal import check_coverage, conformal_bound, conformal_quantile


@given(st.lists(st.integers(0, 5), min_size=2, max_size=20), st.floats(0.05, 0.95))
def test_whichever_score_is_left_out_the_promised_share_is_within_the_bound_of_the_others(scores, coverage) -> None:
    values = torch.tensor(scores, dtype=torch.float64)
    others = [torch.cat([values[:place], values[place + 1 :]]) for place in range(len(values))]
    inside = [values[place] <= conformal_quantile(rest, coverage) for place, rest in enumerate(others)]
    assert sum(inside) >= coverage * len(values) - 1e-6


def test_the_bound_is_the_smallest_one() -> None:
    scores = torch.randperm(99).double() + 1
    assert conformal_quantile(scores, 0.9) == 90
    assert conformal_quantile(scores, 0.995).isinf()  # a hundredth is the finest that 99 samples can say


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (8, "coverage 0.9 needs at least 9 validation samples, and there are 8: sets hold all labels"),
        (9, "coverage 0.9 is fitted on 9 validation samples, which chose the epoch too"),
        (100, ""),
    ],
)
def test_few_samples_are_told(count, told, caplog) -> None:
    bound = conformal_bound(torch.rand(count), 0.9)
    assert bound.isinf() == (count < 9)
    assert told in caplog.text and bool(caplog.text) == bool(told)


@pytest.mark.parametrize("coverage", [0, 1, 1.5, -0.1])
def test_a_promise_that_is_no_share_is_refused(coverage) -> None:
    with pytest.raises(ValueError, match="expected a share between 0 and 1, such as 0.9"):
        check_coverage(coverage)
