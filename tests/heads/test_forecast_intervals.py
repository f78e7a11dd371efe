"""Promised intervals of forecasts, ``coverage``."""

import numpy as np
import pytest
import torch

from metatx.registry import create
from tests.heads.series import DIM, HORIZON, Model, frame


@pytest.mark.parametrize("quantiles", [None, [0.1, 0.5, 0.9]])
def test_intervals_hold_the_values_as_often_as_promised(quantiles):
    data = frame(2000)
    model = Model(data, coverage=0.8, quantiles=quantiles)
    head, samples = model.head, list(model.examples.inputs)
    with torch.no_grad():
        output = model(*samples)
    target = torch.stack([head.encode(each) for each in model.examples.targets])
    target[::7, 0, 2] = np.nan
    assert head.records(output[:1])[0]["load low"] == [None] * HORIZON and head.card_note() == ""
    head.calibrate(output[::2], target[::2])
    records = head.records(output[1::2])
    truth = np.stack([model.examples.targets[number] for number in range(1, len(samples), 2)])
    held = [
        (np.array(record["oil low"]) <= true[1]) & (true[1] <= np.array(record["oil high"]))
        for record, true in zip(records, truth, strict=True)
    ]
    assert np.mean(held, axis=0) == pytest.approx([0.8] * HORIZON, abs=0.05)
    found = {}
    for name, metric in head.calibration_metrics().items():
        metric.update(*head.metric_inputs(output[1::2], target[1::2]))
        found[name] = metric.compute().item()
    assert found["coverage"] == pytest.approx(0.8, abs=0.02) and found["width"] > 0
    (low, high), bound = ((np.array(records[0][f"oil {end}"]) for end in ("low", "high")), head.export_facts()["bound"])
    assert high - low == pytest.approx(2 * np.array(bound[1]))
    row = head.rows(records[:1], samples[1:2])[0]
    assert row["load-low"] < row["load"] < row["load-high"]
    again = create("heads", "forecasting", DIM, **head.options).restore(head.fitted)
    again.load_state_dict(head.state_dict())
    assert again.records(output[:1]) == head.records(output[:1])


def test_few_windows_are_told_and_leave_no_interval(caplog):
    model = Model(frame(60), coverage=0.99)
    with torch.no_grad():
        output = model(*model.examples.inputs)
    model.head.calibrate(output, torch.stack([model.head.encode(each) for each in model.examples.targets]))
    assert "needs at least 99 validation samples" in caplog.text
    assert model.head.records(output[:1])[0]["oil high"] == [None] * HORIZON
