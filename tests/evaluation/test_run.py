"""A run: splits that are missing are held out of the training split, and the test split decides nothing."""

import numpy as np
import pandas as pd
import pytest

import metatx
from metatx.evaluation.baselines import baselines
from metatx.examples import Examples
from metatx.registry import create
from tests.conftest import waves

QUICK = metatx.TrainingSettings(epochs=1, lr=3e-3)


def test_missing_splits_are_held_out_once(nano, table, monkeypatch):
    seen = set()
    encode = metatx.Task.encode

    def watched(self, data, split, **options):
        encoded = encode(self, data, split, **options)
        seen.add(frozenset(sample["a"] for sample in encoded.examples.inputs))
        return encoded

    monkeypatch.setattr(metatx.Task, "encode", watched)
    report = metatx.run(table, "tabular", backbone=nano, target="kind", settings=QUICK, baseline=False)
    assert "20% held out" in str(report)
    assert sorted(map(len, seen)) == [20, 48, 172]
    assert len(frozenset.union(*seen)) == 240, "no row is in two splits"


def test_statistics_come_from_the_training_split_alone(nano, table):
    wild = table.assign(a=table.a * 1000)
    splits = {"train": table[:160], "validation": wild[160:200], "test": wild[200:]}
    alone = metatx.Task.from_data(nano, "tabular", table[:160], target="kind")
    report = metatx.run(splits, "tabular", backbone=nano, target="kind", settings=QUICK, baseline=False)
    for name, buffer in alone.tokenizer.named_buffers():
        np.testing.assert_array_equal(dict(report.task.tokenizer.named_buffers())[name], buffer)


def test_extra_data_is_the_validation_or_test_split(nano, table, tmp_path):
    table[200:].to_csv(tmp_path / "test.csv", index=False)
    options = {"backbone": nano, "target": "kind", "settings": QUICK}
    report = metatx.run(table[:200], "tabular", test=tmp_path / "test.csv", **options)
    assert "test split" in str(report)
    share = table[200:].kind.value_counts(normalize=True)
    majority = table[:200].kind.mode()[0]
    assert report.baselines["trivial"]["majority class"]["accuracy"] == pytest.approx(share[majority])


def test_baselines_are_scikit_learn_s_own_numbers():
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, test = Examples(*waves(200)), Examples(*waves(100, seed=1))
    tokenizer = create("tokenizers", "waves", 8)
    head = create("heads", "classification", 8).learn(train.targets)
    found = baselines(tokenizer, head, train, test)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    describe = np.stack([tokenizer.baseline_features(sample) for sample in train.inputs])
    unseen = np.stack([tokenizer.baseline_features(sample) for sample in test.inputs])
    model.fit(describe, train.targets)
    classical = found["classical"]["logistic regression"]
    assert classical["accuracy"] == pytest.approx(model.score(unseen, test.targets))
    truth = np.array(test.targets) == model.classes_[1]
    assert classical["auroc"] == pytest.approx(roc_auc_score(truth, model.predict_proba(unseen)[:, 1]), abs=1e-4)
    assert found["trivial"]["majority class"]["auroc"] == 0.5


def test_published_numbers_stand_in_the_table(nano, table):
    published = {"a paper": {"accuracy": 0.859}}
    report = metatx.run(
        table, "tabular", backbone=nano, target="kind", settings=QUICK, published=published, name="kinds"
    )
    lines = str(report).splitlines()
    assert lines[0].startswith("kinds, ")
    assert next(line for line in lines if line.startswith("a paper")).split()[-1] == "0.8590"
    assert isinstance(table, pd.DataFrame)


def test_a_run_starts_from_a_task_of_its_kind(nano, table, tmp_path):
    options = {"backbone": nano, "target": "kind", "baseline": False}
    first = metatx.run(table, "tabular", settings=QUICK, out=tmp_path / "first", **options)
    still = metatx.TrainingSettings(epochs=1, lr=1e-12)
    for start in (tmp_path / "first" / "task", first.task):
        deeper = metatx.run(table, "tabular", settings=still, tune="lora", start=start, **options)
        assert deeper.task.tune == "lora"
        assert deeper.test["loss"] == pytest.approx(first.test["loss"], abs=1e-5)
    for change, message in (
        ({"tokenizer_options": {"bins": 7}}, "The tokenizer of the task to start from has bins .*; these options"),
        ({"target": "b"}, "predicts kind, not a, c, kind and b"),
        ({"backbone": metatx.load_backbone("nano", pretrained=False)}, "was trained on backbone nano"),
        ({"tune": "lorra"}, "Unknown tune"),
    ):
        with pytest.raises(ValueError, match=message):
            metatx.run(table, "tabular", settings=still, start=tmp_path / "first" / "task", **{**options, **change})


@pytest.mark.parametrize(("few", "threads"), [(200, 2), (201, 1)])
def test_few_samples_are_fitted_on_one_thread(few, threads, monkeypatch):
    from sklearn.dummy import DummyClassifier
    from threadpoolctl import threadpool_info, threadpool_limits

    seen = set()

    class Counting(DummyClassifier):
        def fit(self, features, answers):
            seen.update(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "openmp")
            return super().fit(features, answers)

    train, test = Examples(*waves(200)), Examples(*waves(20, seed=1))
    tokenizer = create("tokenizers", "waves", 8)
    head = create("heads", "classification", 8).learn(train.targets)
    monkeypatch.setattr("metatx.evaluation.baselines.FEW", few)
    monkeypatch.setattr(type(head), "classical", lambda *given: {"counting": Counting()})
    with threadpool_limits(2):
        assert "accuracy" in baselines(tokenizer, head, train, test)["classical"]["counting"]
        after = {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "openmp"}
    assert (seen, after) == ({threads}, {2})
