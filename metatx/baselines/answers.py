"""Baselines of written answers: the same for all samples, and that of the nearest sample."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.neighbors import NearestNeighbors

from metatx.metrics.generation import LONGEST, cider, words_of

__all__ = ["ConstantAnswer", "NearestAnswer"]

CANDIDATES = 16  # answers whose CIDEr-D is computed
SAMPLES = 200  # targets that it is computed on, evenly spaced

Texts = Callable[[Any], Sequence[str]]


class ConstantAnswer:
    """Estimator that gives the training answer with the best mean CIDEr-D to the targets of the training split.

    Of all answers those are tried that share most n-grams, weighted by TF-IDF, with the mean of all.

    Args:
        texts: Function from an encoded target to its texts.
    """

    def __init__(self, texts: Texts) -> None:
        self.texts = texts

    def fit(self, features: Any, answers: Sequence[Any]) -> Self:
        """Choose among the texts of encoded targets; features are not read."""
        targets = [list(self.texts(answer)) for answer in answers]
        every = [text for texts in targets for text in texts]
        distinct = list(dict.fromkeys(every))
        nearest = np.argsort(-_nearness(distinct, every), kind="stable")[:CANDIDATES]
        chosen = np.unique(np.linspace(0, len(targets) - 1, min(SAMPLES, len(targets))).round().astype(int))
        references = [[words_of(text) for text in targets[at]] for at in chosen]
        scores = [sum(cider([words_of(distinct[at])] * len(references), references)) for at in nearest]
        self.answer_ = distinct[nearest[int(np.argmax(scores))]]
        return self

    def predict(self, features: Any) -> np.ndarray:
        """The answer, for each of N samples, an array of texts."""
        return np.full(len(features), self.answer_, dtype=object)


class NearestAnswer(BaseEstimator):  # type: ignore[misc]
    """Estimator that gives the first text of the target of the nearest training sample.

    Args:
        texts: Function from an encoded target to its texts.
    """

    def __init__(self, texts: Texts) -> None:
        self.texts = texts

    def fit(self, features: Any, answers: Sequence[Any]) -> Self:
        """Keep features (N, F) and the texts of encoded targets."""
        self.neighbours_ = NearestNeighbors(n_neighbors=1).fit(features)
        self.answers_ = np.array([self.texts(answer)[0] for answer in answers], dtype=object)
        return self

    def predict(self, features: Any) -> np.ndarray:
        """Text for each of the samples, an array of texts."""
        nearest: np.ndarray = self.answers_[self.neighbours_.kneighbors(features, return_distance=False)[:, 0]]
        return nearest


def _nearness(texts: Sequence[str], every: Sequence[str]) -> np.ndarray:
    """Mean cosine of each text's n-grams, weighted by TF-IDF, with those of all texts, summed over n."""
    total = np.zeros(len(texts))
    for size in range(1, LONGEST + 1):
        counter = CountVectorizer(analyzer="word", tokenizer=words_of, token_pattern=None, ngram_range=(size, size))
        try:
            counts = counter.fit_transform(every)
        except ValueError:  # no text has so many words
            break
        weights = TfidfTransformer().fit(counts)
        mean = np.asarray(weights.transform(counts).mean(axis=0)).ravel()
        total += weights.transform(counter.transform(texts)) @ mean
    return total
