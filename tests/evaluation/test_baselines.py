"""Baselines: their features are the same, in however many parts they are put together."""

import numpy as np
import pandas as pd
import pytest

import metatx
from metatx.evaluation import baselines as evaluation
from metatx.evaluation.baselines import baselines


@pytest.mark.parametrize("head", ["classification", "regression"])
def test_parts_of_any_size_give_the_same_baselines(nano, monkeypatch, head):
    """Also where a column has words in some parts, and nothing in others."""
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"a": rng.normal(size=60), "b": rng.choice(["x", "y", "z"], 60), "c": ["k", "l"] * 30})
    rows.loc[:20, "b"] = None
    rows.loc[rows.index % 7 == 0, "a"] = np.nan
    rows["y"] = np.where(rows.a.fillna(0) + (rows.c == "k") > 0.4, 1, 0) if head == "classification" else rng.random(60)
    task = metatx.Task.from_data(nano, "tabular", rows, target="y", head=head)
    train, test = (task.examples(part, "train") for part in (rows[:45], rows[45:]))
    whole = baselines(task.tokenizer, task.head, train, test)
    monkeypatch.setattr(evaluation, "PART", 4)
    assert baselines(task.tokenizer, task.head, train, test) == whole
    assert set(whole) == {"trivial", "classical"} and all(all(each.values()) for each in whole.values())
