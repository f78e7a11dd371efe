"""What tests of recipes share: parts of data sets are linked into a folder, not copied."""

import pytest


@pytest.fixture(autouse=True)
def _follow_links(monkeypatch):
    monkeypatch.setenv("METATX_FOLLOW_LINKS", "1")
