"""CLIP's byte pairs, as open_clip merges them, in time that does not explode with a long word or a long text."""

import heapq
import re
from collections.abc import Iterator
from functools import cache, lru_cache
from itertools import islice
from typing import Any

__all__ = ["clip_tokens"]

LONGEST_RUN = 100  # characters without a space; what is longer is cut as if it had one there
LONGEST_PIECE = 32  # bytes that the longest entry of the vocabulary stands for
MARKUP = 2  # times as many characters as its tokens could hold, that a text may have: some markup becomes none
KEPT = 1 << 16  # words whose tokens are remembered
REMEMBERED = 24  # characters of a word that is
WORD = re.compile(r"\S+")
CUT = re.compile(rf"(\S{{{LONGEST_RUN}}})(?=\S)")
# A line without a word, which takes open_clip as long as one with some; \x85 stands for a sign where it is no space.
EMPTY = re.compile(r"\n[^\S\x85]*\n")


def clip_tokens(text: str, most: int) -> list[int] | None:
    """CLIP's numbers of a text's tokens; None where there are more than ``most``, which shows before all are made.

    Raises:
        ImportError: If open_clip is missing.
    """
    if len(list(islice(WORD.finditer(text), most + 1))) > most:  # there are as many tokens at least
        return None
    text = EMPTY.sub("\n", text)
    written = sum(len(word[0]) for word in WORD.finditer(text))
    if written > MARKUP * LONGEST_PIECE * most or text.count("\n") > 2 * most + 1:
        return None
    vocabulary = _vocabulary()
    words = vocabulary.pat.finditer(vocabulary.clean_fn(CUT.sub(r"\1 ", text)))
    found = list(islice(_numbers(word[0] for word in words), most + 1))
    return found if len(found) <= most else None


def _numbers(words: Iterator[str]) -> Iterator[int]:
    for word in words:
        yield from _remembered(word) if len(word) <= REMEMBERED else _merged(word)


@lru_cache(maxsize=KEPT)
def _remembered(word: str) -> tuple[int, ...]:
    return _merged(word)


@cache
def _vocabulary() -> Any:
    try:
        from open_clip.tokenizer import SimpleTokenizer
    except ImportError:
        raise ImportError("The text tokenizer needs open_clip_torch: pip install 'metatx[clip]'") from None
    return SimpleTokenizer()


def _merged(word: str) -> tuple[int, ...]:
    """The tokens of a word: of neighbouring pieces the pair of the lowest rank is merged, from the left, until none is.

    open_clip's own walks over all pieces for each merge; here a heap holds the pairs, so that n pieces take n log n.
    """
    vocabulary = _vocabulary()
    whole = "".join(vocabulary.byte_encoder[byte] for byte in word.encode("utf-8"))
    if whole in vocabulary.cache:  # the marks of start and end; nothing is ever added
        return (vocabulary.encoder[vocabulary.cache[whole]],)
    pieces: list[str] = [*whole[:-1], f"{whole[-1]}</w>"]
    after, before = list(range(1, len(pieces) + 1)), list(range(-1, len(pieces) - 1))
    ranks = vocabulary.bpe_ranks
    heap = [(ranks[pair], at, *pair) for at, pair in enumerate(zip(pieces, pieces[1:])) if pair in ranks]  # noqa: B905
    heapq.heapify(heap)
    while heap:
        _, at, first, second = heapq.heappop(heap)
        following = after[at]
        if pieces[at] != first or following == len(pieces) or pieces[following] != second:
            continue  # one of the two has become part of another
        pieces[at], pieces[following] = first + second, ""
        after[at] = after[following]
        if after[at] < len(pieces):
            before[after[at]] = at
        for left, right in ((before[at], at), (at, after[at])):
            if left >= 0 and right < len(pieces):
                pair = pieces[left], pieces[right]
                if pair in ranks:
                    heapq.heappush(heap, (ranks[pair], left, *pair))
    return tuple(vocabulary.encoder[piece] for piece in pieces if piece)
