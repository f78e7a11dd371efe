"""Fusion: what is equal to the task of one modality, dropout, heads that read one input, training that goes on."""

import copy

import numpy as np
import pytest
import torch

import metatx
from metatx.fusion import Fusion
from metatx.model import build_fusion
from tests.several import BACKBONE, FUSIONS, MODALITIES, labels, samples, several, without
from tests.training.stopping import stopped_after

QUICK = {"epochs": 2, "batch_size": 4, "precision": "fp32", "checkpoint_seconds": 0.0}


def _weights(task):
    return {name: tensor.clone() for name, tensor in task.state_dict().items()}


def _same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def _plain(name, values, **choices):
    options = {"context": 16, "overlap": 4} if name == "words" else {}
    choices = {"tokenizer_options": options, **choices}
    return metatx.Task.from_data(BACKBONE, MODALITIES[name], (values, labels(len(values))), **choices)


@pytest.mark.parametrize("name", MODALITIES)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_one_input_is_the_task_of_its_modality_through_training(name, fusion):
    """Bit for bit: outputs, losses and answers; clipping is off, because it adds up weights in their order."""
    rows = samples(8, names=(name,))
    values = [row[name] for row in rows]
    plain = _plain(name, values, head_options={"dropout": 0.1})
    alone = several((name,), said=False, data=(rows, labels(8)), fusion=fusion, head_options={"dropout": 0.1})
    for task, inputs in ((plain, values), (alone, rows)):
        task.fit((inputs, labels(8)), (inputs, labels(8)), **QUICK, clip=1e9)
    assert [row.pop("seconds", 0) and row for row in alone.history] == [
        row.pop("seconds", 0) and row for row in plain.history
    ]
    assert np.array_equal(alone.predict_proba(rows), plain.predict_proba(values))
    assert np.array_equal(alone.embed(rows), plain.embed(values))


def _fusion(names=("a", "b", "c"), **options):
    return metatx.create("fusions", "late", 8, **options).restore(
        {"inputs": list(names), "main": names[0], "depth": 3, "class_token": True}
    )


def test_dropout_leaves_at_least_one_input_and_brings_none():
    fusion = _fusion(dropout=0.9)
    torch.manual_seed(0)
    present = torch.rand(10_000, 3) < 0.6
    present[~present.any(1), 0] = True
    kept = fusion.drop(present)
    assert kept.any(1).all()
    assert not (kept & ~present).any()
    assert kept.sum() < 0.6 * present.sum()


def test_dropout_leaves_the_main_input_where_the_head_reads_it():
    fusion = _fusion(dropout=0.9)
    fusion.keeps_main = True
    kept = fusion.drop(torch.ones(1000, 3, dtype=torch.bool))
    assert kept[:, 0].all()
    assert not kept[:, 1].all()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_dropout_acts_in_training_alone(fusion):
    task = several(fusion=fusion, fusion_options={"dropout": 0.9})
    encoded = metatx.encoding.collate.collate([task.tokenizer.encode(sample) for sample in samples(4)])
    assert torch.equal(task(encoded), task(encoded))
    task.train()
    task.head.eval()
    assert not torch.equal(task(encoded), task(encoded))


