"""The tokens of a pass: as many as there is time for, not more than pay."""

from types import SimpleNamespace

import pytest

from metatx.serving import throughput as calibration


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (lambda tokens: 1e-3 + tokens * 1e-5, (8192, 8192 / 0.08292)),  # 16,384 would take 0.16 s
        (lambda tokens: 1e-3, (65_536, 65_536e3)),  # a device that is never full
        (lambda tokens: tokens * 1e-3, (256, 1000.0)),  # slow: the least
        (lambda tokens: tokens * (1e-5 if tokens < 2000 else 1e-4), (1024, 1e5)),  # beyond a cache it gets slow
    ],
)
def test_the_longest_pass_that_is_short_and_efficient(monkeypatch, seconds, expected):
    monkeypatch.setattr(calibration, "pass_seconds", lambda backbone, tokens: seconds(tokens))
    budget, rate = calibration.find_batch_tokens(SimpleNamespace(dim=10**6))  # so wide that attention costs nothing
    assert (budget, rate) == pytest.approx(expected, rel=1e-3)


def test_attention_costs_as_much_as_all_else_at_six_times_the_width():
    assert [calibration.cost(tokens, 200) for tokens in (1, 100, 1200, 12_000)] == [1, 108, 2400, 132_000]


def test_on_a_true_backbone(nano):
    tokens, rate = calibration.find_batch_tokens(nano)
    assert 256 <= tokens <= 65_536 and rate > 0
