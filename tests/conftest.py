"""What all tests share: the nano backbone, and small tables that a model can learn."""

import os

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import metatx
from metatx import registry

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach for the network


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """Features go to a folder of the test run, not to the user's."""
    monkeypatch.setenv("METATX_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch):
    """What a test registers is gone after it."""
    monkeypatch.setattr(registry, "REGISTERED", dict(registry.REGISTERED))


@pytest.fixture(scope="session")
def nano():
    """The shipped backbone."""
    return metatx.load_backbone("nano")


@pytest.fixture(scope="session")
def table():
    """240 rows, of which ``a`` and ``b`` decide the label ``kind``."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "a": rng.normal(size=240),
            "b": rng.choice(["red", "blue"], 240),
            "c": rng.normal(size=240),
        }
    )
    frame["kind"] = np.where((frame.a > 0) ^ (frame.b == "red"), "yes", "no")
    return frame


@metatx.register_tokenizer("waves")
class WavesTokenizer(metatx.Tokenizer):
    """Signals (3, time), one token per ten steps: the smallest tokenizer there can be."""

    def __init__(self, dim, noise=0.0):
        super().__init__(dim)
        self.augments = noise > 0
        self.noise = noise
        self.proj = nn.Conv1d(3, dim, 10, 10)

    def encode(self, sample):
        signal = torch.as_tensor(np.asarray(sample, dtype=np.float32))
        if signal.ndim != 2 or len(signal) != 3:
            raise metatx.SampleError(f"signal is {tuple(signal.shape)}; expected (3, time)")
        return {"signal": signal}

    def augment(self, encoded):
        signal = encoded["signal"]
        return {"signal": signal + self.noise * torch.randn_like(signal)}

    def forward(self, batch):
        return self.proj(batch["signal"]).transpose(1, 2)


def waves(count, seed=0):
    """Signals that are ``loud`` or ``quiet``: pairs of samples and labels."""
    rng = np.random.default_rng(seed)
    loud = rng.integers(0, 2, count)
    signals = rng.normal(size=(count, 3, 40)).astype(np.float32) * (0.5 + loud[:, None, None])
    return list(signals), ["loud" if flag else "quiet" for flag in loud]
