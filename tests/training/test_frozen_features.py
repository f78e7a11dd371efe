"""Cached features: found again for the same path and samples, and for no others."""

import sys
from importlib.util import module_from_spec, spec_from_file_location

import pytest
import torch

import metatx
from metatx.training.frozen_features import frozen_features
from tests.conftest import WavesTokenizer, waves


@pytest.fixture
def kept(nano, tmp_path, monkeypatch):
    """Number of files in the cache after the features of a task were computed: a function of data and options."""
    monkeypatch.setenv("METATX_CACHE", str(tmp_path / "cache"))

    def files(data=None, change=None, modality="waves", **options):
        data = data or waves(20)
        task = metatx.Task.from_data(nano, modality, data, **options)
        if change:
            change(task)
        frozen_features(task.model, task.encode(data, "train"), task.settings, lambda items, what: items)
        return len(list((tmp_path / "cache").rglob("features/*.safetensors")))

    return files


def test_the_same_path_and_samples_are_found_again(kept):
    samples, labels = waves(20)
    assert kept() == kept() == kept((samples, labels[::-1])) == 1, "targets do not decide features"
    assert kept(head_options={"pooling": "both"}) == 1, "an option at its default is the same option"
    assert kept(head_options={"label_smoothing": 0.3}) == 1, "behind the features"


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
def test_others_are_not(kept, what):
    assert kept() == 1
    assert kept(**OTHERS[what]) == 2


def test_a_new_default_is_another_option(kept, monkeypatch):
    assert kept() == 1
    monkeypatch.setattr(WavesTokenizer.__init__, "__defaults__", (0.25,))
    assert kept() == 2
    assert kept(tokenizer_options={"noise": 0.25}) == 2


PLUGIN = """
from tests.conftest import WavesTokenizer

class OwnTokenizer(WavesTokenizer):
    pass
"""


def test_other_code_is_another_path(kept, tmp_path, monkeypatch):
    file = tmp_path / "own_waves.py"
    file.write_text(PLUGIN)
    spec = spec_from_file_location("own_waves", file)
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "own_waves", module)
    spec.loader.exec_module(module)
    metatx.register_tokenizer("own_waves")(module.OwnTokenizer)
    assert kept(modality="own_waves") == kept(modality="own_waves") == 1
    file.write_text(PLUGIN.replace("pass", "patch = 5"))
    assert kept(modality="own_waves") == 2


def test_what_has_no_content_is_not_kept(kept, monkeypatch):
    monkeypatch.setattr("metatx.data.content_hash.inspect.getsourcefile", lambda _: "/nowhere.py")
    assert kept() == 0
