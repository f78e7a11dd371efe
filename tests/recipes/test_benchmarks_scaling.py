"""The benchmark of scaling at tiny sizes: every number is there, and the picture is drawn."""

import sys

import pytest

from tests.recipes.common import RECIPES, imported


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_each_direction_is_measured_and_drawn(tmp_path):
    with imported("scaling", "measuring", folder=RECIPES / "benchmarks") as (script, _):
        measured = {}
        for direction, size in {"rows": 300, "classes": 1200, "tokens": 64, "tasks": 2}.items():
            folder = tmp_path / direction
            folder.mkdir()
            measured[direction] = {str(size): script.MEASURES[direction](size, folder, 1000.0, 0)}
            assert all(value >= 0 for value in measured[direction][str(size)].values())
        script.draw(measured, tmp_path / "scaling.png")
    assert measured["rows"]["300"]["trained rows"] == 270, "a tenth validates"
    assert measured["classes"]["1200"]["record kB"] < 1
    assert measured["tokens"]["64"]["taken"] == 1
    assert (tmp_path / "scaling.png").stat().st_size > 10_000
