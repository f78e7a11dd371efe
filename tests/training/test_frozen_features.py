"""Cached features: found again for the same path and samples, and for no others."""

import pytest
import torch

import metatx
from metatx.training.frozen_features import _key
from tests.conftest import waves


@pytest.fixture
def key(nano):
    def made(data=None, change=None, **options):
        data = data or waves(20)
        task = metatx.Task.from_data(nano, "waves", data, **options)
        if change:
            change(task)
        return _key(task.model, task.encode(data, "train"), task.settings)

    return made


def test_the_same_path_and_samples_are_found_again(key):
    samples, labels = waves(20)
    assert key() == key() == key((samples, labels[::-1])), "targets do not decide features"
    assert key(head_options={"pooling": "both"}) == key(), "an option at its default is the same option"
    assert key(head_options={"label_smoothing": 0.3}) == key(), "behind the features"


OTHERS = {
    "samples": {"data": waves(20, seed=1)},
    "one value": {"data": ([*waves(20)[0][:-1], waves(20)[0][-1] + 1e-3], waves(20)[1])},
    "a tokenizer's option": {"tokenizer_options": {"noise": 0.5}},
    "pooling": {"head_options": {"pooling": "cls"}},
    "the head": {"head": "embedding"},
    "tokenizer weights": {"change": lambda task: torch.nn.init.zeros_(task.tokenizer.proj.bias).add_(1.0)},
    "the norm at the entry": {"change": lambda task: setattr(task.model, "norm", torch.nn.LayerNorm(192))},
    "precision": {"change": lambda task: task.set_inference(precision="bf16")},
}


@pytest.mark.parametrize("what", OTHERS)
@torch.no_grad()
def test_others_are_not(key, what):
    assert key(**OTHERS[what]) != key()


def test_what_has_no_content_is_not_kept(key, monkeypatch):
    monkeypatch.setattr("metatx.data.content_hash.inspect.getsourcefile", lambda _: "/nowhere.py")
    assert key() is None
