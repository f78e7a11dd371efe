"""Baselines of tasks with several inputs: on all inputs, on each alone, and the mean of those."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from metatx.baselines.side_by_side import ForTrees, InputAlone, MeanOfInputs, SideBySide
from metatx.examples import Examples
from metatx.head import Head
from metatx.inputs.inputs import Inputs

__all__ = ["classical_of_inputs", "frame_of", "of_main"]


def classical_of_inputs(head: Head, tokenizer: Inputs, count: int) -> dict[str, Any]:
    """Classical baselines of a task with several inputs, by name.

    These are the head's linear model and its trees on all inputs side by side, the models of each input alone as a task
    of this input would have them, and the mean of what the linear ones answer.

    Args:
        head, tokenizer: Head and tokenizer of the task.
        count: Number of samples to predict.
    """
    models: dict[str, Any] = {}
    for name, model in head.classical("linear", count).items():
        bare = _bare(model)
        owners = {each: tokenizer.owner(each) for each in tokenizer.inputs}
        prepared = SideBySide(owners, dense=hasattr(bare, "transform"))
        models[f"all inputs, {name}"] = _chained(prepared, bare)
    for name, model in head.classical("boosting", count).items():
        if f"all inputs, {name}" not in models:
            models[f"all inputs, {name}"] = _chained(ForTrees(), _bare(model))
    linear: dict[str, Any] = {}
    for name in tokenizer.inputs:
        kind = tokenizer.tokenizer(name).classical
        kinds = ("words",) if kind == "words" else tuple(dict.fromkeys((kind, "linear")))
        for each in kinds:
            for title, model in head.classical(each, count).items():
                models.setdefault(f"{name} alone, {title}", InputAlone(model, name))
        linear |= {name: next(iter(head.classical(kinds[-1], count).values()), None)}
    # Words have no mean.
    if not head.continues and all(
        hasattr(_bare(model), "predict") or hasattr(_bare(model), "predict_proba") for model in linear.values()
    ):
        models["mean of the inputs alone, linear"] = MeanOfInputs(linear)
    return models


def _bare(model: Any) -> Any:
    """Model without the preparation of one input's features that stands before it in a pipeline."""
    from sklearn.pipeline import Pipeline

    return model[-1] if isinstance(model, Pipeline) else model


def _chained(prepared: Any, model: Any) -> Any:
    from sklearn.pipeline import make_pipeline

    return make_pipeline(prepared, model)


def frame_of(samples: Iterable[Mapping[str, Any]], like: Any = None) -> Any:
    """Baseline features of several inputs as a table with columns ``"input.feature"``.

    Numbers are NaN where an input is missing, words are empty.

    Args:
        samples: Features of each sample by input, see ``Inputs.baseline_features``.
        like: Table of the training split, whose columns and types it takes; None for that of the training split.
    """
    import pandas as pd

    rows = list(samples)
    names = list(dict.fromkeys(name for row in rows for name in row))
    frame = pd.concat([_block(name, [row.get(name) for row in rows]) for name in names], axis=1)
    if like is None:
        return frame
    frame = frame.reindex(columns=like.columns)
    for name, dtype in like.dtypes.items():
        if isinstance(dtype, pd.CategoricalDtype):
            frame[name] = frame[name].where(frame[name].isin(dtype.categories))
        frame[name] = (frame[name].fillna("") if isinstance(dtype, pd.StringDtype) else frame[name]).astype(dtype)
    return frame


def _block(name: str, values: Sequence[Any]) -> Any:
    """Columns of one input; None stands for a sample without it."""
    import pandas as pd

    first = next(value for value in values if value is not None)
    if isinstance(first, str):
        return pd.DataFrame({f"{name}.words": pd.array([value or "" for value in values], dtype="string")})
    if isinstance(first, Mapping):
        frame = pd.DataFrame([value or {} for value in values])
        frame.columns = [f"{name}.{column}" for column in frame.columns]
        for column in frame.columns:
            if not pd.api.types.is_numeric_dtype(frame[column]):
                frame[column] = frame[column].astype("category")
        return frame
    numbers = np.full((len(values), np.size(first)), np.nan)
    for at, value in enumerate(values):
        if value is not None:
            numbers[at] = np.ravel(value)
    return pd.DataFrame(numbers, columns=[f"{name}.{i}" for i in range(numbers.shape[1])])


def of_main(tokenizer: Inputs, examples: Examples) -> Examples:
    """Examples of the main input alone, which is what a head compares that labels places or steps."""
    values = [tokenizer.values(sample)[tokenizer.main] for sample in examples.inputs]
    return replace(examples, inputs=values)
