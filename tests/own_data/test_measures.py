"""Measures are scikit-learn's on any split; one that is not defined there is nan, and ends nothing."""

import json
import logging
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    jaccard_score,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
    root_mean_squared_error,
)

import metatx
from metatx.evaluation.baselines import baselines
from metatx.evaluation.comparison_report import Comparison, Trial
from metatx.examples import Examples
from metatx.heads.classification import ClassificationHead
from metatx.metrics.evaluator import rank
from metatx.registry import create
from metatx.storage.card import metric_table

SPLITS = settings(max_examples=250, deadline=None)  # of each of four kinds of answers: a thousand
seeds = st.integers(0, 2**32 - 1)


def measured(head, *batches):
    """Values of a head's metrics over batches of outputs and targets; a warning would be an error."""
    metrics = head.metrics()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for output, target in batches:
            for metric in metrics.values():
                metric.update(*head.metric_inputs(output, target))
        return {name: metric.compute().item() for name, metric in metrics.items()}


def halves(*tensors):
    """In two batches, the second of which may be empty."""
    cut = (len(tensors[0]) + 1) // 2
    parts = [tuple(t[:cut] for t in tensors), tuple(t[cut:] for t in tensors)]
    return [part for part in parts if len(part[0])]


def expected_calibration_error(shares, truth):
    confidence, right = shares.max(1).astype(np.float64), shares.argmax(1) == truth
    bounds = np.linspace(0, 1, 16)
    inside = [(confidence > low) & (confidence <= high) for low, high in zip(bounds[:-1], bounds[1:], strict=True)]
    return sum(abs(right[one].mean() - confidence[one].mean()) * one.mean() for one in inside if one.any())


@SPLITS
@given(seeds, st.integers(2, 5), st.integers(1, 12), st.sampled_from([0.3, 3, 40]))
@example(0, 2, 1, 3)
@example(1, 3, 2, 3)
def test_classes_of_any_split(seed, classes, count, sharpness):
    rng = np.random.default_rng(seed)
    truth = rng.choice(rng.choice(classes, rng.integers(1, classes + 1), replace=False), count)
    logits = torch.tensor(np.round(sharpness * rng.normal(size=(count, classes)), 1)).float()  # some are equal
    head = create("heads", "classification", 4).restore({"classes": [*range(classes)]})
    found = measured(head, *halves(logits, torch.tensor(truth)))
    shares = head.probabilities(logits).numpy()
    guess = shares.argmax(1)
    asked = [1] if classes == 2 else range(classes)
    areas = [roc_auc_score(truth == k, shares[:, k]) for k in asked if 0 < (truth == k).sum() < count]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        balanced = balanced_accuracy_score(truth, guess)
    assert found == pytest.approx(
        {
            "accuracy": accuracy_score(truth, guess),
            "balanced_accuracy": balanced,
            "f1": f1_score(truth, guess, average="macro"),
            "auroc": np.mean(areas) if areas else np.nan,
            "ece": expected_calibration_error(shares, truth),
        },
        abs=1e-6,
        nan_ok=True,
    )


