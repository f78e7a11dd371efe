"""The benchmarks of the pool at a tiny size: every row is there; times are not judged."""

import re
import sys

import pytest

from tests.recipes.common import RECIPES, imported


@pytest.fixture(scope="module")
def scripts():
    with imported("pool", "pool_memory", folder=RECIPES / "benchmarks") as modules:
        yield modules


def rows(text):
    """First number of each printed line."""
    return [float(re.search(r"([\d.]+) (?:x|/s|MB|ms|  )", line[70:])[1]) for line in text.splitlines()]


def test_speed(scripts, capsys):
    scripts[0].main(rounds=1, sequences=4, loras=2, tasks=6, batches=2)
    shown = capsys.readouterr().out
    assert len(rows(shown)) == 28 and all(value > 0 for value in rows(shown)[:4] + rows(shown)[5:-2])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory(scripts, capsys):
    scripts[1].main(rounds=1, tasks=8, more=2)
    assert len(rows(capsys.readouterr().out)) == 7
    scripts[1].main(cycles=10)
    assert capsys.readouterr().out.count("loads and unloads") == 2
