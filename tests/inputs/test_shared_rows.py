"""Inputs that share a tokenizer of rows: each reads a column of its own."""

import numpy as np

import metatx
from metatx.inputs.notation import parsed


def test_two_sensors_share_a_tokenizer(nano):
    rng = np.random.default_rng(0)
    signals = rng.normal(size=(2, 8, 6, 40)).astype(np.float32)
    table = {"phone": list(signals[0]), "watch": list(signals[1]), "label": ["still", "moves"] * 4}
    task = metatx.Task.from_data(nano, parsed(["phone,watch=imu"]), table, target="label")
    both = [{"phone": phone, "watch": watch} for phone, watch in zip(*signals, strict=True)]
    assert task.tokenizer.tokenizer("watch") is task.tokenizer.tokenizer("phone")
    first, second = (task.tokenizer.encode(row) for row in (both[0], {"phone": signals[1][0], "watch": signals[0][0]}))
    fields = {name.partition(".")[2] for name in first}
    assert fields and all((first[f"phone.{field}"] == second[f"watch.{field}"]).all() for field in fields)
    assert task.predict([*both, {"watch": signals[1][0]}]).shape == (9,)
