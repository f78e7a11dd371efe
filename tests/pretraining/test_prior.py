"""Priors: tasks that a seed decides, whose samples the tokenizers take, and which are neither empty nor trivial."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from metatx.encoding.head_choice import build_tokenizer
from metatx.pretraining.prior import draw, prior_names
from metatx.registry import names

NAMES = prior_names()


def test_priors_are_of_modalities_that_there_are() -> None:
    assert set(NAMES) <= set(names("tokenizers")) and len(NAMES) >= 7


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 2**31), size=st.integers(2, 12))
def test_a_seed_decides_a_task_and_each_has_its_own(name, seed, size) -> None:
    first, again, other = draw(name, seed, size), draw(name, seed, size), draw(name, seed + 1, size)
    assert repr(first) == repr(again) and repr(first) != repr(other)
    samples, targets = first
    assert len(samples) == len(targets) == size
    assert all(isinstance(target, str) for target in targets) or np.isfinite(targets).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_tokenizers_take_the_samples_and_classes_are_balanced(nano, name, seed) -> None:
    samples, targets = draw(name, seed, 40)
    tokenizer = build_tokenizer(name, nano, {})
    tokenizer.learn(samples)
    for sample in samples:
        assert all(tensor.isfinite().all() for key, tensor in tokenizer.encode(sample).items() if key != "numbers")
    if isinstance(targets[0], str):
        shares = np.unique(targets, return_counts=True)[1] / 40
        assert len(shares) > 1 and shares.min() > 0.4 / len(shares)
    else:
        assert np.std(targets) > 0.01


@pytest.mark.parametrize("name", NAMES)
def test_a_linear_model_finds_something_but_not_all(nano, name) -> None:
    """Classes can be told from features, and not all by a linear model: means over three tasks."""
    gained = []
    classified = (
        drawn for drawn in (draw(name, seed, 90) for seed in itertools.count()) if isinstance(drawn[1][0], str)
    )
    for samples, targets in itertools.islice(classified, 3):
        tokenizer = build_tokenizer(name, nano, {})
        tokenizer.learn(samples)
        found = [tokenizer.baseline_features(sample) for sample in samples]
        if isinstance(found[0], str):
            features = TfidfVectorizer().fit_transform(found).toarray()
        elif isinstance(found[0], dict):
            features = pd.get_dummies(pd.DataFrame(found)).astype(float).fillna(0).values
        else:
            features = np.stack(found)
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1)).fit(features[:60], targets[:60])
        trivial = max(np.mean(np.array(targets[60:]) == name) for name in set(targets))
        gained.append((model.score(features[60:], targets[60:]) - trivial) / (1 - trivial))
    assert 0.02 < np.mean(gained) < 0.97


@pytest.mark.parametrize(("name", "seed", "size"), [("tables", 0, 9), ("tabular", -1, 9), ("tabular", 0, 1)])
def test_what_cannot_be_drawn_is_said(name, seed, size) -> None:
    with pytest.raises(ValueError, match="Unknown prior 'tables'|expected a seed of at least 0 and at least 2 samples"):
        draw(name, seed, size)
