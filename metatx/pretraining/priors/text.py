"""Texts in languages that do not exist: made-up words, which follow one another as the class says.

A language is a Markov chain over words, as in the simplest of the synthetic languages of Ri and Tsuruoka (2022, arXiv
2203.10326). The languages of a task have the same words, about equally often: their order tells them apart.
"""

import numpy as np

from metatx.pretraining.prior import Drawn, balanced, class_names

__all__ = ["draw"]

CLASSES = (2, 6)  # least and most, as all pairs here
WORDS = (30, 80)
LENGTH = (6, 24)  # words of a text
STARTS = ("", *"bdfgklmnprstvz", "br", "st", "tr", "pl", "sh", "ch")
VOWELS = ("a", "e", "i", "o", "u", "ai", "ou")
ENDS = ("", "", "", "n", "r", "s", "l", "m", "t")


def draw(seed: int, size: int) -> Drawn:
    """Draw texts of 6 to 24 words, and the language of each."""
    rng = np.random.default_rng(seed)
    classes = min(int(rng.integers(CLASSES[0], CLASSES[1] + 1)), size)
    words = _words(rng, int(rng.integers(WORDS[0], WORDS[1] + 1)))
    common = rng.dirichlet(np.full(len(words), 0.7))
    concentration = 10 ** rng.uniform(0.3, 1.3)
    chains = [_chain(rng, common, concentration) for _ in range(classes)]
    slips = rng.uniform(0, 0.3)  # share of words that follow no rule
    numbers = balanced(rng, size, classes)
    texts = []
    for number in numbers:
        at = int(rng.choice(len(words), p=common))
        path = [at]
        for _ in range(int(rng.integers(LENGTH[0], LENGTH[1] + 1)) - 1):
            shares = common if rng.random() < slips else chains[number][at]
            at = int(rng.choice(len(words), p=shares))
            path.append(at)
        texts.append(" ".join(words[place] for place in path).capitalize() + ".")
    return texts, class_names(numbers)


def _words(rng: np.random.Generator, count: int) -> list[str]:
    """Different words of one to three syllables."""
    words: dict[str, None] = {}
    while len(words) < count:
        syllables = int(rng.integers(1, 4))
        words["".join(str(rng.choice(part)) for part in (STARTS, VOWELS, ENDS) * syllables)] = None
    return list(words)


def _chain(rng: np.random.Generator, common: np.ndarray, concentration: float) -> np.ndarray:
    """Shares of the words that follow each word (words, words), whose mean is the words' frequency."""
    drawn = rng.gamma(np.maximum(concentration * common, 0.01), size=(len(common), len(common))) + 1e-9
    chain: np.ndarray = drawn / drawn.sum(1, keepdims=True)
    return chain