@SPLITS
@given(seeds, st.integers(2, 4), st.integers(1, 10), st.floats(0, 1))
@example(0, 2, 1, 0.0)
@example(0, 3, 4, 1.0)
def test_labels_of_any_split(seed, labels, count, share):
    rng = np.random.default_rng(seed)
    truth = rng.random((count, labels)) < share
    logits = torch.tensor(np.round(rng.normal(size=(count, labels)), 1) + 0.05).float()
    head = create("heads", "multilabel", 4).restore({"classes": [*"abcd"[:labels]]})
    found = measured(head, *halves(logits, torch.tensor(truth).float()))
    guess, there = logits.numpy() > 0, truth.any(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = {
            "map": average_precision_score(truth[:, there], logits[:, there], average="macro")
            if there.any()
            else np.nan,
            "f1": np.mean(scores) if (scores := [x for x in f1(truth, guess) if x == x]) else np.nan,
            "micro_f1": f1_score(truth, guess, average="micro", zero_division=np.nan),
        }
    assert found == pytest.approx(wanted, abs=1e-6, nan_ok=True)


def f1(truth, guess):
    """Of each label; nan of one that is neither there nor given."""
    return f1_score(truth, guess, average=None, zero_division=np.nan)


@SPLITS
@given(seeds, st.integers(1, 8), st.sampled_from([0.0, 1e-3, 1.0]), st.sampled_from([0.0, 1e9]))
@example(0, 1, 1.0, 0.0)
@example(0, 5, 0.0, 0.0)
def test_numbers_of_any_split(seed, count, spread, level):
    rng = np.random.default_rng(seed)
    head = create("heads", "regression", 4).learn([level, level + 2])
    targets, output = level + spread * rng.normal(size=count), torch.tensor(rng.normal(size=count)).float()
    found = measured(head, *halves(output, torch.tensor(targets)))
    predicted = head.decode(output)
    wanted = {
        "rmse": root_mean_squared_error(targets, predicted),
        "mae": mean_absolute_error(targets, predicted),
        "r2": r2_score(targets, predicted) if count > 1 else np.nan,
    }
    assert found == pytest.approx(wanted, rel=1e-6, abs=1e-6, nan_ok=True)


@SPLITS
@given(seeds, st.integers(2, 5), st.integers(1, 4), st.floats(0, 1))
@example(0, 2, 1, 1.0)
def test_masks_of_any_split(seed, classes, count, unlabelled):
    rng = np.random.default_rng(seed)
    truth = rng.choice(rng.integers(0, classes, 2), (count, 3, 4)).astype(np.uint8)
    truth[rng.random(truth.shape) < unlabelled] = 255
    logits = torch.tensor(rng.normal(size=(count, classes, 3, 4)))
    head = create("heads", "segmentation", 4).restore({"classes": [*range(classes)], "places": "pixels"})
    found = measured(head, *[(logits[i : i + 1], torch.tensor(truth[i : i + 1])) for i in range(count)])
    known = truth < 255
    one, other = truth[known], logits.argmax(1).numpy()[known]
    wanted = {"miou": np.nan, "accuracy": np.nan}
    if known.any():
        wanted = {"miou": jaccard_score(one, other, average="macro"), "accuracy": accuracy_score(one, other)}
    assert found == pytest.approx(wanted, abs=1e-6, nan_ok=True)


@settings(max_examples=100, deadline=None)
@given(seeds, st.integers(1, 9), st.integers(1, 4))
def test_retrieval_of_any_split(seed, count, identities):
    rng = np.random.default_rng(seed)
    known = rng.integers(0, identities, count)
    vectors = torch.eye(3)[torch.tensor(rng.integers(0, 3, count))]  # many lie equally near
    head = create("heads", "embedding", 4, size=3).restore({"identities": [*range(identities)]})
    found = measured(head, *halves(vectors, torch.tensor(known)))["map"]
    likeness, others = (vectors @ vectors.T).numpy(), ~np.eye(count, dtype=bool)
    answers = [(known[others[i]] == known[i], likeness[i, others[i]]) for i in range(count)]
    each = [average_precision_score(same, near) for same, near in answers if same.any()]
    assert found == pytest.approx(np.mean(each) if each else np.nan, abs=1e-6, nan_ok=True)


def test_pictures_without_any_box_have_no_average_precision():
    head = create("heads", "detection", 4)
    box, found = torch.tensor([[0, 0.1, 0.1, 0.4, 0.4]]), torch.tensor([[0, 0.1, 0.1, 0.4, 0.4, 0.9]])
    assert measured(head, ([found], [box[:0]])) == pytest.approx({"ap50": np.nan, "ap": np.nan}, nan_ok=True)
    assert measured(head, ([found[:0]], [box])) == {"ap50": 0, "ap": 0}
    assert measured(head, ([found], [box])) == pytest.approx({"ap50": 1, "ap": 1})


def test_measures_of_outputs_that_are_not_finite_are_not_defined():
    head = create("heads", "regression", 4).learn([0, 2])
    found = measured(head, (torch.tensor([np.nan, 1]), torch.tensor([1.0, 2.0])))
    assert np.isnan(list(found.values())).all()


# How nan travels


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, 90)
    return pd.DataFrame({"x": classes + 0.1 * rng.normal(size=90), "label": np.array([*"abc"])[classes]})


@pytest.fixture(scope="module")
def run(nano, rows, tmp_path_factory):
    """A run whose test split is of one class, without warnings; its folder."""
    folder = tmp_path_factory.mktemp("run") / "out"
    splits = {"train": rows[:60], "validation": rows[60:], "test": rows[rows.label == "a"]}
    fast = metatx.TrainingSettings(epochs=1, batch_size=16)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", module="torchmetrics")
        report = metatx.run(splits, "tabular", backbone=nano, target="label", settings=fast, out=folder)
    return report, folder


def test_a_task_leaves_out_classes_that_a_split_lacks(run, rows):
    report, _ = run
    task = report.task.fit(rows, epochs=15, lr=1e-2)
    found = task.evaluate(rows[rows.label != "c"])
    assert found["accuracy"] == 1 and found["auroc"] == 1 and found["balanced_accuracy"] == 1
    assert np.isnan(task.evaluate(rows[:1])["auroc"])


