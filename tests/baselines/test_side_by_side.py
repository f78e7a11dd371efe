"""Classical models of several inputs: no input drowns another, and a missing one is left out."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline

from metatx.baselines.pipelines import scaled, worded
from metatx.baselines.side_by_side import ForTrees, InputAlone, MeanOfInputs, SideBySide

OWNERS = {"facts": "facts", "left": "left", "right": "left", "name": "name"}


@pytest.fixture
def frame():
    """Facts of two columns, two pictures of 300 numbers that share a tokenizer, and words."""
    rng = np.random.default_rng(0)
    pictures = rng.normal(size=(120, 600))
    columns = [f"{side}.{i}" for side in ("left", "right") for i in range(300)]
    frame = pd.DataFrame(pictures, columns=columns)
    frame.insert(0, "facts.size", rng.normal(size=120))
    frame.insert(1, "facts.colour", pd.Categorical(rng.choice(["red", "blue"], 120)))
    frame["name.words"] = pd.array(rng.choice(["a small fox", "one big bear"], 120), dtype="string")
    return frame


def test_each_kind_of_input_has_the_same_variance(frame):
    prepared = SideBySide(OWNERS, dense=True).fit(frame)
    parts = np.split(np.asarray(prepared.transform(frame)), [3, 123, 243], axis=1)
    facts, left, right, words = (part.var(axis=0).sum() for part in parts)
    assert facts == pytest.approx(100) and words == pytest.approx(100)
    assert left + right == pytest.approx(100) and left == pytest.approx(right, rel=0.2)


def test_many_numbers_do_not_drown_few(frame):
    answers = frame["facts.size"].to_numpy() + (frame["facts.colour"] == "red")
    model = make_pipeline(SideBySide(OWNERS), RidgeCV(np.logspace(-3, 3, 13))).fit(frame[:80], answers[:80])
    plain = RidgeCV(np.logspace(-3, 3, 13)).fit(frame.iloc[:80, 2:602].assign(size=frame["facts.size"]), answers[:80])
    ours = model.score(frame[80:], answers[80:])
    assert ours > 0.8
    assert ours > plain.score(frame.iloc[80:, 2:602].assign(size=frame["facts.size"]), answers[80:]) + 0.3


def test_missing_inputs_are_filled(frame):
    gaps = frame.copy()
    gaps.loc[:9, [column for column in gaps.columns if column.startswith("left.")]] = np.nan
    gaps.loc[:9, "name.words"] = ""
    gaps.loc[:9, "facts.colour"] = None
    for prepared in (SideBySide(OWNERS), SideBySide(OWNERS, dense=True)):
        result = prepared.fit(frame).transform(gaps)
        assert np.isfinite(result.toarray() if hasattr(result, "toarray") else result).all()
    few = ForTrees().fit(frame).transform(gaps)
    assert len(few.columns) < 150 and isinstance(few["facts.colour"].dtype, pd.CategoricalDtype)
    assert few.drop(columns="facts.colour").notna().all().all()


def test_a_model_of_one_input_learns_from_the_samples_that_have_it(frame):
    gaps = frame.copy()
    gaps.loc[60:, ["facts.size", "facts.colour"]] = None
    answers = np.where(np.arange(120) < 60, frame["facts.size"], 1e6)
    alone = InputAlone(scaled(LinearRegression()), "facts").fit(gaps, answers)
    np.testing.assert_allclose(alone.predict(gaps[:60]), answers[:60], atol=1e-8)
    assert abs(alone.predict(gaps[60:])).max() < 10, "an average sample, not the answers of samples without the input"


def test_the_mean_is_over_the_inputs_that_are_there(frame):
    answers = (frame["facts.size"] > 0).astype(int).to_numpy() * 2
    gaps = frame.copy()
    gaps.loc[:19, ["facts.size", "facts.colour"]] = None
    gaps.loc[20:29, "name.words"] = ""
    models = {"facts": scaled(LogisticRegression()), "name": worded(LogisticRegression())}
    mean = MeanOfInputs(models).fit(gaps, answers)
    assert mean.classes_.tolist() == [0, 2]
    facts = scaled(LogisticRegression()).fit(gaps.iloc[20:, :2], answers[20:]).predict_proba(gaps.iloc[:, :2])
    there = gaps["name.words"] != ""
    words = worded(LogisticRegression()).fit(gaps["name.words"][there], answers[there])
    words = words.predict_proba(gaps["name.words"])
    result = mean.predict_proba(gaps)
    np.testing.assert_allclose(result[:20], words[:20])
    np.testing.assert_allclose(result[20:30], facts[20:30])
    np.testing.assert_allclose(result[30:], (facts[30:] + words[30:]) / 2)


def test_a_class_that_an_input_never_has_gets_nothing_from_it(frame):
    answers = np.arange(120) % 3
    gaps = frame.copy()
    gaps.loc[answers == 1, "name.words"] = ""
    models = {"facts": scaled(LogisticRegression()), "name": worded(LogisticRegression())}
    result = MeanOfInputs(models).fit(gaps, answers).predict_proba(gaps)
    np.testing.assert_allclose(result.sum(axis=1), 1)
    assert result.shape == (120, 3) and (result[answers != 1, 1] < 0.3).all()
