"""The trivial and the classical baseline, on the same split and by the same metrics as the task."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from metatx.examples import Examples

if TYPE_CHECKING:
    from metatx.head import Head
    from metatx.tokenizer import Tokenizer

__all__ = ["baselines"]


def baselines(
    tokenizer: "Tokenizer", head: "Head", train: Examples, test: Examples
) -> dict[str, dict[str, dict[str, float]]]:
    """Fit both on ``train``, measure them on ``test``.

    Returns:
        ``{"trivial": {name: metrics}, "classical": {name: metrics}}``; without "classical" where the head has none.
    """
    import torch

    chosen = {"trivial": head.trivial(), "classical": head.classical(tokenizer.classical)}
    features = _features([tokenizer.describe(sample) for sample in train.inputs])
    unseen = _features([tokenizer.describe(sample) for sample in test.inputs], like=features)
    answers = np.stack([head.encode(target).numpy() for target in train.targets or ()])
    truth = torch.stack([head.encode(target) for target in test.targets or ()])
    results = {}
    for role, entry in chosen.items():
        if entry is None:
            continue
        name, estimator = entry
        if role == "classical" and tokenizer.classical == "linear":
            estimator = _scaled(estimator, features)
        estimator.fit(features, answers)
        scored = head.scored(head.estimate(estimator, unseen), truth)
        metrics = head.metrics()
        for metric in metrics.values():
            metric.update(*scored)
        results[role] = {name: {key: metric.compute().item() for key, metric in metrics.items()}}
    return results


def _features(rows: Sequence[Any], like: Any = None) -> Any:
    """Descriptions as one array (B, F) or one DataFrame, whose words are categories (those of ``like``)."""
    if not isinstance(rows[0], dict):
        return np.stack(rows)
    import pandas as pd

    frame = pd.DataFrame(rows)
    for name in frame.columns:
        if like is not None:
            frame[name] = frame[name].astype(like[name].dtype)
        elif not pd.api.types.is_numeric_dtype(frame[name]):
            frame[name] = frame[name].astype("category")
    return frame


def _scaled(estimator: Any, features: Any) -> Any:
    """A linear model behind what it needs: missing values filled, numbers scaled, categories as indicators."""
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    if isinstance(features, np.ndarray):
        return make_pipeline(numbers, estimator)
    words = OneHotEncoder(handle_unknown="ignore")
    columns = make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")), (words, make_column_selector(dtype_include="category"))
    )
    return make_pipeline(columns, estimator)
