"""Task: what a user does with it from Python, and everything that can be wrong with what they give."""

import copy
import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_breast_cancer

import metatx
from metatx.backbone.stem import StemConfig
from metatx.backbone.vit import BackboneConfig, VisionTransformer
from metatx.errors import TaskError
from tests.conftest import waves

FAST = {"epochs": 2, "lr": 3e-3}


@pytest.fixture(scope="module")
def tumours():
    data = load_breast_cancer(as_frame=True)
    return data.data.assign(diagnosis=np.where(data.target == 1, "benign", "malignant"))


@pytest.fixture(scope="module")
def task(nano, tumours):
    return metatx.Task.from_data(nano, "tabular", tumours[:400], target="diagnosis").fit(tumours[:400], **FAST)


def test_head_is_inferred_from_the_target(nano, tumours):
    build = metatx.Task.from_data
    assert build(nano, "tabular", tumours, target="diagnosis").head.name == "classification"
    assert build(nano, "tabular", tumours.drop(columns="diagnosis"), target="mean area").head.name == "regression"


def test_tokens_start_as_large_as_the_stem_s_times_the_tokenizer_s_token_rms_factor(nano):
    config = BackboneConfig(dim=16, depth=1, num_heads=2, mlp_dim=16, stem=StemConfig(patch_size=4, image_size=8))
    bare, head = VisionTransformer(config, None, spec="bare"), metatx.create("heads", "classification", 16)
    for factor in (1.0, 3.0):
        tokenizer = metatx.create("tokenizers", "waves", 16)
        tokenizer.token_rms_factor = factor
        task = metatx.Task(bare, tokenizer, head)
        tokens = task.tokens({"signal": torch.randn(4, 3, 50)}).embeddings
        assert tokens.square().mean().sqrt().item() == pytest.approx(factor * bare.token_rms, rel=1e-3)
    assert isinstance(metatx.Task(nano, tokenizer, head).model.norm, torch.nn.Identity), "nano normalises by itself"


def test_a_second_form_of_the_label_is_not_taken_as_input(nano, table):
    coded = table.assign(code=table.kind.map({"yes": 1, "no": 2}))
    with pytest.raises(ValueError, match="code says the same as the target kind.*--inputs a,b,c"):
        metatx.Task.from_data(nano, "tabular", coded, target="kind")
    task = metatx.Task.from_data(nano, "tabular", coded, target="kind", inputs=["a", "b", "c"])
    assert task.inputs == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"target": "diagnos"}, "Did you mean 'diagnosis'"),
        ({}, {}, "The column to predict is not known"),
        ({"diagnosis": "benign"}, {"target": "diagnosis"}, "All 400 samples have the label 'benign'"),
        ({"diagnosis": None}, {"target": "diagnosis"}, "400 of 400 samples .* row 1: has no label"),
        ({"mean area": None}, {"target": "diagnosis"}, "mean area"),
        ({}, {"target": "diagnosis", "inputs": ["mean areas"]}, "No input column mean areas"),
        ({}, {"target": "diagnosis", "inputs": ["diagnosis"]}, "cannot be an input"),
        ({}, {"target": "diagnosis", "head": "clasification"}, "Did you mean 'classification'"),
        ({}, {"target": "diagnosis", "tokenizer_options": {"bin": 3}}, "Unknown option of the tabular tokenizer"),
    ],
)
def test_bad_tables_are_refused_in_one_line(nano, tumours, change, options, message):
    frame = tumours[:400].assign(**change)
    with pytest.raises(ValueError, match=message) as caught:
        metatx.Task.from_data(nano, "tabular", frame, **options)
    assert "\n" not in str(caught.value)


def test_predictions_come_as_sklearn_gives_them(task, tumours):
    held = tumours[400:]
    labels, shares = task.predict(held), task.predict_proba(held)
    assert set(labels) <= {"benign", "malignant"} and labels.shape == (169,)
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-5)
    assert (np.asarray(task.head.classes)[shares.argmax(1)] == labels).all()
    assert (labels == held.diagnosis).mean() == pytest.approx(task.evaluate(held)["accuracy"])
    assert task.evaluate(held)["accuracy"] > 0.85


def test_rows_tables_and_lists_answer_the_same(task, tumours, tmp_path):
    held = tumours[400:420].drop(columns="diagnosis")
    held.to_csv(tmp_path / "rows.csv", index=False)
    expected = task.predict_proba(held)
    for samples in (held.to_dict("records"), str(tmp_path / "rows.csv")):
        np.testing.assert_allclose(task.predict_proba(samples), expected, atol=1e-5)
    one_by_one = np.concatenate([task.predict_proba([row]) for row in held.to_dict("records")])
    np.testing.assert_allclose(one_by_one, expected, atol=3e-2 if task.settings.precision == "auto" else 1e-5)


