"""check_tokenizer: what is sound passes, and each way to break the contract is caught by its own check."""

import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import metatx
from metatx import SampleError, TokenSequence
from metatx.testing import check_tokenizer
from metatx.tokenizer import LearnedPositions

RNG = np.random.default_rng(0)
SIGNALS = [RNG.normal(size=length).astype(np.float32) for length in (40, 40, 20, 60)]
RECORDINGS = list(RNG.normal(size=(3, 12, 200)).astype(np.float32))


class ECGTokenizer(metatx.Tokenizer):
    """The example of a new modality, as the documentation gives it."""

    def __init__(self, dim, leads=12, patch_size=50):
        super().__init__(dim)
        self.proj = nn.Conv1d(leads, dim, patch_size, patch_size)

    def encode(self, sample):
        return {"signal": torch.as_tensor(sample, dtype=torch.float32)}

    def forward(self, batch):
        return self.proj(batch["signal"]).transpose(1, 2)


class SignalTokenizer(metatx.Tokenizer):
    """Signals (time,), ragged, standardised by the training split: sound, with most of what a tokenizer may do."""

    def __init__(self, dim, patch_size=10, augment=False):
        super().__init__(dim)
        self.patch_size, self.augments = patch_size, augment
        self.proj = nn.Linear(patch_size, dim)
        self.positions = LearnedPositions(dim, 6)
        self.register_buffer("centre", torch.zeros(()))

    def fit(self, samples):
        return {"centre": torch.tensor(np.mean(np.concatenate(samples)))}

    def encode(self, sample):
        if not isinstance(sample, np.ndarray) or sample.ndim != 1:
            raise SampleError(f"signal is a {type(sample).__name__}; expected an array (time,)")
        return {"signal": torch.tensor(sample) - self.centre}

    def augment(self, encoded):
        return {"signal": encoded["signal"] + torch.randn(())} if self.augments else encoded

    def padded(self, batch) -> tuple[Tensor, Tensor]:
        """Patches (B, N, patch_size) and their mask."""
        patches = [signal.unflatten(0, (-1, self.patch_size)) for signal in batch["signal"]]
        lengths = torch.tensor([len(patch) for patch in patches])
        padded = nn.utils.rnn.pad_sequence(patches, batch_first=True)
        return padded, torch.arange(padded.shape[1]) < lengths[:, None]

    def forward(self, batch):
        patches, mask = self.padded(batch)
        return self.proj(patches) + self.positions(patches.shape[1]), mask


class FitReturnsNothing(SignalTokenizer):
    def fit(self, samples):
        super().fit(samples)


class FitNamesNoBuffer(SignalTokenizer):
    def fit(self, samples):
        return {"center": super().fit(samples)["centre"]}


class FitDrawsFromNumpy(SignalTokenizer):
    def fit(self, samples):
        return {"centre": torch.tensor(np.random.default_rng().normal())}


class Doubles(SignalTokenizer):
    def __init__(self, dim):
        super().__init__(dim)
        self.double()


class EncodesArrays(SignalTokenizer):
    def encode(self, sample):
        return {"signal": super().encode(sample)["signal"].numpy()}


class EncodesSomeFields(SignalTokenizer):
    def encode(self, sample):
        encoded = super().encode(sample)
        return encoded if len(sample) == 40 else {**encoded, "length": torch.tensor(len(sample))}


class EncodesAtRandom(SignalTokenizer):
    def encode(self, sample):
        return {"signal": super().encode(sample)["signal"] + torch.randn(())}


class EncodesAtRandomInTraining(SignalTokenizer):
    def encode(self, sample):
        return {"signal": super().encode(sample)["signal"] + self.training * torch.randn(())}


class ChangesTheSample(SignalTokenizer):
    def encode(self, sample):
        if isinstance(sample, np.ndarray) and sample.ndim == 1:
            np.clip(sample, -0.1, 0.1, out=sample)
        return super().encode(sample)


class FitChangesTheSample(SignalTokenizer):
    def fit(self, samples):
        samples[0] /= 2
        return super().fit(samples)


class RaisesKeyError(SignalTokenizer):
    def encode(self, sample):
        if not isinstance(sample, np.ndarray):
            raise KeyError("signal")
        return super().encode(sample)


class AcceptsEverything(SignalTokenizer):
    def encode(self, sample):
        return super().encode(sample) if isinstance(sample, np.ndarray) else {"signal": torch.zeros(10)}


class SaysNothing(SignalTokenizer):
    def encode(self, sample):
        if not isinstance(sample, np.ndarray):
            raise SampleError
        return super().encode(sample)