def test_what_is_not_defined_is_null_in_json_and_a_dash_in_tables(run):
    report, folder = run
    assert np.isnan(report.test["auroc"]) and 0 <= report.validation["auroc"] <= 1

    def strict(text):
        return json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))

    written = strict((folder / "metrics.json").read_text())
    assert written["test"]["auroc"] is None and written["baseline"]["auroc"] is None
    config = strict((folder / "task/config.json").read_text())
    assert config["metrics"]["metatx"]["auroc"] is None
    line = next(line for line in str(report).splitlines() if line.startswith("metatx"))
    assert line.split()[4] == "-"
    card = (folder / "task/README.md").read_text()
    assert " - |" in card and " nan" not in card.replace("nano", "")
    again = metatx.Task.from_pretrained(folder / "task", backbone=report.task.backbone)
    again.save_pretrained(folder / "again")
    assert " - |" in (folder / "again/README.md").read_text()


def test_evaluate_says_what_is_not_defined(run, rows, caplog):
    report, _ = run
    with caplog.at_level(logging.INFO, logger="metatx"):
        report.task.evaluate(rows[:1])
    assert "Not defined on the split of 1 sample: auroc." in caplog.text


def test_info_and_the_server_show_what_is_not_defined(run, capsys):
    from metatx.cli import main

    main(["info", str(run[1] / "task")])
    assert "auroc -" in capsys.readouterr().out
    from metatx.serving.schemas import TaskDetail

    assert TaskDetail.model_fields["metrics"].annotation == dict[str, dict[str, float | None]]


def test_a_comparison_survives_seeds_and_baselines_without_a_value(tmp_path):
    trials = [Trial(variant="frozen", seed=s, test={"auroc": value}) for s, value in ((0, np.nan), (1, 0.5))]
    asked = {"data": "rows", "backbone": "nano", "budget": None, "epochs": 1}
    failed = {"classical": {"boosting": {}}, "trivial": {"majority": {"auroc": np.nan}}}
    found = Comparison(asked=asked, primary="auroc", trials=trials, baselines=failed)
    assert "| frozen | - | 2 |" in str(found) and "| boosting (classical) | failed |" in str(found)
    found.write(tmp_path)
    again = Comparison.read(tmp_path / "comparison.json")
    assert str(again) == str(found) and np.isnan(again.trials[0].test["auroc"])


@given(st.lists(st.floats(allow_infinity=False) | st.none()), st.booleans())
def test_what_is_not_defined_is_never_the_best(values, higher):
    first = sorted(values, key=lambda value: rank(value, higher))
    known = [value for value in values if value is not None and value == value]
    assert first[: len(known)] == sorted(known, reverse=higher)


def test_tables_show_small_and_large_numbers():
    (*_, row) = metric_table({"metatx": {"a": 3e-7, "b": 0.0, "c": 0.12345, "d": 3.25e11, "e": None, "f": np.nan}})
    assert row == "| metatx | 3e-07 | 0.0000 | 0.1235 | 3.25e+11 | - | - |"


# Baselines that fail


class OddScores(ClassificationHead):
    """A plug-in whose ``metric_inputs`` fits its own outputs only."""

    def baseline_predict(self, estimator, features):
        return super().baseline_predict(estimator, features)[:, :1]


def split(count, labels):
    inputs = [{"x": float(i)} for i in range(count)]
    return Examples(inputs, labels, "rows")


def test_a_baseline_that_fails_costs_a_line(caplog):
    tokenizer, train = create("tokenizers", "tabular", 4).learn(split(9, None).inputs), split(9, [*"aabbccabc"])
    head = OddScores(4, classes=[*"abc"])
    with caplog.at_level(logging.INFO, logger="metatx"):
        found = baselines(tokenizer, head, train, split(3, [*"abc"]))
    assert found == {"trivial": {"majority class": {}}, "classical": {"gradient boosting": {}}}
    assert caplog.text.count("failed, the run goes on without it") == 2 and "gradient boosting" in caplog.text


@pytest.mark.parametrize("labels", ["ab", "abb", "aabbc", "aaaaaaab"])
@pytest.mark.parametrize("kind", ["linear", "boosting", "words"])
def test_baselines_of_few_rows_answer(kind, labels):
    head = create("heads", "classification", 4).restore({"classes": sorted(set(labels))})
    features = [f"word{i}" for i in range(len(labels))] if kind == "words" else pd.DataFrame({"x": range(len(labels))})
    for estimator in head.classical(kind).values():
        estimator.fit(features, np.array([head.encode(label) for label in labels]))
        assert head.baseline_predict(estimator, features).shape == (len(labels), len(head.classes))


def test_a_failed_baseline_is_a_line_of_the_report(run):
    report, _ = run
    report.baselines["classical"] = {"gradient boosting": {}}
    assert "gradient boosting (classical), failed" in str(report)