def test_embeddings_have_the_backbone_s_width(task, tumours):
    vectors = task.embed(tumours[:7])
    assert vectors.shape == (7, task.backbone.dim) and vectors.dtype == np.float32
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3


def test_a_head_may_read_no_more_layers_than_there_are(nano, table):
    with pytest.raises(ValueError, match="head reads 99 layers; this backbone has 6"):
        metatx.Task.from_data(nano, "tabular", table, target="kind", head_options={"layers": 99})


def test_embeddings_are_those_of_the_last_layer(nano, table):
    tasks = [
        metatx.Task.from_data(nano, "tabular", table, target="kind", head_options={"layers": layers})
        for layers in (1, 4)
    ]
    rows = table[:5].drop(columns="kind")
    np.testing.assert_array_equal(*[task.embed(rows) for task in tasks])


def test_a_bad_sample_is_named(task, tumours):
    rows = tumours[:3].to_dict("records")
    rows[1]["mean area"] = "large"
    with pytest.raises(metatx.SampleError, match=r"sample 2: .*mean area.*'large'"):
        task.predict(rows)
    with pytest.raises(ValueError, match="Unknown column 'mean area'"):
        task.predict(tumours.drop(columns="mean area"))
    with pytest.raises(ValueError, match="no samples"):
        task.predict([])


def test_bad_training_samples_are_named_counted_and_skipped(nano):
    signals, labels = waves(40)
    for index in (3, 7, 9, 20):
        signals[index] = np.zeros((2, 40))
    task = metatx.Task.from_data(nano, "waves", (signals, labels))
    with pytest.raises(ValueError, match=r"4 of 40 samples.*row 4: signal is \(2, 40\).*row 8.*row 10.*and 1 more"):
        task.fit((signals, labels), epochs=1)
    task.fit((signals, labels), epochs=1, skip_bad_samples=True)


def test_saved_and_loaded_gives_the_same_answers(task, nano, tumours, tmp_path):
    folder = task.save_pretrained(tmp_path / "income")
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    for backbone in (nano, None):
        loaded = metatx.Task.from_pretrained(folder, backbone=backbone)
        np.testing.assert_array_equal(loaded.predict_proba(tumours[400:]), task.predict_proba(tumours[400:]))
    assert "library_name: metatx" in (folder / "README.md").read_text()
    task.save_pretrained(folder)


def _config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is damaged: Expecting"),
        (lambda folder: (folder / "config.json").write_text('{"format": "other"}'), "damaged or not a task's"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"1234"), "is damaged"),
        (lambda folder: (folder / "model.safetensors").unlink(), "is damaged"),
        (lambda folder: _config(folder, head={"name": "classification", "options": {"classes": ["a"]}}), "is damaged"),
        (lambda folder: _config(folder, head={"name": "other", "options": {}}), "needs the head 'other'.*--plugin"),
        (lambda folder: _config(folder, version=99), "is of format 99"),
        (lambda folder: _config(folder, tokenizer=None), "is damaged"),
        (lambda folder: shutil.rmtree(folder), "does not exist"),
    ],
)
def test_damaged_and_foreign_folders_are_refused(task, nano, tmp_path, damage, message):
    folder = task.save_pretrained(tmp_path / "task")
    damage(folder)
    with pytest.raises((TaskError, FileNotFoundError), match=message) as caught:
        metatx.Task.from_pretrained(folder, backbone=nano)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


def test_another_backbone_is_refused(task, tmp_path):
    folder = task.save_pretrained(tmp_path / "task")
    with pytest.raises(TaskError, match="was trained on backbone nano"):
        metatx.Task.from_pretrained(folder, backbone=metatx.load_backbone("nano", pretrained=False))


