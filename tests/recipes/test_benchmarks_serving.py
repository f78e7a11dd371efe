"""The benchmarks of the server at a tiny size: what they print is there, and nothing fails; times are not judged."""

import re
import sys

import pytest

from tests.recipes.common import RECIPES, imported


@pytest.fixture(scope="module")
def scripts():
    with imported("serving", "survival", folder=RECIPES / "benchmarks") as modules:
        yield modules


def test_cost(scripts, capsys):
    scripts[0].main(tasks="table,series", clients=3, seconds=0.5, rounds=1)
    shown = capsys.readouterr().out
    assert shown.startswith("table, series on nano, 3 clients")
    rows = re.findall(r"^(directly|1 process|2 processes) +(\d+) +([\d.]+) +([\d.]+)(.*)$", shown, re.MULTILINE)
    assert [row[0] for row in rows] == ["directly", "1 process", "2 processes"]
    for _, rate, ratio, cpu, _ in rows:
        assert int(rate) > 0 and float(cpu) > 0 and float(ratio) == pytest.approx(int(rate) / int(rows[0][1]), abs=0.1)
    assert [len(row[4].split()) for row in rows] == [0, 3, 3]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_survival(scripts, capsys):
    scripts[1].main(minutes=0.03, bad=80, warm=0.5)
    measured, overload, bad = capsys.readouterr().out.splitlines()
    for line in (measured, overload):
        counts = eval(re.search(r"{.*}", line)[0])
        assert counts["right"] > 0 and set(counts) <= {"right", "429"}
    statuses = eval(re.search(r"{.*}", bad)[0])
    assert sum(statuses.values()) >= 80 and max(statuses) < 500 and min(statuses) >= 200
