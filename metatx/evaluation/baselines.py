"""Trivial and classical baselines, fitted on the same split as the task and measured with the same metrics."""

import copy
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from metatx.encoding.collate import stacked
from metatx.evaluation.fused_baselines import classical_of_inputs, frame_of, of_main
from metatx.examples import Examples
from metatx.head import Head
from metatx.inputs.inputs import Inputs
from metatx.metrics.evaluator import Measures, rank
from metatx.progress import bar, tell
from metatx.tokenizer import Tokenizer

MANY = 50_000  # samples beyond which fitting takes a while, so that a message says it
FEW = 10_000  # samples below which threads wait for one another longer than they compute, so that one does it all
PART = 1 << 16  # samples whose features are dicts at the same time
AT_ONCE = 8  # dense answers that are measured together; each is as large as its sample

__all__ = ["baselines"]


def baselines(
    tokenizer: Tokenizer, head: Head, train: Examples, test: Examples
) -> dict[str, dict[str, dict[str, float]]]:
    """Fit all baselines of a head on ``train`` and measure them on ``test``; a message names each that fails.

    Args:
        tokenizer, head: Tokenizer and head of the task.
        train, test: Splits, not empty.

    Returns:
        ``{"trivial": {name: metrics}, "classical": {name: metrics, ...}}``. The best classical one comes first, and
        those that failed come last, without metrics. "classical" is missing where the head has none. Of several inputs
        there are classical ones on all of them, on each alone, and the mean of those; one input has those of its
        modality.
    """
    from threadpoolctl import threadpool_limits

    head = copy.deepcopy(head).cpu()  # estimators run on the CPU
    try:
        if isinstance(tokenizer, Inputs) and (head.per_token or len(tokenizer.inputs) == 1):
            train = of_main(tokenizer, train)
            test = of_main(tokenizer, test)
            tokenizer = tokenizer.tokenizer(tokenizer.main)
        if isinstance(tokenizer, Inputs):
            classical = classical_of_inputs(head, tokenizer, len(test))
        else:
            classical = head.classical(tokenizer.classical, len(test))
        chosen = {"trivial": dict([head.trivial()]), "classical": classical}
        bench = Bench(tokenizer, head, train, test)
        higher = bool(head.metrics()[head.primary_metric].higher_is_better)
    except Exception as error:  # a plug-in's parts may raise anything
        tell(f"There are no baselines beside this run: {_reason(error)}.")
        return {}
    results = {}
    for role, estimators in chosen.items():
        with threadpool_limits(1 if len(train) < FEW else None):
            measured = {name: bench.measured(name, estimator) for name, estimator in estimators.items()}
        if measured:
            best_first = sorted(measured.items(), key=lambda item: rank(item[1].get(head.primary_metric), higher))
            results[role] = dict(best_first)
    return results


class Bench:
    """Bench that fits and measures estimators on the same splits.

    Args:
        tokenizer, head: Tokenizer and head of the task.
        train, test: Splits, not empty.
    """

    def __init__(self, tokenizer: Tokenizer, head: Head, train: Examples, test: Examples) -> None:
        import torch

        self.head = head
        self.features: Any = Described(head, tokenizer, train.inputs)
        self.unseen: Any = Described(head, tokenizer, test.inputs)
        if not head.dense:
            table = frame_of if isinstance(tokenizer, Inputs) else _features
            self.features = table(bar(self.features, "reading for the baselines"))
            self.unseen = table(bar(self.unseen, "reading for the baselines"), like=self.features)
        self.truth = _encoded(head, test)
        answers = _encoded(head, train)
        self.answers = answers.numpy() if isinstance(answers, torch.Tensor) else [target.numpy() for target in answers]

    def measured(self, name: str, estimator: Any) -> dict[str, float]:
        """Fit an estimator and return its metrics; none, with a message, if it fails."""
        if len(self.answers) > MANY:
            tell(f"Fitting the baseline: {name}, on {len(self.answers):,} samples.")
        from sklearn.exceptions import ConvergenceWarning

        try:
            with warnings.catch_warnings(record=True) as raised:
                estimator.fit(self.features, self.answers)
            if any(issubclass(each.category, ConvergenceWarning) for each in raised):
                tell(f"The baseline {name} stopped at its most steps before it converged.")
            measures = Measures(self.head)
            count = len(self.truth)
            size = AT_ONCE if self.head.dense else count
            for start in range(0, count, size):
                part = slice(start, start + size)
                features = self.unseen[part] if self.head.dense else self.unseen
                measures.add(self.head.baseline_predict(estimator, features), self.truth[part])
            return measures.values()
        except Exception as error:  # an estimator, or a plug-in's head, may raise anything
            tell(f"The baseline {name} failed, the run goes on without it: {_reason(error)}.")
            return {}


def _encoded(head: Head, examples: Examples) -> Any:
    """Targets as the head encodes them: a tensor (N, ...), or a list of N where shapes differ."""
    import torch

    targets = () if examples.targets is None else examples.targets
    parts = [stacked([head.encode(target) for target in part]) for part in _parts(targets)]
    tensors = [part for part in parts if isinstance(part, torch.Tensor)]
    if len(tensors) == len(parts) and len({tensor.shape[1:] for tensor in tensors}) == 1:
        return torch.cat(tensors)
    return [target for part in parts for target in part]


def _parts(items: Iterable[Any]) -> Iterator[list[Any]]:
    """Items in lists of ``PART``."""
    remaining = iter(items)
    while part := list(islice(remaining, PART)):
        yield part


def _reason(error: Exception) -> str:
    """Class and message of an error in one line."""
    said = str(error).strip().splitlines() or ["it says no more"]
    return f"{type(error).__name__}, {said[0][:200].rstrip('.')}"


class Described(Sequence[Any]):
    """Baseline features of samples, computed when they are read: the pixels of all images would fill the memory.

    Args:
        head, tokenizer: Head and tokenizer of the task.
        samples: Raw samples.
    """

    def __init__(self, head: Head, tokenizer: Tokenizer, samples: Sequence[Any]) -> None:
        self.head = head
        self.tokenizer = tokenizer
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        return self.head.baseline_features(self.tokenizer, self.samples[at])


def _features(rows: Iterable[Any], like: Any = None) -> Any:
    """Baseline features as a DataFrame, arrays of several axes as one array, texts as a list.

    Words become categories; those of ``like`` where it is given.
    """
    import pandas as pd

    parts = [_part(part) for part in _parts(rows)]
    if isinstance(parts[0], list):
        return [text for part in parts for text in part]
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    # A column may hold words in some parts, and nothing in others.
    frame = pd.concat(parts, ignore_index=True).infer_objects() if len(parts) > 1 else parts[0]
    frame.columns = [str(name) for name in frame.columns]
    for name in frame.columns:
        if like is not None:
            dtype = like[name].dtype
            if isinstance(dtype, pd.CategoricalDtype):
                frame[name] = frame[name].where(frame[name].isin(dtype.categories))
            frame[name] = frame[name].astype(dtype)
        elif not pd.api.types.is_numeric_dtype(frame[name]):
            frame[name] = frame[name].astype("category")
    return frame


def _part(rows: list[Any]) -> Any:
    """Features of some samples: a DataFrame, an array, or the texts themselves."""
    import pandas as pd

    if isinstance(rows[0], str):
        return rows
    if isinstance(rows[0], dict):
        return pd.DataFrame(rows)
    stacked_rows = np.stack(rows)
    return stacked_rows if rows[0].ndim > 1 else pd.DataFrame(stacked_rows)