def test_a_folder_that_is_no_task_is_not_overwritten(task, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is no task; nothing was written"):
        task.save_pretrained(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_full_disk_leaves_the_old_task(task, tmp_path, monkeypatch):
    folder = task.save_pretrained(tmp_path / "task")
    before = (folder / "model.safetensors").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="could not be written, nothing was changed.*No space left"):
        task.save_pretrained(folder)
    assert (folder / "model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["task"]


def test_images_by_path_array_and_folder(nano, tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for label, level in (("dark", 40), ("bright", 200)):
        (tmp_path / "train" / label).mkdir(parents=True)
        for number in range(12):
            noise = rng.integers(-30, 30, (40, 50, 3))
            Image.fromarray((level + noise).astype(np.uint8)).save(tmp_path / "train" / label / f"{number}.png")
    task = metatx.Task.from_data(nano, "image", tmp_path).fit(tmp_path, epochs=30, lr=1e-2)
    path = tmp_path / "train" / "dark" / "3.png"
    picture = Image.open(path)
    expected = task.predict_proba(str(path))
    assert task.predict(str(path))[0] == "dark"
    np.testing.assert_allclose(task.predict_proba([picture, np.asarray(picture)]), np.repeat(expected, 2, 0), atol=1e-5)
    assert len(task.predict(tmp_path / "train")) == 24
    with pytest.raises(ValueError, match="neither a table"):
        task.predict("notes.txt")


def test_regression_answers_in_the_target_s_unit(nano, tumours):
    frame = tumours.drop(columns="diagnosis")
    columns = ["mean radius", "mean perimeter", "mean area"]
    options = {"target": "mean area", "inputs": columns[:2]}
    task = metatx.Task.from_data(nano, "tabular", frame[:400], **options).fit(frame[:400], epochs=10, lr=3e-3)
    metrics = task.evaluate(frame[400:])
    assert metrics["r2"] > 0.9
    assert metrics["mae"] == pytest.approx(
        np.abs(task.predict(frame[400:]) - frame["mean area"][400:]).mean(), rel=0.02
    )
    with pytest.raises(TypeError, match="no probabilities"):
        task.predict_proba(frame[400:])


def test_pandas_missing_values_are_missing(nano, table):
    gaps = table.assign(a=table.a.where(table.index % 5 != 0))
    task = metatx.Task.from_data(nano, "tabular", gaps, target="kind").fit(gaps, **FAST)
    answers = task.predict_proba([{"a": None, "b": "red", "c": 0.0}, {"a": float("nan"), "b": "red", "c": 0.0}])
    np.testing.assert_array_equal(answers[0], answers[1])
    assert isinstance(pd.isna(gaps.a).sum(), np.integer)


def test_what_only_the_model_has_is_the_task_s_too(task, tumours):
    copied = copy.deepcopy(task)
    assert copied.double() is copied and copied.float() is copied and copied.requires_grad_(False) is copied
    names = {name for name, _ in [*copied.named_parameters(), *copied.named_buffers()]}
    assert set(copied.state_dict()) == names and not any(weight.requires_grad for weight in copied.parameters())
    with pytest.raises(AttributeError, match="predit"):
        copied.predit(tumours)


def test_a_copy_shares_the_frozen_backbone_and_has_its_own_weights(task, tumours):
    copied = copy.deepcopy(task)
    assert copied.backbone is task.backbone and copied.model is not task.model
    first = next(copied.model.parameters())
    assert all(first is not weight for weight in task.model.parameters())
    with torch.no_grad():
        for weight in copied.parameters():
            weight.zero_()
    assert any(weight.any() for weight in task.parameters())


def test_a_copy_of_a_task_with_its_own_backbone_has_another(nano):
    task = metatx.Task.from_data(nano, "waves", waves(8), tune="full")
    copied = copy.deepcopy(task)
    assert copied.backbone is copied.model.own_backbone and copied.backbone is not task.backbone
    np.testing.assert_array_equal(copied.predict(waves(8)[0]), task.predict(waves(8)[0]))


def test_a_part_of_the_model_is_not_assigned_past_the_model(nano):
    task = metatx.Task.from_data(nano, "waves", waves(8))
    assert repr(task) == (
        "Task(modality='waves', head='classification', backbone='nano', tune='frozen', "
        f"trainable_parameters={task.trainable_parameters:_})"
    )
    for name in ("norm", "head", "tokenizer", "backbone", "tune"):
        before = getattr(task, name)
        with pytest.raises(AttributeError, match=f"Task.{name} is the model's and cannot be assigned"):
            setattr(task, name, None)
        assert getattr(task, name) is before
    task.note = "an attribute of the task's own"
    assert task.note


def test_a_head_that_needs_a_class_token_is_refused_where_there_is_none(nano):
    config = replace(nano.config, class_token=False)
    without = nano.rebuilt(config, None)
    with pytest.raises(ValueError, match="classification head pools the class token, .*--head.pooling mean"):
        metatx.Task.from_data(without, "waves", waves(8), head_options={"pooling": "cls"})
    metatx.Task.from_data(without, "waves", waves(8), head_options={"pooling": "mean"})
