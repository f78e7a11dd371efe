"""The trivial and the classical baselines, on the same split and by the same metrics as the task."""

import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from metatx.encoding.collate import collate
from metatx.examples import Examples
from metatx.metrics.evaluator import Measures, rank
from metatx.progress import bar, tell

if TYPE_CHECKING:
    from metatx.head import Head
    from metatx.tokenizer import Tokenizer

MANY = 50_000  # samples that take an estimator a while
AT_ONCE = 8  # dense answers, each as large as its sample, that are measured together

__all__ = ["baselines", "scaled", "worded"]


def baselines(
    tokenizer: "Tokenizer", head: "Head", train: Examples, test: Examples
) -> dict[str, dict[str, dict[str, float]]]:
    """Fit all on ``train``, measure them on ``test``. One that fails costs a line to the user, nothing else.

    Returns:
        ``{"trivial": {name: metrics}, "classical": {name: metrics, ...}}``, the best classical one first, those that
        failed last, without metrics; without "classical" where the head has none.
    """
    head = copy.deepcopy(head).cpu()  # where the estimators are
    try:
        chosen = {"trivial": dict([head.trivial()]), "classical": head.classical(tokenizer.classical, len(test))}
        bench = Bench(tokenizer, head, train, test)
        higher = bool(head.metrics()[head.primary_metric].higher_is_better)
    except Exception as error:  # whatever a plug-in's parts raise
        tell(f"There are no baselines beside this run: {_reason(error)}.")
        return {}
    results = {}
    for role, estimators in chosen.items():
        found = {name: bench.measured(name, estimator) for name, estimator in estimators.items()}
        if found:
            best_first = sorted(found.items(), key=lambda item: rank(item[1].get(head.primary_metric), higher))
            results[role] = dict(best_first)
    return results


class Bench:
    """Where the baselines are fitted and measured: both splits as they read them, and the true answers.

    Args:
        tokenizer, head: Of the task.
        train, test: The splits.
    """

    def __init__(self, tokenizer: "Tokenizer", head: "Head", train: Examples, test: Examples) -> None:
        import torch

        self.head = head
        self.features: Any = Described(head, tokenizer, train.inputs)
        self.unseen: Any = Described(head, tokenizer, test.inputs)
        if not head.dense:
            self.features = _features(list(bar(self.features, "reading for the baselines")))
            self.unseen = _features(list(bar(self.unseen, "reading for the baselines")), like=self.features)
        answers, self.truth = (
            collate([{"target": head.encode(target)} for target in _targets(part)])["target"] for part in (train, test)
        )
        self.answers = answers.numpy() if isinstance(answers, torch.Tensor) else [target.numpy() for target in answers]

    def measured(self, name: str, estimator: Any) -> dict[str, float]:
        """Metrics of an estimator; none where it fails, which is told."""
        if len(self.answers) > MANY:
            tell(f"Fitting the baseline: {name}, on {len(self.answers):,} samples.")
        try:
            estimator.fit(self.features, self.answers)
            measures, count = Measures(self.head), len(self.truth)
            size = AT_ONCE if self.head.dense else count
            for start in range(0, count, size):
                part = slice(start, start + size)
                known = self.unseen[part] if self.head.dense else self.unseen
                measures.add(self.head.baseline_predict(estimator, known), self.truth[part])
            return measures.values()
        except Exception as error:  # whatever an estimator, or a plug-in's head, makes of its data
            tell(f"The baseline {name} failed, the run goes on without it: {_reason(error)}.")
            return {}


def _targets(examples: Examples) -> Sequence[Any]:
    return () if examples.targets is None else examples.targets


def _reason(error: Exception) -> str:
    """What an error says, in one line."""
    said = str(error).strip().splitlines() or ["it says no more"]
    return f"{type(error).__name__}, {said[0][:200].rstrip('.')}"


class Described(Sequence[Any]):
    """Samples as the baselines read them, when they are asked for: all pixels of all pictures would fill the memory."""

    def __init__(self, head: "Head", tokenizer: "Tokenizer", samples: Sequence[Any]) -> None:
        self.head, self.tokenizer, self.samples = head, tokenizer, samples

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        return self.head.baseline_features(self.tokenizer, self.samples[at])


def scaled(estimator: Any) -> Any:
    """A linear model behind what it needs: missing values filled, numbers scaled, categories as indicators."""
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler())
    columns = make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_include="category")),
    )
    return make_pipeline(columns, estimator)


def worded(estimator: Any) -> Any:
    """A linear model behind TF-IDF weights of words and of pairs of neighbouring words."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline

    return make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), estimator)


def _features(rows: Sequence[Any], like: Any = None) -> Any:
    """Descriptions as a DataFrame, whose words are categories (those of ``like``); arrays of more axes stacked.

    Texts stay a list.
    """
    import pandas as pd

    if isinstance(rows[0], str):
        return rows
    if not isinstance(rows[0], dict) and rows[0].ndim > 1:
        return np.stack(rows)
    frame = pd.DataFrame(rows if isinstance(rows[0], dict) else np.stack(rows))
    frame.columns = [str(name) for name in frame.columns]
    for name in frame.columns:
        if like is not None:
            known = like[name].dtype
            if isinstance(known, pd.CategoricalDtype):
                frame[name] = frame[name].where(frame[name].isin(known.categories))
            frame[name] = frame[name].astype(known)
        elif not pd.api.types.is_numeric_dtype(frame[name]):
            frame[name] = frame[name].astype("category")
    return frame
