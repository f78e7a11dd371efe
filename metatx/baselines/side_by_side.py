"""Classical models of several inputs: on all of them side by side, on one alone, and the mean of those."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin

__all__ = ["InputAlone", "MeanOfInputs", "SideBySide", "WordComponents", "blocks_of", "grouped"]

WIDEST = 200  # numbers of an input; of more the principal components are taken
COMPONENTS = 64  # components of wide inputs and of words that decision trees read
VARIANCE = 100.0  # total variance of each kind of input, that of 100 scaled numbers
TINY = 1e-12  # least variance, so that constant inputs stay finite


def blocks_of(frame: pd.DataFrame) -> dict[str, list[str]]:
    """Columns of each input; they are named ``"input.feature"``, and an input's name has no dot."""
    blocks: dict[str, list[str]] = {}
    for column in frame.columns:
        blocks.setdefault(column.partition(".")[0], []).append(column)
    return blocks


def grouped(frame: pd.DataFrame) -> tuple[list[str], list[str], list[str]]:
    """Columns of numbers, of categories, and of words."""
    numbers: list[str] = []
    categories: list[str] = []
    words: list[str] = []
    for column, dtype in frame.dtypes.items():
        if isinstance(dtype, pd.CategoricalDtype):
            categories.append(str(column))
        else:
            (words if isinstance(dtype, pd.StringDtype) else numbers).append(str(column))
    return numbers, categories, words


class SideBySide(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Features of all inputs side by side, for a linear model; each kind of input has the same total variance.

    Without that, an input of many numbers, such as an image's histograms, would drown one of few (block scaling,
    Westerhuis et al. 1998). Numbers are filled and scaled, categories become indicators, words TF-IDF weights. Where an
    input is missing, numbers are the mean of the samples that have it, and there is no word.

    Args:
        owners: Kind of each input by its name: inputs of one kind, such as four photos, share its variance.
        dense: Give components of words in place of their weights, for models that take no sparse features.
    """

    def __init__(self, owners: Mapping[str, str], dense: bool = False) -> None:
        self.owners = owners
        self.dense = dense

    def fit(self, frame: pd.DataFrame, answers: Any = None) -> Self:
        """Learn from features whose columns ``blocks_of`` groups."""
        blocks = blocks_of(frame)
        parts = {name: _linear_part(frame[columns], self.dense) for name, columns in blocks.items()}
        variances: dict[str, float] = {}
        for name, part in parts.items():
            owner = self.owners[name]
            variances[owner] = variances.get(owner, 0.0) + _variance(part.fit_transform(frame[blocks[name]]))
        scales = {owner: np.sqrt(VARIANCE / max(total, TINY)) for owner, total in variances.items()}
        self.parts_ = [(blocks[name], part, scales[self.owners[name]]) for name, part in parts.items()]
        return self

    def transform(self, frame: pd.DataFrame) -> Any:
        """Features (N, F), sparse where there are words."""
        from scipy import sparse

        blocks = [part.transform(frame[columns]) * scale for columns, part, scale in self.parts_]
        if any(sparse.issparse(block) for block in blocks):
            return sparse.hstack(blocks, format="csr")
        return np.hstack(blocks)


class WordComponents(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Components of TF-IDF weights of words and of pairs of neighbouring words; the weights where they are few.

    Args:
        components: Number of components.
    """

    def __init__(self, components: int = COMPONENTS) -> None:
        self.components = components

    def fit(self, texts: Any, answers: Any = None) -> Self:
        """Learn from texts (N,)."""
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.weights_ = TfidfVectorizer(ngram_range=(1, 2))
        weights = self.weights_.fit_transform(texts)
        wide = min(weights.shape) > self.components
        self.components_ = TruncatedSVD(self.components, random_state=0).fit(weights) if wide else None
        return self

    def transform(self, texts: Any) -> np.ndarray:
        """Components (N, C), or the weights."""
        weights = self.weights_.transform(texts)
        vectors: np.ndarray = weights.toarray() if self.components_ is None else self.components_.transform(weights)
        return vectors


