"""Several labels per sample: targets of every form, thresholds and metrics as scikit-learn's."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score

import metatx
from metatx.cli import main
from metatx.errors import SampleError
from metatx.registry import create, lookup, names
from metatx.sequence import TokenSequence
from tests.conftest import waves

LABELS = ["a", "b", "c"]
TARGETS = [["a", "b"], ["c"], [], ["a"]]


def _head(targets=TARGETS, **options):
    return create("heads", "multilabel", 4, **options).learn(targets)


def _random(count, seed=0, labels=3):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, labels, generator=generator)
    return logits, (torch.rand(count, labels, generator=generator) < (logits - 1).sigmoid()).float()


def _measured(head, logits, truth):
    found = {}
    for name, metric in head.metrics().items():
        metric.update(*head.metric_inputs(logits, truth))
        found[name] = metric.compute().item()
    return found


@pytest.mark.parametrize("calibrated", [False, True])
def test_metrics_are_scikit_learn_s(calibrated):
    head, (logits, truth) = _head(), _random(300)
    if calibrated:
        head.calibrate(*_random(200, seed=1))
        assert (head.thresholds != 0.5).all()
    found = _measured(head, logits, truth)
    chosen = (head.probabilities(logits) > head.thresholds).numpy()
    assert found["map"] == pytest.approx(average_precision_score(truth, logits, average="macro"), abs=1e-6)
    assert found["f1"] == pytest.approx(f1_score(truth, chosen, average="macro"))
    assert found["micro_f1"] == pytest.approx(f1_score(truth, chosen, average="micro"))
    answers = [[label in answer for label in LABELS] for answer in head.decode(logits)]
    np.testing.assert_array_equal(answers, chosen)


def test_a_label_that_no_sample_has_is_left_out_of_the_mean():
    head, (logits, truth) = _head(), _random(100)
    truth[:, 1] = 0
    expected = average_precision_score(truth[:, [0, 2]], logits[:, [0, 2]], average="macro")
    assert _measured(head, logits, truth)["map"] == pytest.approx(expected, abs=1e-6)
    assert np.isnan(_measured(head, logits, torch.zeros_like(truth))["map"]), "of no label is anything known"


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30), st.sampled_from([0.1, 1.0, 20.0]), st.booleans())
def test_no_threshold_has_a_better_f1(seed, count, scale, ties):
    logits, truth = _random(count, seed)
    logits = (logits.round() if ties else logits) * scale
    head, again = _head(), _head()
    head.calibrate(logits, truth)
    assert ((head.thresholds > 0) & (head.thresholds < 1)).all()
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    again.calibrate(logits[order], truth[order])
    torch.testing.assert_close(again.thresholds, head.thresholds)
    assert head.decode(logits[order]).tolist() == head.decode(logits)[order.numpy()].tolist()
    shares = head.probabilities(logits)
    for k in range(3):
        if not truth[:, k].any():
            assert head.thresholds[k] == 0.5
        elif shares[:, k].max() < 1 - 1e-6 and shares[:, k].min() > 1e-6:
            reached = f1_score(truth[:, k], shares[:, k] > head.thresholds[k])
            best = max(f1_score(truth[:, k], shares[:, k] >= share) for share in shares[:, k])
            assert reached == pytest.approx(best)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (["b", "a"], [1, 1, 0]),
        (("c",), [0, 0, 1]),
        (np.array(["a", "c"]), [1, 0, 1]),
        ([], [0, 0, 0]),
        ("a|c", [1, 0, 1]),
        (" b ", [0, 1, 0]),
        ("|", [0, 0, 0]),
        ([0, 1, 1], [0, 1, 1]),
        (np.array([True, False, False]), [1, 0, 0]),
        (["a", "a"], [1, 0, 0]),
    ],
)
def test_targets_of_every_form(target, expected):
    encoded = _head().encode(target)
    assert encoded.dtype == torch.float32 and encoded.tolist() == expected


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (["d"], "label 'd' is none of the 3 labels"),
        ("a, b", "label 'a, b' is none of the 3 labels"),
        ("a|B", "label 'B' is none of the 3 labels"),
        (None, "target is None; expected a list of labels"),
        (np.nan, "target is nan; expected a list"),
        ([1, 0], "expected a list"),
        ([0, 1, 2], "expected a list"),
        ([None, "a"], "expected a list"),
        ({"a": 1}, "expected a list"),
    ],
)
def test_bad_targets_are_bad_samples(target, message):
    with pytest.raises(SampleError, match=message):
        _head().encode(target)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([], "None of 0 samples has a label"),
        ([[], []], "None of 2 samples has a label"),
        ([["a"], None, np.nan], "2 of 3 samples have no target; write an empty list .or '|'"),
        ([["a"], []], "one label only, 'a'; let the classification head say yes or no"),
        ([["a", "b"]] * 3, "All 3 samples have the same labels"),
        ([["a"], [1]], "A target is .1.; expected a list of labels"),
    ],
)
def test_what_no_task_can_be_made_of_is_refused(targets, message):
    with pytest.raises(ValueError, match=message):
        _head(targets)


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="objective is 'mse'; expected one of 'bce', 'asymmetric'"):
        _head(objective="mse")
    with pytest.raises(ValueError, match="Labels are texts that differ"):
        _head(classes=["a", "a"])
    with pytest.raises(ValueError, match="classes is .1, 2.; expected a list of texts or null"):
        _head(classes=[1, 2])
    with pytest.raises(ValueError, match="A label 'c' is none of the 2 labels"):
        _head(classes=["b", "a"])


def test_given_classes_keep_their_order_and_need_no_sample():
    head = _head([[1, 0, 1], [0, 0, 1], [1, 0, 1]], classes=["z", "never", "always"])
    assert head.classes == ["z", "never", "always"] and head.encode("z").tolist() == [1, 0, 0]
    assert head.output.bias.isfinite().all()
    (record,) = head.records(torch.tensor([[1.0, -1.0, 2.0]]))
    assert record["prediction"] == ["z", "always"] and record["p(never)"] == pytest.approx(1 / (1 + np.e))


def test_labels_start_at_their_frequency():
    head = _head([["a", "b"]] * 60 + [["b"]] * 40)
    output = head(head.pool(TokenSequence(100 * torch.randn(5, 4), (2, 3))))
    np.testing.assert_allclose(head.probabilities(output.detach()), [[0.6, 1.0]] * 2, atol=0.01)


def test_records_name_the_likeliest_labels():
    (record,) = _head(top_k=2).records(torch.tensor([[-1.0, 3.0, 2.0]]))
    first, second = record["top"]
    assert (first["label"], second["label"]) == tuple(np.array(_head().classes)[[1, 2]])
    assert first["probability"] == pytest.approx(1 / (1 + np.exp(-3.0)))
    assert record["prediction"] == _head().decode(torch.tensor([[-1.0, 3.0, 2.0]]))[0]


def test_losses_are_the_formulas():
    logits, truth = _random(20)
    p, y = logits.double().sigmoid().numpy(), truth.numpy()
    expected = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
    assert _head().loss(logits, truth).item() == pytest.approx(expected, rel=1e-5)
    shifted = np.maximum(p - 0.05, 0)
    expected = -(y * np.log(p) + (1 - y) * shifted**4 * np.log(1 - shifted)).mean()
    assert _head(objective="asymmetric").loss(logits, truth).item() == pytest.approx(expected, rel=1e-5)


def test_baselines_are_measured_at_one_half_whatever_the_thresholds():
    head, rng = _head(), np.random.default_rng(0)
    truth = np.stack([head.encode(target).numpy() for target in TARGETS * 10])
    features = pd.DataFrame(rng.normal(size=(40, 3)) + truth, columns=LABELS)
    head.calibrate(*_random(100))
    _, trivial = head.trivial()
    scored, _ = head.metric_inputs(head.baseline_predict(trivial.fit(features, truth), features), torch.tensor(truth))
    np.testing.assert_allclose(scored, [[0.5, 0.25, 0.25]] * 40, atol=1e-5)
    for kind in ("linear", "boosting"):
        ((name, model),) = head.classical(kind).items()
        scored, _ = head.metric_inputs(head.baseline_predict(model.fit(features, truth), features), torch.tensor(truth))
        np.testing.assert_allclose(scored, model.predict_proba(features), atol=1e-5, err_msg=name)
    ((_, words),) = head.classical("words").items()
    texts = [" ".join(3 * label for label in target) or "nothing" for target in TARGETS * 10]
    assert (words.fit(texts, truth).predict(texts) == truth).mean() > 0.9


def test_accepts_lists_of_texts_alone():
    accepts = lookup("heads", "multilabel").accepts
    assert accepts(TARGETS) and accepts([None, ["a"]]) and accepts([np.array(["a"])])
    assert not accepts(["a|b", "c"]) and not accepts([[1, 2]]) and not accepts([[], []]) and not accepts([0.5])
    assert not any(lookup("heads", name).accepts(TARGETS) for name in names("heads") if name != "multilabel")


def _noisy(count, seed=0):
    """Waves with whether they are loud, and whether they were drawn first."""
    signals, kinds = waves(count, seed)
    return [
        {"signal": signal.tolist(), "labels": [kind, *(["early"] if signal[0].mean() > 0 else [])]}
        for signal, kind in zip(signals, kinds, strict=True)
    ]


def test_from_the_command_line_to_predictions(tmp_path, capsys):
    for split, count in {"train": 60, "validation": 30, "test": 30}.items():
        pd.DataFrame(_noisy(count, len(split))).to_parquet(tmp_path / f"{split}.parquet")
    out = tmp_path / "run"
    main(["train", str(tmp_path), "--modality", "waves", "--epochs", "3", "--no-baseline"]
         + ["--out", str(out), "--precision", "fp32"])  # fmt: skip
    main(["predict", str(out / "task"), str(tmp_path / "test.parquet"), "--out", str(tmp_path / "found.jsonl")])
    capsys.readouterr()
    found = pd.read_json(tmp_path / "found.jsonl", lines=True)
    assert list(found.columns) == ["row", "prediction", "p(early)", "p(loud)", "p(quiet)"] and len(found) == 30
    task = metatx.Task.from_pretrained(out / "task")
    assert task.head.name == "multilabel" and "chosen by F1 on the validation split" in task.head.card_note()
    assert task.predict([row["signal"] for row in _noisy(30, 4)]).tolist() == found.prediction.tolist()
    assert task.head.card_note() in (out / "task" / "README.md").read_text()
