"""What tests of recipes share: their folder is on the path, as it is for a script, and data sets' parts are links."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "recipes"))


@pytest.fixture(autouse=True)
def _follow_links(monkeypatch):
    monkeypatch.setenv("METATX_FOLLOW_LINKS", "1")
