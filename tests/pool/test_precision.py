"""A pool in another precision: every kind of adapter, neighbours, and the measure of the cost."""

import numpy as np
import pytest

import metatx
from metatx.backbone.precision import set_precision
from metatx.evaluation.precision import measured_in
from tests.conftest import waves
from tests.mixed_tasks import MODALITIES, alone, build, small_backbone, unlike_any
from tests.samples import TOKENIZERS

PRECISIONS = {"fp32": 1e-5, "bf16": 3e-2, "int8": 6e-2}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_tasks_with_any_adapter_answer_nearly_as_in_their_own_precision(precision):
    backbone = small_backbone()
    tasks = {}
    expected = {}
    for number, modality in enumerate(MODALITIES):
        tasks[modality], samples = build(backbone, modality, number)
        expected[modality] = alone(tasks[modality], samples[0])[0]
    pool = metatx.TaskPool(backbone, precision=precision)
    assert backbone.precision == precision
    for modality, task in tasks.items():
        pool.add(modality, task)
    requests = [(modality, TOKENIZERS[modality].samples[0]) for modality in MODALITIES] * 2
    for (modality, _), vector in zip(requests, pool.embed(requests), strict=True):
        wanted = expected[modality]
        assert np.linalg.norm(vector - wanted) < PRECISIONS[precision] * np.linalg.norm(wanted), modality


def test_the_cost_of_a_precision_is_measured_on_the_validation_split():
    backbone = small_backbone()
    samples, labels = waves(60)
    task = unlike_any(metatx.Task.from_data(backbone, "waves", (samples, labels)), 0).set_inference(precision="fp32")
    plain = task.evaluate((samples, labels))
    values = measured_in(task, (samples, labels), "bf16")
    assert {name: value for name, (value, _) in values.items()} == plain
    assert values["loss"][1] == pytest.approx(plain["loss"], abs=0.05)
    assert values["loss"][1] != plain["loss"]
    assert backbone.precision is None, "the task has its own precision again"
    own = metatx.Task.from_data(backbone, "waves", (samples, labels), tune="full")
    with pytest.raises(ValueError, match="own backbone"):
        measured_in(own, (samples, labels), "bf16")


def test_features_of_another_precision_are_not_read_from_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("METATX_CACHE", str(tmp_path))
    backbone = small_backbone()
    data = waves(20)
    task = unlike_any(metatx.Task.from_data(backbone, "waves", data), 0).set_inference(precision="fp32")
    first = task.evaluate(data)
    set_precision(backbone, "bf16")
    assert task.evaluate(data)["loss"] != first["loss"]
    set_precision(backbone, None)
    assert task.evaluate(data) == first
