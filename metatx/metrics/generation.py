"""Measures of written answers: CIDEr-D, BLEU-4, ROUGE-L, exact match, blank ones, nats a token."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.text import BLEUScore
from torchmetrics.text.rouge import ROUGEScore

__all__ = ["Blank", "Bleu", "Cider", "ExactMatch", "Nats", "RougeL", "Written", "cider", "words_of"]

WORD = re.compile(r"[^\W_]+(?:['’.-][^\W_]+)*")  # letters and digits, also with one sign within
LONGEST = 4  # words of the longest n-grams
SIGMA = 6.0  # words by which lengths may differ, of CIDEr-D

Grams = Counter[tuple[str, ...]]


class Written(NamedTuple):
    """Answer, and what the model thinks of the target.

    Attributes:
        text: Answer.
        nats: Cross-entropy of the target's tokens, summed.
        tokens: Number of the target's tokens.
    """

    text: str
    nats: float = math.nan
    tokens: float = math.nan


def words_of(text: str) -> list[str]:
    """Words of a text in lower case, without punctuation.

    >>> words_of("A tri-colored dog's ball .")
    ['a', 'tri-colored', "dog's", 'ball']
    """
    return WORD.findall(text.lower())


def cider(answers: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> list[float]:
    """CIDEr-D of each answer (Vedantam et al. 2015, arXiv 1411.5726), as coco-caption's code has it.

    Args:
        answers: Words of each answer.
        references: Words of each text of its target. How rare an n-gram is is counted over all of these targets.
    """
    documents: Grams = Counter()
    for texts in references:
        documents.update({gram for text in texts for gram in _grams(text)})
    size = math.log(len(references))
    scores = []
    for answer, texts in zip(answers, references, strict=True):
        own = _weighted(answer, documents, size)
        scores.append(10 * sum(_alike(own, _weighted(text, documents, size)) for text in texts) / len(texts))
    return scores


class _Vector(NamedTuple):
    """Weights of the n-grams of a text, by n, their norms, and the number of its pairs of words."""

    weights: list[dict[tuple[str, ...], float]]
    norms: list[float]
    pairs: int


def _grams(words: Sequence[str]) -> Grams:
    sizes = range(1, LONGEST + 1)
    return Counter(tuple(words[at : at + n]) for n in sizes for at in range(len(words) - n + 1))


def _weighted(words: Sequence[str], documents: Grams, size: float) -> _Vector:
    weights: list[dict[tuple[str, ...], float]] = [{} for _ in range(LONGEST)]
    for gram, count in _grams(words).items():
        weights[len(gram) - 1][gram] = count * (size - math.log(max(1, documents[gram])))
    norms = [math.sqrt(sum(weight**2 for weight in of_size.values())) for of_size in weights]
    return _Vector(weights, norms, max(0, len(words) - 1))


def _alike(answer: _Vector, text: _Vector) -> float:
    total = 0.0
    for own, own_norm, other, other_norm in zip(*answer[:2], *text[:2], strict=True):
        if own_norm and other_norm:
            shared = sum(min(weight, other.get(gram, 0.0)) * other.get(gram, 0.0) for gram, weight in own.items())
            total += shared / (own_norm * other_norm)
    return total / LONGEST * math.exp(-((answer.pairs - text.pairs) ** 2) / (2 * SIGMA**2))


class Bleu(BLEUScore):
    """BLEU-4 of all answers together (Papineni et al. 2002), without smoothing."""

    def __init__(self) -> None:
        super().__init__(n_gram=LONGEST)

    def update(  # type: ignore[override]
        self, written: Sequence[Written], references: Sequence[Sequence[str]]
    ) -> None:
        """Add answers and the texts of their targets."""
        answers = [" ".join(words_of(each.text)) for each in written]
        # Of two texts whose lengths differ as much from the answer's, coco-caption's code takes the shorter.
        texts = [sorted((" ".join(words_of(text)) for text in each), key=_length) for each in references]
        super().update(answers, texts)


def _length(text: str) -> int:
    return len(text.split())


class RougeL(ROUGEScore):
    """F1 of the longest common subsequence of words (ROUGE-L, Lin 2004) with the nearest text, mean of the answers."""

    def __init__(self) -> None:
        super().__init__(rouge_keys="rougeL", accumulate="best", normalizer=_same, tokenizer=words_of)

    def update(  # type: ignore[override]
        self, written: Sequence[Written], references: Sequence[Sequence[str]]
    ) -> None:
        """Add answers and the texts of their targets."""
        super().update([each.text for each in written], [list(texts) for texts in references])

    def compute(self) -> Tensor:  # type: ignore[override]
        """Mean F1."""
        return super().compute()["rougeL_fmeasure"]


def _same(text: str) -> str:
    return text


class Cider(Metric):
    """CIDEr-D, mean of the answers, see ``cider``; the targets of at least two samples say which words are rare."""

    higher_is_better = True
    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("rows", [], dist_reduce_fx=None)
        self.rows: list[Any]

    def update(self, written: Sequence[Written], references: Sequence[Sequence[str]]) -> None:
        """Add answers and the texts of their targets."""
        for each, texts in zip(written, references, strict=True):
            self.rows.append((words_of(each.text), [words_of(text) for text in texts]))

    def compute(self) -> Tensor:
        """Mean score; 10 is the highest. Raises ValueError for fewer than two samples."""
        if len(self.rows) < 2:
            raise ValueError("it takes two samples or more")
        scores = cider(*zip(*self.rows, strict=True))
        return torch.tensor(sum(scores) / len(scores))


class Share(Metric):
    """Share of the answers of which something holds."""

    full_state_update = False
    right: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("right", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def holds(self, text: str, references: Sequence[str]) -> bool:
        """Return True for an answer that counts, given the texts of its target."""
        raise NotImplementedError

    def update(self, written: Sequence[Written], references: Sequence[Sequence[str]]) -> None:
        """Add answers and the texts of their targets."""
        self.right += sum(self.holds(each.text, texts) for each, texts in zip(written, references, strict=True))
        self.count += len(written)

    def compute(self) -> Tensor:
        """Share of the answers."""
        return self.right / self.count


class ExactMatch(Share):
    """Share of the answers that have the words of a text of their target, in lower case and without punctuation."""

    higher_is_better = True

    def holds(self, text: str, references: Sequence[str]) -> bool:
        """Return True if the words are equal."""
        return words_of(text) in [words_of(each) for each in references]


class Blank(Share):
    """Share of the answers in which nothing is written, or none is found in what is written."""

    higher_is_better = False

    def holds(self, text: str, references: Sequence[str]) -> bool:
        """Return True if the answer is blank."""
        return not text.strip()


class Nats(Metric):
    """Cross-entropy of the targets, in nats a token; NaN where the model gives none.

    Args:
        exponential: Give the perplexity, exp of it.
    """

    higher_is_better = False
    full_state_update = False
    nats: Tensor
    tokens: Tensor

    def __init__(self, exponential: bool = False) -> None:
        super().__init__()
        self.exponential = exponential
        self.add_state("nats", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("tokens", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, written: Sequence[Written], references: Sequence[Sequence[str]]) -> None:
        """Add answers and the texts of their targets."""
        self.nats += sum(each.nats for each in written)
        self.tokens += sum(each.tokens for each in written)

    def compute(self) -> Tensor:
        """Nats a token, or perplexity."""
        mean = self.nats / self.tokens
        return mean.exp() if self.exponential else mean