class ForTrees(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Features of all inputs side by side, for decision trees: few numbers, categories, and components of words."""

    def fit(self, frame: pd.DataFrame, answers: Any = None) -> Self:
        """Learn from features whose columns ``blocks_of`` groups."""
        self.parts_ = []
        for columns in blocks_of(frame).values():
            numbers, _, words = grouped(frame[columns])
            if len(numbers) > COMPONENTS:
                self.parts_.append((numbers, _components(numbers, frame, COMPONENTS).fit(frame[numbers])))
            self.parts_ += [([word], WordComponents().fit(frame[word])) for word in words]
        self.replaced_ = {column for columns, _ in self.parts_ for column in columns}
        return self

    def transform(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Features, a row a sample."""
        kept = [frame[[column for column in frame.columns if column not in self.replaced_]]]
        for columns, part in self.parts_:
            values = part.transform(frame[columns[0]] if len(columns) == 1 else frame[columns])
            names = [f"{columns[0]}, component {i + 1}" for i in range(values.shape[1])]
            kept.append(pd.DataFrame(values, columns=names, index=frame.index))
        return pd.concat(kept, axis=1)


class InputAlone:
    """Model of one input of several, fitted to the samples that have it.

    Args:
        model: Model with the interface of scikit-learn's estimators, on the features of the input.
        name: Name of the input.
    """

    def __init__(self, model: Any, name: str) -> None:
        self.model = model
        self.name = name

    def fit(self, frame: pd.DataFrame, answers: Any) -> Self:
        """Learn from features whose columns ``blocks_of`` groups."""
        self.columns = blocks_of(frame)[self.name]
        there = self.present(frame)
        # Answers may differ in shape.
        kept = answers[there] if isinstance(answers, np.ndarray) else [answers[at] for at in np.flatnonzero(there)]
        self.model.fit(self._features(frame[there]), kept)
        return self

    def present(self, frame: pd.DataFrame) -> np.ndarray:
        """Flags (N,) of the samples that have the input."""
        columns = frame[self.columns]
        return (columns.notna() & (columns != "")).any(axis=1).to_numpy()

    def _features(self, frame: pd.DataFrame) -> Any:
        features = frame[self.columns]
        return features[self.columns[0]].tolist() if grouped(features)[2] else features

    @property
    def classes_(self) -> np.ndarray:
        """Classes of the model."""
        classes: np.ndarray = self.model.classes_
        return classes

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        """Predictions of the model; for a sample without the input, those of an average one."""
        return np.asarray(self.model.predict(self._features(frame)))

    def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
        """Probabilities of the model; for a sample without the input, those of an average one."""
        return np.asarray(self.model.predict_proba(self._features(frame)))

    def transform(self, frame: pd.DataFrame) -> np.ndarray:
        """Vectors of the model."""
        return np.asarray(self.model.transform(self._features(frame)))


class MeanOfInputs:
    """Mean of the probabilities, or the predictions, of a model for each input, over the inputs that a sample has.

    Args:
        models: Model of each input by its name.
    """

    def __init__(self, models: Mapping[str, Any]) -> None:
        self.parts = [InputAlone(model, name) for name, model in models.items()]

    def fit(self, frame: pd.DataFrame, answers: Any) -> Self:
        """Fit the model of each input."""
        for part in self.parts:
            part.fit(frame, answers)
        if hasattr(self.parts[0].model, "classes_"):
            self.classes_ = np.unique(np.concatenate([part.classes_ for part in self.parts]))
        return self

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        """Mean prediction (N, ...)."""
        return self._mean(frame, [part.predict(frame) for part in self.parts])

    def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
        """Mean probabilities (N, K), in the order of ``classes_``."""
        shares = []
        for part in self.parts:
            of_part = part.predict_proba(frame)
            if of_part.shape[1] < len(self.classes_):  # a class of which no sample has this input
                whole = np.zeros((len(of_part), len(self.classes_)))
                whole[:, np.searchsorted(self.classes_, part.classes_)] = of_part
                of_part = whole
            shares.append(of_part)
        return self._mean(frame, shares)

    def _mean(self, frame: pd.DataFrame, values: list[np.ndarray]) -> np.ndarray:
        stacked = np.stack(values)
        weights = np.stack([part.present(frame) for part in self.parts]).astype(float)
        weights = weights.reshape(weights.shape + (1,) * (stacked.ndim - 2))
        mean: np.ndarray = (stacked * weights).sum(0) / weights.sum(0)
        return mean


def _linear_part(frame: pd.DataFrame, dense: bool) -> Any:
    """Preparation of one input for a linear model."""
    from sklearn.compose import make_column_transformer
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers, categories, words = grouped(frame)
    filled = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler())
    wide = len(numbers) > WIDEST
    return make_column_transformer(
        (_components(numbers, frame, WIDEST) if wide else filled, numbers),
        (OneHotEncoder(handle_unknown="ignore"), categories),
        *((WordComponents() if dense else TfidfVectorizer(ngram_range=(1, 2)), word) for word in words),
    )


def _components(numbers: list[str], frame: pd.DataFrame, count: int) -> Any:
    """Principal components of numbers that are filled and scaled."""
    from sklearn.decomposition import PCA
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    most = min(count, len(frame), len(numbers))
    return make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler(), PCA(most, random_state=0))


def _variance(features: Any) -> float:
    """Sum of the variances of the columns, of a sparse or dense matrix."""
    squares = features.multiply(features) if hasattr(features, "multiply") else features**2
    mean = np.asarray(features.mean(axis=0)).ravel()
    return float((np.asarray(squares.mean(axis=0)).ravel() - mean**2).sum())