class MasksTheWrongWay(SignalTokenizer):
    def forward(self, batch):
        tokens, mask = super().forward(batch)
        return tokens, ~mask


class TooWide(SignalTokenizer):
    def forward(self, batch):
        tokens, mask = super().forward(batch)
        return torch.cat([tokens, tokens], dim=2), mask


class TransposesBatchAndSequence(SignalTokenizer):
    def forward(self, batch):
        tokens, mask = super().forward(batch)
        return tokens.transpose(0, 1), mask.transpose(0, 1)


class GivesNaN(SignalTokenizer):
    def forward(self, batch):
        tokens, mask = super().forward(batch)
        return tokens.log(), mask


class SaysAWrongGrid(SignalTokenizer):
    def forward(self, batch):
        return TokenSequence.pack(*super().forward(batch), grid=(2, 3))


class DropsOutInEvaluation(SignalTokenizer):
    def forward(self, batch):
        tokens, mask = super().forward(batch)
        return F.dropout(tokens, 0.5), mask


class CountsPaddingIn(SignalTokenizer):
    """Normalises over the padded length."""

    def forward(self, batch):
        tokens, mask = super().forward(batch)
        return tokens - tokens.mean(1, keepdim=True), mask


class KeepsPadding(SignalTokenizer):
    def forward(self, batch):
        return super().forward(batch)[0]


class NormalisesByTheBatch(SignalTokenizer):
    def forward(self, batch):
        tokens, mask = super().forward(batch)
        return tokens - tokens[mask].mean(0), mask


class KnowsItsPlace(SignalTokenizer):
    """The same for one sample, but not for its place among others."""

    def forward(self, batch):
        tokens, mask = super().forward(batch)
        return tokens + torch.arange(len(tokens))[:, None, None], mask


class AugmentsInPlace(SignalTokenizer):
    def augment(self, encoded):
        encoded["signal"].mul_(2)
        return encoded


class IgnoresItsInput(SignalTokenizer):
    def padded(self, batch):
        patches, _ = super().padded(batch)
        ones = torch.ones(len(patches), 1, self.patch_size)
        return ones, torch.ones(ones.shape[:2], dtype=torch.bool)


class IgnoresAField(SignalTokenizer):
    def encode(self, sample):
        encoded = super().encode(sample)
        return {**encoded, "loudness": encoded["signal"].std()}


class HasAnIdleParameter(SignalTokenizer):
    def __init__(self, dim):
        super().__init__(dim)
        self.missing = nn.Parameter(torch.zeros(dim))


class CutsTheGradient(SignalTokenizer):
    def forward(self, batch):
        patches, mask = self.padded(batch)
        with torch.no_grad():
            tokens = self.proj(patches)
        return tokens + self.positions(tokens.shape[1]), mask


class KeepsAStatisticForItself(SignalTokenizer):
    level = 0.0

    def fit(self, samples):
        self.level = float(np.std(samples[0]))
        return super().fit(samples)

    def forward(self, batch):
        tokens, mask = super().forward(batch)
        return tokens + self.level, mask


class DoesNotSaveItsStatistic(SignalTokenizer):
    def __init__(self, dim):
        super().__init__(dim)
        self.register_buffer("centre", torch.zeros(()), persistent=False)


class ForgetsItsShape(SignalTokenizer):
    def fit(self, samples):
        self.extra = nn.Parameter(torch.ones(len(samples)))
        return super().fit(samples)

    def forward(self, batch):
        tokens, mask = super().forward(batch)
        return tokens * self.extra.sum(), mask


class LearnsWhatIsNoJSON(SignalTokenizer):
    def fit(self, samples):
        return {**super().fit(samples), "lengths": set(map(len, samples))}

    def build(self, lengths):
        pass


class AugmentsWithNumpy(SignalTokenizer):
    def augment(self, encoded):
        return {"signal": encoded["signal"] + random.random()}


class AugmentsUnsaid(SignalTokenizer):
    def augment(self, encoded):
        return {"signal": encoded["signal"] + torch.randn(())}


class SaysItAugments(SignalTokenizer):
    augment = metatx.Tokenizer.augment

    def __init__(self, dim):
        super().__init__(dim, augment=True)


class AugmentCrops(SignalTokenizer):
    def augment(self, encoded):
        return {"signal": encoded["signal"][:-10]}


class DescribesByLength(SignalTokenizer):
    def baseline_features(self, sample):
        return np.asarray(sample)


class DescribesInfinity(SignalTokenizer):
    def baseline_features(self, sample):
        return np.array([np.inf, 1.0])


