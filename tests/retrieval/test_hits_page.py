"""Hits as pictures, players and words, in a page that runs nothing and is bounded."""

import re

import numpy as np
from PIL import Image

from metatx.retrieval import hits_page as module
from metatx.retrieval.hits_page import Shown, hits_page, write_hits

EVIL = "</b><script>window.hurt = 1</script><img src=x onerror=window.hurt=2> & \"'"
RED = Image.new("RGB", (40, 20), (250, 0, 0))
TONE = {"array": np.sin(np.arange(8000) / 5).astype(np.float32), "sampling_rate": 8000}


def test_each_sample_is_shown_as_what_it_is(tmp_path):
    hits = [
        Shown("image", RED, 0.9, {"name": "a red thing", "photo": {"bytes": b"x"}, "price": 2.5, "none": None}),
        Shown("audio", TONE, 0.8),
        Shown("text", "some words", 0.7),
        Shown("image", None, 0.6, {"name": "no picture is kept"}),
        Shown("image", "gone.png", 0.5),
    ]
    write_hits(tmp_path / "hits.html", [Shown("text", "red"), Shown(None)], [hits, []], title="a & b")
    text = (tmp_path / "hits.html").read_text()
    assert text.count("data:image/jpeg") == 1 and text.count("<audio") == 1 and "<b>some words</b>" in text
    assert "<dt>price</dt><dd>2.5</dd>" in text and "<dt>photo" not in text and "<dt>none" not in text
    assert "<b>a red thing</b>" in text and "<b>no picture is kept</b>" in text
    assert "0.900" in text and "5 hits" in text and "0 hits" in text and "Query 2" in text
    assert "cannot be read" in text and "gone.png" in text and "<title>a &amp; b</title>" in text
    assert "http" not in re.sub(r'http-equiv="', "", text), "a page needs no network"


def test_words_of_a_user_are_never_tags():
    text = hits_page([Shown("text", EVIL)] * 2, [[Shown("text", EVIL, 1.0, {EVIL: EVIL})]] * 2, title=EVIL)
    assert "<script" not in text and "<img" not in text and "&lt;script&gt;" in text


def test_too_many_pictures_and_hits_are_left_out_and_told(monkeypatch, caplog):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8))
    monkeypatch.setattr(module, "MOST_MEDIA", 100_000)
    monkeypatch.setattr(module, "MOST_HITS", 7)
    with caplog.at_level("INFO", "metatx"):
        text = hits_page([Shown("text", "x")] * 2, [[Shown("image", noise, 0.1)] * 5] * 2)
    assert len(text) < 110_000 and "Pictures and clips that were left out" in text and "7 of 10 hits" in text
    assert text.count("<li>") == 7 and "left out" in caplog.text
