"""Byte pairs: equal to open_clip's, and refused before the work that a hostile text would be."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metatx.data import byte_pairs
from metatx.data.byte_pairs import clip_tokens

ALPHABETS = (
    *("ab ", "aab😂😍", "Ã©â‚¬ ", " \n\r\t\x85\xa0a", "的一是在不了", "&amp;#x41;<>", "éñ 'sre"),
    *("\x1b[0m a", "\u0301a", "<start_of_text><end_of_text> ", "0123456789 a", " !?.,;-ab"),
)


def of_open_clip(text: str) -> list[int]:
    """As its own code merges, words of more than 100 characters cut."""
    from open_clip.tokenizer import SimpleTokenizer

    found: list[int] = SimpleTokenizer().encode(re.sub(r"(\S{100})(?=\S)", r"\1 ", text))
    return found


@given(st.one_of(st.text(max_size=150), *(st.text(letters, max_size=150) for letters in ALPHABETS)))
@settings(max_examples=20, deadline=None)
def test_tokens_are_those_of_open_clip(text: str) -> None:
    assert clip_tokens(text, 10_000) == of_open_clip(text)


def test_usual_and_long_texts_have_the_tokens_of_open_clip() -> None:
    pieces = ["A small, quiet film: isn't it?", "x" * 250, "\n\n  \n", "<start_of_text>", "caf\u00e9 &amp; th\u00e9"]
    text = " ".join([*pieces, "你好" * 90])
    expected = of_open_clip(text)
    assert clip_tokens(text, len(expected)) == expected
    assert clip_tokens(text, len(expected) - 1) is None


@pytest.mark.parametrize("text", ["a" * 100_000, "a " * 100_000, "a\x85\n" * 1_000, "\x85\n" * 1_000])
def test_what_must_be_too_long_is_not_cleaned(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_pairs, "_vocabulary", lambda: pytest.fail("was cleaned"))
    assert clip_tokens(text, 100) is None


def test_merging_ends_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    merged = []
    monkeypatch.setattr(byte_pairs, "_merged", lambda word: merged.append(word) or tuple(range(len(word))))
    assert clip_tokens("x" * 5_000, 150) is None and len(merged) == 2


def test_long_words_are_not_remembered() -> None:
    before = byte_pairs._remembered.cache_info().currsize
    vocabulary = len(byte_pairs._vocabulary().cache)
    clip_tokens("qwertzuiopasdfghjklyxcvbnm" * 3, 1_000)
    assert (byte_pairs._remembered.cache_info().currsize, len(byte_pairs._vocabulary().cache)) == (before, vocabulary)
