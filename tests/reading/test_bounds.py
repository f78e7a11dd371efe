"""Bounds of what one file may hold."""

from pathlib import Path

import pytest

from metatx.errors import SampleError
from metatx.reading.bounds import BOUNDS, VARIABLE, bound, check_bound, stricter


def test_a_bound_is_changed_by_the_variable(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert bound("pixels") == BOUNDS["pixels"].own
    monkeypatch.setenv(VARIABLE, "pixels=2e8, points=7")
    assert bound("pixels") == 2e8
    assert bound("points") == 7
    assert bound("frames") == BOUNDS["frames"].own


@pytest.mark.parametrize("text", ["pixels", "pixels=many", "pixel=3", "pixels=0", "pixels=-1", "pixels=nan"])
def test_a_wrong_variable_is_one_line(monkeypatch, text):
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(ValueError, match=VARIABLE):
        bound("points")


def test_what_is_beyond_is_refused_with_what_to_do(monkeypatch):
    monkeypatch.setenv(VARIABLE, "points=10")
    check_bound("points", 10, "cloud a.xyz")
    with pytest.raises(SampleError, match=r"a.xyz has 11 points; expected at most 10 \(METATX_BOUNDS=points=\.\.\.\)"):
        check_bound("points", 11, "cloud a.xyz")
    with pytest.raises(SampleError):
        check_bound("points", float("nan"), "cloud a.xyz")


def test_for_strangers_bounds_are_stricter_but_a_setting_wins(monkeypatch):
    monkeypatch.setenv(VARIABLE, "points=5")
    monkeypatch.setenv(VARIABLE, stricter())
    assert bound("points") == 5
    assert bound("pixels") == BOUNDS["pixels"].sent
    assert all(one.sent <= one.own for one in BOUNDS.values())


def test_the_table_for_people_is_the_one_that_holds():
    text = (Path(__file__).parents[2] / "SECURITY.md").read_text()
    for name, one in BOUNDS.items():
        assert f"| `{name}` | {one.own:,} | {one.sent:,} | {one.what} |" in text
    assert text.count("\n| `") == len(BOUNDS)
