"""Byte pairs: equal to open_clip's, and refused before the work that a hostile text would be."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metatx.data import byte_pairs
from metatx.data.byte_pairs import clip_tokens, clip_vocabulary

ALPHABETS = (
    *("ab ", "aab😂😍", "Ã©â‚¬ ", " \n\r\t\x85\xa0a", "的一是在不了", "&amp;#x41;<>", "éñ 'sre"),
    *("\x1b[0m a", "\u0301a", "<start_of_text><end_of_text> ", "0123456789 a", " !?.,;-ab"),
)


class Counting(dict):
    """The characters of bytes, and how many were looked up: those of words whose pieces are merged."""

    count = 0

    def __getitem__(self, byte: int) -> str:
        self.count += 1
        return str(super().__getitem__(byte))


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> Counting:
    letters = Counting(clip_vocabulary().byte_encoder)
    monkeypatch.setattr(clip_vocabulary(), "byte_encoder", letters)
    return letters


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
    monkeypatch.setattr(byte_pairs, "clip_vocabulary", lambda: pytest.fail("was cleaned"))
    assert clip_tokens(text, 100) is None


def test_merging_ends_where_there_are_too_many(looked_up: Counting) -> None:
    tokens = clip_tokens("x" * 100, 1_000)
    looked_up.count = 0
    assert tokens and clip_tokens("x" * 5_000, 150) is None
    assert looked_up.count == 100 * (150 // len(tokens) + 1)


def test_short_words_are_remembered_and_long_ones_are_not(looked_up: Counting) -> None:
    kept = len(clip_vocabulary().cache)
    for word, merges in (("qwertzuiopasdfghjklyxcvb", 1), ("qwertzuiopasdfghjklyxcvbnm" * 3, 2)):
        looked_up.count = 0
        assert clip_tokens(word, 1_000) == clip_tokens(word, 1_000)
        assert looked_up.count == merges * len(word)
    assert len(clip_vocabulary().cache) == kept