@pytest.mark.parametrize("options", [{"dropout": 1.0}, {"dropout": -0.1}, {"product": -1}, {"max_tokens": 0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}.* expected"):
        metatx.create("fusions", "late", 8, **options)


def test_joined_inputs_that_are_too_long_are_a_bad_sample():
    task = several(fusion="early", fusion_options={"max_tokens": 4})
    with pytest.raises(metatx.SampleError, match=r"tokens together \(photo \d+, .*expected at most 4.*--fusion late"):
        task.predict(samples(1))
    assert len(several(fusion="mid", fusion_options={"max_tokens": 4, "at": 3}).predict(samples(1))) == 1


@pytest.mark.parametrize("fusion", ["early", "mid", "coattention"])
def test_samples_that_are_too_long_together_are_known_by_row_before_training(fusion, tmp_path):
    names = ("words", "facts")
    good = samples(8, names=names)
    rows = [{**row, "words": "so " * 900} if at in (2, 5) else row for at, row in enumerate(good)]
    task = several(names, said=False, fusion=fusion, fusion_options={"max_tokens": 500})
    long = (rows, labels(8))
    told = (
        r"2 of 8 samples .* row 3: the inputs of a sample have 1,198 tokens together .* at most 500.*--fusion late, or"
    )
    with pytest.raises(ValueError, match=told):
        task.fit((good, labels(8)), validation=long, out=tmp_path, **QUICK)
    assert not list(tmp_path.iterdir())
    assert len(task.fit(long, skip_bad_samples=True, **QUICK).history)
    with pytest.raises(metatx.SampleError, match="sample 3: the inputs of a sample have"):
        task.predict(rows)
    answers = task.predict(rows, skip_bad_samples=True)
    assert [at for at, answer in enumerate(answers) if answer is None] == [2, 5]
    np.testing.assert_array_equal(answers[[0, 7]], task.predict([rows[0], rows[7]]))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_run_that_is_stopped_and_goes_on_ends_with_the_same_weights(fusion, tmp_path, monkeypatch):
    """Stopped in the middle of an epoch; dropout draws on."""
    rows = samples(12)
    rows[3] = without(rows[3], "photo")
    data = rows, labels(12)
    choices = {"said": False, "fusion": fusion, "fusion_options": {"dropout": 0.5, "product": 2}, "data": data}
    train = {**QUICK, "epochs": 3, "checkpoint_steps": 1}
    whole = several(**choices).fit(data, **train)
    with stopped_after(4, monkeypatch):
        several(**choices).fit(data, **train, out=tmp_path)
    resumed = several(**choices).fit(data, **train, out=tmp_path, resume=True)
    assert not _same(_weights(whole), _weights(several(**choices)))
    assert _same(_weights(whole), _weights(resumed))


TARGETS = {
    "classification": labels(8),
    "regression": [0.5, 2.0, 3.0, 7.0] * 2,
    "multilabel": [["cat"], ["cat", "dog"]] * 4,
    "embedding": labels(8),
}


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("head", TARGETS)
def test_heads_of_one_answer_a_sample(head, fusion):
    data = samples(8), TARGETS[head]
    task = several(data=data, head=head, fusion=fusion, head_options={"layers": 2}).fit(data, **QUICK)
    assert len(task.predict([without(samples(1)[0], "photo"), *samples(2)])) == 3
    assert np.isfinite(task.evaluate(data)["loss"])


def _dense(head, fusion, **choices):
    rng = np.random.default_rng(0)
    if head == "segmentation":
        names, options = ("photo", "words"), {"photo": {"image_size": [16, 16]}}
        targets = [rng.integers(0, 3, row["photo"].shape[:2]).astype(np.uint8) for row in samples(8, names=names)]
        head_options = {"layers": 2}
    else:
        names, options, head_options = ("motion", "words"), {}, {"horizon": 4}
        targets = [rng.normal(size=(2, 4)) for _ in range(8)]
    data = samples(8, names=names), targets
    modality = {name: MODALITIES[name] for name in names}
    task = metatx.Task.from_data(
        BACKBONE,
        modality,
        data,
        head=head,
        tokenizer_options=options,
        head_options=head_options,
        fusion=fusion,
        **choices,
    )
    return task, data


@pytest.mark.parametrize("head", ["segmentation", "forecasting"])
def test_a_head_that_labels_places_reads_the_main_input_and_needs_it(head):
    task, data = _dense(head, "early", fusion_options={"dropout": 0.9})
    main, other = task.tokenizer.inputs
    task.fit(data, **QUICK)
    rows = data[0][:2]
    assert len(task.predict([rows[0], {**rows[1], other: None}])) == 2
    with pytest.raises(metatx.SampleError, match=f"input {main} is missing; the task answers for it"):
        task.predict([{**rows[0], main: None}])
    schema = task.tokenizer.json_schema()
    assert schema["required"] == [main]
    with pytest.raises(ValueError, match=f"reads the tokens of {main} alone.*--fusion early"):
        _dense(head, "late")


def test_a_fusion_that_does_not_belong_to_the_inputs_is_refused():
    task = several()
    parts = task.backbone, task.tokenizer, task.head
    with pytest.raises(ValueError, match="Several inputs need a fusion"):
        metatx.model.Model(*parts)
    with pytest.raises(ValueError, match="The fusion is built for"):
        metatx.model.Model(*parts, fusion=_fusion())
    with pytest.raises(ValueError, match="A fusion is for several inputs; the tabular tokenizer reads one"):
        plain = _plain("facts", [row["facts"] for row in samples(8)])
        metatx.model.Model(plain.backbone, plain.tokenizer, plain.head, fusion=task.model.fusion)
    assert isinstance(build_fusion("mid", BACKBONE, task.tokenizer, {"at": 1}), Fusion)
    assert copy.deepcopy(task.model.fusion).fitted == task.model.fusion.fitted


@pytest.mark.parametrize("choice", [{"fusion": "early"}, {"fusion_options": {"product": 3}}, {"main": "photo"}])
def test_choices_of_several_inputs_are_refused_for_one_modality(choice):
    with pytest.raises(ValueError, match="choices of a task with several inputs; this one reads tabular alone"):
        _plain("facts", [row["facts"] for row in samples(8)], **choice)
