"""The benchmark of the index at a tiny size: every number is there, and what it finds is exact."""

import sys

import pytest

from tests.recipes.common import RECIPES, imported


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_rows(capsys, tmp_path):
    with imported("index", folder=RECIPES / "benchmarks") as (script,):
        times = script.main(rows=3000, width=8, queries=4, rounds=1, beside=(), folder=str(tmp_path))
    *_, line = capsys.readouterr().out.splitlines()
    name, *numbers = line.split()
    assert name == "metatx"
    assert len(numbers) == 7
    assert float(numbers[-1]) >= 0.99
    assert times["metatx"] > 0
