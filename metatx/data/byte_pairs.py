"""CLIP's byte-pair encoding, equal to open_clip's, but fast for long words and long texts too."""

import heapq
import re
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from itertools import islice
from typing import Any

__all__ = ["clip_pieces", "clip_tokens", "clip_vocabulary"]

LONGEST_RUN = 100  # most characters without a space; longer runs are cut as if there were a space
LONGEST_PIECE = 32  # bytes of the longest entry of the vocabulary
MARKUP = 2  # factor on the most characters that the tokens could hold, for markup that yields no token
KEPT = 1 << 16  # words whose tokens are kept in memory
REMEMBERED = 24  # most characters of such a word
WORD = re.compile(r"\S+")
CUT = re.compile(rf"(\S{{{LONGEST_RUN}}})(?=\S)")
# A line without a word, which costs open_clip as much time as others; \x85 is a character of some encodings, no space.
EMPTY = re.compile(r"\n[^\S\x85]*\n")


def clip_tokens(text: str, most: int) -> list[int] | None:
    """Numbers of a text's tokens in CLIP's vocabulary; None if there are more than ``most``.

    A long text is refused before all of its tokens are made.

    Raises:
        ImportError: If open_clip is missing.
    """
    if len(list(islice(WORD.finditer(text), most + 1))) > most:  # each word gives a token at least
        return None
    text = EMPTY.sub("\n", text)
    written = sum(len(word[0]) for word in WORD.finditer(text))
    if written > MARKUP * LONGEST_PIECE * most or text.count("\n") > 2 * most + 1:
        return None
    vocabulary = clip_vocabulary()
    words = vocabulary.pat.finditer(vocabulary.clean_fn(CUT.sub(r"\1 ", text)))
    numbers = list(islice(_numbers(word[0] for word in words), most + 1))
    return numbers if len(numbers) <= most else None


def clip_pieces(numbers: Sequence[int], separator: int) -> list[str]:
    """Texts of tokens, one by one; a token that ends a word has a space behind it, the separator of two texts is |."""
    vocabulary = clip_vocabulary()
    return ["| " if number == separator else vocabulary.decode([number]) for number in numbers]


def _numbers(words: Iterator[str]) -> Iterator[int]:
    for word in words:
        yield from _remembered(word) if len(word) <= REMEMBERED else _merged(word)


@lru_cache(maxsize=KEPT)
def _remembered(word: str) -> tuple[int, ...]:
    return _merged(word)


@cache
def clip_vocabulary() -> Any:
    """Vocabulary of CLIP as open_clip has it, loaded once. Raises ImportError if open_clip is missing."""
    try:
        from open_clip.tokenizer import SimpleTokenizer
    except ImportError:
        raise ImportError("The text tokenizer needs open_clip_torch: pip install 'metatx[clip]'") from None
    return SimpleTokenizer()


def _merged(word: str) -> tuple[int, ...]:
    """Numbers of a word's tokens: the neighbouring pieces of the lowest rank are merged until no pair has a rank.

    open_clip walks over all pieces for each merge; here a heap holds the pairs, so that n pieces take n log n steps.
    """
    vocabulary = clip_vocabulary()
    whole = "".join(vocabulary.byte_encoder[byte] for byte in word.encode("utf-8"))
    if whole in vocabulary.cache:  # the marks of start and end; open_clip's cache is not filled here
        return (vocabulary.encoder[vocabulary.cache[whole]],)
    pieces: list[str] = [*whole[:-1], f"{whole[-1]}</w>"]
    after = list(range(1, len(pieces) + 1))  # place of the next piece
    before = list(range(-1, len(pieces) - 1))
    ranks = vocabulary.bpe_ranks
    heap = [(ranks[pair], at, *pair) for at, pair in enumerate(zip(pieces, pieces[1:])) if pair in ranks]  # noqa: B905
    heapq.heapify(heap)
    while heap:
        _, at, first, second = heapq.heappop(heap)
        following = after[at]
        if pieces[at] != first or following == len(pieces) or pieces[following] != second:
            continue  # one of the two was merged with another piece
        pieces[at] = first + second
        pieces[following] = ""
        after[at] = after[following]
        if after[at] < len(pieces):
            before[after[at]] = at
        for left, right in ((before[at], at), (at, after[at])):
            if left >= 0 and right < len(pieces):
                pair = pieces[left], pieces[right]
                if pair in ranks:
                    heapq.heappush(heap, (ranks[pair], left, *pair))
    return tuple(vocabulary.encoder[piece] for piece in pieces if piece)
