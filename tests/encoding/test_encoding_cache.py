"""Encoded samples on disk: used again, never stale, only where they are large."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

import metatx
from metatx.data import content_hash
from metatx.disk.cache import cache_folder
from metatx.encoding.encoding_cache import EncodingCache


class Handle:
    """A sample that has no content that can be hashed."""

    def __init__(self, value):
        self.value = value


@dataclass
class Place:
    """A row of an array that all samples share."""

    block: np.ndarray
    row: int


class LargeTokenizer(metatx.Tokenizer):
    """Counts how often it encodes; each sample comes with many zeros, or few."""

    calls = 0
    zeros = 1024

    def __init__(self, dim, gain=1.0):
        super().__init__(dim)
        self.gain = gain
        self.register_buffer("offset", torch.zeros(()))
        self.proj = nn.Linear(4, dim)

    def fit(self, samples):
        return {"offset": torch.tensor(float(len(samples)))}

    def encode(self, sample):
        type(self).calls += 1
        beside = {"zeros": torch.zeros(self.zeros)}
        if isinstance(sample, Handle):
            return {"x": torch.full((2, 4), sample.value), **beside}
        if isinstance(sample, Place):
            sample = sample.block[sample.row]
        if isinstance(sample, str):
            sample = np.loadtxt(sample).reshape(2, 4)
        if not np.isfinite(sample).all():
            raise metatx.SampleError("x is not finite")
        return {"x": torch.as_tensor(np.asarray(sample), dtype=torch.float32) * self.gain + self.offset, **beside}

    def forward(self, batch):
        return self.proj(batch["x"])


@pytest.fixture
def large(nano, tmp_path, monkeypatch):
    """How often samples are encoded: a function of the samples and options."""
    monkeypatch.setenv("METATX_CACHE", str(tmp_path / "cache"))
    metatx.register_tokenizer("large")(LargeTokenizer)

    def calls(samples, **options):
        targets = ["a", "b"] * (len(samples) // 2)
        task = metatx.Task.from_data(nano, "large", (samples, targets), tokenizer_options=options)
        LargeTokenizer.calls = 0
        encoded = task.encode((samples, targets), "train")
        assert [encoded.encoded(i)["x"].shape for i in range(len(samples))] == [(2, 4)] * len(samples)
        assert torch.equal(encoded.encoded(3)["x"], task.tokenizer.encode(samples[3])["x"])
        return LargeTokenizer.calls - 1

    return calls


def arrays(count=40, seed=0):
    return list(np.random.default_rng(seed).normal(size=(count, 2, 4)))


def test_a_second_run_reads_them(large):
    assert large(arrays()) == 40
    assert large(arrays()) == 8  # those that show how large they are
    assert large(arrays(seed=1)) == 40
    assert large(arrays(), gain=2.0) == 40
    assert large(arrays(42)) == 42  # other samples, and another statistic


def test_samples_that_share_an_array_are_told_by_it(large):
    block = np.stack(arrays())
    assert large([Place(block, row) for row in range(40)]) == 40
    assert large([Place(block.copy(), row) for row in range(40)]) == 8
    assert large([Place(block, row) for row in range(40)][::-1]) == 40
    block[39] += 1
    assert large([Place(block, row) for row in range(40)]) == 40


def test_files_are_told_by_their_time_of_change(large, tmp_path):
    files = [str(tmp_path / f"{i}.txt") for i in range(20)]
    for file, values in zip(files, arrays(20), strict=True):
        np.savetxt(file, values.ravel())
    assert large(files) == 20
    assert large(files) == 8
    np.savetxt(files[15], np.ones(8) * 7)
    assert large(files) == 20


def test_long_texts_are_samples_too(large, monkeypatch):
    monkeypatch.setattr(LargeTokenizer, "encode", lambda self, sample: _counted(len(sample)))
    assert large([f"{i}" * 5000 for i in range(20)]) == 20
    assert large([f"{i}" * 5000 for i in range(20)]) == 8


def _counted(length):
    LargeTokenizer.calls += 1
    return {"x": torch.full((2, 4), length), "zeros": torch.zeros(1024)}


def test_small_ones_and_unclear_ones_are_not_kept(large, monkeypatch):
    handles = [Handle(float(i)) for i in range(20)]
    assert large(handles) == large(handles) == 20
    monkeypatch.setattr(LargeTokenizer, "zeros", 8)
    assert large(arrays()) == large(arrays()) == 40
    assert not (cache_folder() / "encoded").exists()


def test_bad_samples_are_found_each_time(nano, large):
    samples = arrays()
    samples[30] = np.full((2, 4), np.nan)
    for _ in range(2):
        with pytest.raises(ValueError, match="row 31: x is not finite"):
            large(samples)


def test_no_cache_keeps_nothing(nano, large):
    task = metatx.Task.from_data(nano, "large", (arrays(), ["a", "b"] * 20))
    task.fit((arrays(), ["a", "b"] * 20), epochs=1, cache=False)
    assert not (cache_folder() / "encoded").exists()


class SmallTokenizer(LargeTokenizer):
    """A tokenizer whose source a test changes."""


def test_code_and_options_of_each_input_count(nano, monkeypatch):
    metatx.register_tokenizer("small")(SmallTokenizer)
    rows = [{"first": one, "second": other} for one, other in zip(arrays(4), arrays(4, seed=1), strict=True)]

    def name(gain=1.0):
        inputs = [metatx.Input(name=name, modality="small", options={"gain": gain}) for name in ("first", "second")]
        tokenizer = metatx.Task.from_data(nano, inputs, (rows, ["a", "b"] * 2)).tokenizer
        return EncodingCache(tokenizer, rows, "").name

    assert name() == name() is not None
    assert name(gain=2.0) != name()
    before = name()
    real = content_hash._source
    monkeypatch.setattr(content_hash, "_source", lambda cls: real(cls) + b" " * (cls is SmallTokenizer))
    assert name() != before
