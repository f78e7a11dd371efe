"""The kit catches each way in which a tokenizer or head can be wrong, and passes what is right."""

import numpy as np
import pytest
import torch
from torch import nn

import metatx
from metatx.heads.classification import ClassificationHead
from metatx.testing import check_head, check_tokenizer

RNG = np.random.default_rng(0)
SAMPLES = [RNG.normal(size=(3, length)).astype(np.float32) for length in (40, 40, 40)]
LABELS = ["a", "b"] * 6


class Good(metatx.Tokenizer):
    """DESIGN's example, with a fitted mean."""

    def __init__(self, dim, patch_size=10):
        super().__init__(dim)
        self.proj = nn.Conv1d(3, dim, patch_size, patch_size)
        self.register_buffer("centre", torch.zeros(()))

    def fit(self, samples):
        self.centre.fill_(float(np.mean([sample.mean() for sample in samples])))
        return self

    def encode(self, sample):
        if getattr(sample, "shape", (0,))[0] != 3:
            raise metatx.SampleError("expected (3, time)")
        return {"signal": torch.as_tensor(sample)}

    def forward(self, batch):
        return self.proj(batch["signal"] - self.centre).transpose(1, 2)


class IgnoresInput(Good):
    def forward(self, batch):
        return super().forward({"signal": torch.zeros_like(batch["signal"])})


class NormalisesOverTheBatch(Good):
    def forward(self, batch):
        tokens = super().forward(batch)
        return tokens - tokens.mean(0)


class ForgetsItsStatistic(Good):
    def __init__(self, dim):
        super().__init__(dim)
        self.register_buffer("centre", torch.zeros(()), persistent=False)


class EncodesByChance(Good):
    def encode(self, sample):
        return {"signal": super().encode(sample)["signal"] + torch.rand(())}


class ChangesTheSample(Good):
    def encode(self, sample):
        sample += 1
        return super().encode(sample)


class HasADeadParameter(Good):
    def __init__(self, dim):
        super().__init__(dim)
        self.extra = nn.Parameter(torch.zeros(dim))


class MaskOfTheWrongSense(Good):
    def forward(self, batch):
        tokens = super().forward(batch)
        return tokens, torch.zeros(tokens.shape[:2], dtype=torch.bool)


class WrongWidth(Good):
    def forward(self, batch):
        return super().forward(batch)[..., :-1]


class KeyErrorOnBadSamples(Good):
    def encode(self, sample):
        return super().encode(sample) if isinstance(sample, np.ndarray) else {}[sample]


class AugmentsInSecret(Good):
    def augment(self, encoded):
        return {"signal": encoded["signal"] + torch.rand(())}


class OptionsThatAreNotJson(Good):
    def __init__(self, dim, scale=None):
        super().__init__(dim)
        self.options["scale"] = np.float32(1)


class FitReturnsNothing(Good):
    def fit(self, samples):
        super().fit(samples)


def test_a_good_tokenizer_passes():
    check_tokenizer(Good, SAMPLES, options={"patch_size": 5}, bad_samples=[np.zeros((2, 5)), "x"])


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (IgnoresInput, "ignores its input"),
        (NormalisesOverTheBatch, "than among its neighbours"),
        (ForgetsItsStatistic, "rebuilt from options and state_dict"),
        (EncodesByChance, "randomness belongs in augment"),
        (ChangesTheSample, "changed the raw sample|randomness"),
        (HasADeadParameter, "no gradient reaches extra"),
        (WrongWidth, "tokens are 47 wide"),
        (KeyErrorOnBadSamples, "raises KeyError.*must raise SampleError"),
        (AugmentsInSecret, "augments is False"),
        (OptionsThatAreNotJson, "options must be JSON"),
        (FitReturnsNothing, "fit must return self"),
    ],
)
def test_a_broken_tokenizer_is_caught(cls, message):
    with pytest.raises(AssertionError, match=message):
        check_tokenizer(cls, [sample.copy() for sample in SAMPLES], bad_samples=["x"])


def test_a_mask_that_leaves_nothing_is_an_error():
    with pytest.raises(ValueError, match="has no token"):
        check_tokenizer(MaskOfTheWrongSense, SAMPLES)


class IgnoresTokens(ClassificationHead):
    def pool(self, sequence):
        return torch.ones_like(super().pool(sequence)) * torch.arange(1.0, 2 * self.dim + 1)


class PrimaryIsNoMetric(ClassificationHead):
    primary = "precision"


class ForgetsItsClasses(ClassificationHead):
    def fit(self, targets):
        super().fit(targets)
        del self.options["classes"]
        return self


class LossRises(ClassificationHead):
    def loss(self, output, target):
        return -super().loss(output, target).detach() + 0 * output.sum() + sum(p.sum() * 0 for p in self.parameters())


def test_a_good_head_passes():
    check_head(ClassificationHead, LABELS, options={"hidden": 8}, bad_targets=["c", None])


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (IgnoresTokens, "ignores its input"),
        (PrimaryIsNoMetric, "primary is 'precision'"),
        (ForgetsItsClasses, "does not take its state"),
        (LossRises, "do not lower the loss"),
    ],
)
def test_a_broken_head_is_caught(cls, message):
    with pytest.raises(AssertionError, match=message):
        check_head(cls, LABELS)


def test_an_accepted_bad_target_is_caught():
    with pytest.raises(AssertionError, match="is accepted"):
        check_head(ClassificationHead, LABELS, bad_targets=["a"])
