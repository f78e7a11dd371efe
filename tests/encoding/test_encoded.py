"""Encoded data: what memory has no room for is encoded again when it is read."""

import numpy as np
import pandas as pd
import torch

import metatx
from metatx.encoding import encoded


def test_no_more_is_kept_than_a_share_of_the_memory(nano, monkeypatch):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=3000), "b": rng.choice(["x", "y"], 3000), "y": ["k", "l"] * 1500})
    task = metatx.Task.from_data(nano, "tabular", frame, target="y")
    whole = task.encode(frame, "train")
    monkeypatch.setattr(encoded, "available_memory", lambda: 3 * 1100 * (4 + 8 + 8))
    some = task.encode(frame, "train")
    assert whole.kept.whole and [len(block) for block in some.kept.blocks] == [1024]
    assert some.content == whole.content
    batches = [data.batch([5, 1500, 2999]) for data in (whole, some)]
    assert torch.equal(batches[0][1], batches[1][1])
    assert all(torch.equal(batches[0][0][name], batches[1][0][name]) for name in ("numbers", "codes"))