@pytest.mark.parametrize("samples", [RECORDINGS, [recording[:, :150] for recording in RECORDINGS]])
def test_the_documented_example_keeps_the_contract(samples):
    check_tokenizer(ECGTokenizer, samples)
    check_tokenizer(ECGTokenizer, [*samples, samples[0][:, :100]][:3], options={"patch_size": 25})


@pytest.mark.parametrize("options", [{}, {"augment": True}, {"patch_size": 20}])
def test_a_sound_tokenizer_passes_and_the_generator_is_left_alone(options):
    before = torch.get_rng_state()
    check_tokenizer(SignalTokenizer, SIGNALS, bad_samples=["text", np.zeros((2, 10))], options=options)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("cls", "check"),
    [
        (FitReturnsNothing, "check_fit: .* must return a dict"),
        (FitNamesNoBuffer, "check_fit: .* 'center', which is no buffer"),
        (FitDrawsFromNumpy, "check_fit"),
        (Doubles, "check_parameters_are_float32"),
        (EncodesArrays, "check_encode_gives_tensors"),
        (EncodesSomeFields, "check_encode_gives_tensors"),
        (EncodesAtRandom, "check_encode_is_deterministic"),
        (EncodesAtRandomInTraining, "check_encode_is_deterministic"),
        (ChangesTheSample, "check_samples_are_left_alone"),
        (FitChangesTheSample, "check_samples_are_left_alone"),
        (RaisesKeyError, "check_bad_samples_raise_sample_error"),
        (AcceptsEverything, "check_bad_samples_raise_sample_error"),
        (SaysNothing, "check_bad_samples_raise_sample_error"),
        (MasksTheWrongWay, "check_tokens_have_the_right_form"),
        (TooWide, "check_tokens_have_the_right_form"),
        (TransposesBatchAndSequence, "check_tokens_have_the_right_form"),
        (GivesNaN, "check_tokens_have_the_right_form"),
        (SaysAWrongGrid, "check_tokens_have_the_right_form"),
        (DropsOutInEvaluation, "check_forward_is_deterministic"),
        (CountsPaddingIn, "check_batches_do_not_matter"),
        (KeepsPadding, "check_batches_do_not_matter"),
        (NormalisesByTheBatch, "check_batches_do_not_matter"),
        (KnowsItsPlace, "check_batches_do_not_matter"),
        (AugmentsInPlace, "check_encoded_samples_are_left_alone"),
        (IgnoresItsInput, "check_tokens_depend_on_the_input"),
        (IgnoresAField, "check_tokens_depend_on_the_input"),
        (HasAnIdleParameter, "check_gradients_reach_every_parameter: .*missing"),
        (CutsTheGradient, "check_gradients_reach_every_parameter: .*proj.bias, proj.weight"),
        (KeepsAStatisticForItself, "check_rebuilt_is_the_same"),
        (DoesNotSaveItsStatistic, "check_rebuilt_is_the_same"),
        (ForgetsItsShape, "check_rebuilt_is_the_same: it cannot be rebuilt"),
        (LearnsWhatIsNoJSON, "check_rebuilt_is_the_same: .*JSON"),
        (AugmentsWithNumpy, "check_augment: augment varies under one seed"),
        (AugmentsUnsaid, "check_augment: .*set it to True"),
        (SaysItAugments, "check_augment: .*set it to False"),
        (AugmentCrops, "check_augment: .*keep fields, shapes and types"),
        (DescribesByLength, "check_baseline_features"),
        (DescribesInfinity, "check_baseline_features"),
    ],
)
def test_broken_tokenizers_are_caught(cls, check):
    samples = [signal.copy() for signal in SIGNALS]
    with pytest.raises(AssertionError, match=f"^{cls.__name__} fails {check}"):
        check_tokenizer(cls, samples, bad_samples=["text"])


def test_a_stem_is_handed_to_those_that_take_one():
    class Stemmed(SignalTokenizer):
        stem = "image"

        def __init__(self, dim, stem):
            super().__init__(dim)
            if stem != "the stem":
                raise TypeError("no stem")

    check_tokenizer(Stemmed, SIGNALS, stem="the stem")
    with pytest.raises(TypeError, match="no stem"):
        check_tokenizer(Stemmed, SIGNALS)


def test_other_errors_pass_with_a_note():
    class Crashes(SignalTokenizer):
        def forward(self, batch):
            raise ZeroDivisionError("somewhere")

    with pytest.raises(ZeroDivisionError, match="somewhere") as caught:
        check_tokenizer(Crashes, SIGNALS)
    assert caught.value.__notes__ == ["Crashes raised this in check_tokens_have_the_right_form."]


def test_too_few_samples_are_refused():
    with pytest.raises(ValueError, match="two or more samples"):
        check_tokenizer(SignalTokenizer, SIGNALS[:1])
