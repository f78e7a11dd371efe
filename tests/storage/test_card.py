"""The model card: what the hub's own classes read of it."""

import json

import numpy as np
import pandas as pd
import pytest
from huggingface_hub import ModelCard, ModelCardData

import metatx
from metatx.backbone.loading import load_backbone, repository
from metatx.storage.card import front_matter, model_card

QUICK = metatx.TrainingSettings(epochs=1, precision="fp32")


@pytest.fixture(scope="module")
def folder(nano, tmp_path_factory):
    """A run on a file, with its task."""
    folder = tmp_path_factory.mktemp("card")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=120), "b": rng.normal(size=120)})
    frame.assign(label=np.where(frame.a > 0, "yes", "no")).to_csv(folder / "signs.csv", index=False)
    metatx.run(folder / "signs.csv", "tabular", backbone=nano, settings=QUICK, out=folder / "run")
    return folder


def test_the_hub_reads_the_metrics_of_a_run(folder):
    card = ModelCard.load(folder / "run" / "task" / "README.md")
    measured = json.loads((folder / "run" / "metrics.json").read_text())["test"]
    assert card.data.library_name == "metatx" and card.data.tags == ["metatx", "tabular", "classification"]
    assert (card.data.license, card.data.datasets, card.data.base_model) == (None, None, None)
    found = {result.metric_type: result for result in card.data.eval_results}
    assert {name: result.metric_value for name, result in found.items()} == {
        name: value for name, value in measured.items() if name != "loss"
    }
    accuracy = found["accuracy"]
    assert (accuracy.task_type, accuracy.dataset_name) == ("tabular-classification", "signs.csv")
    assert card.data.metrics == list(found)
    assert str(folder) not in card.content, "a card is published, a path is private"
    assert "Measured on signs.csv, test: 20% held out." in card.text and "majority class (trivial)" in card.text


def test_what_is_known_of_the_data_stays_with_the_task(folder, nano):
    task = metatx.Task.from_pretrained(folder / "run" / "task", backbone=nano)
    task.about |= {"license": "cc-by-4.0", "dataset": "ada/signs"}
    again = metatx.Task.from_pretrained(task.save_pretrained(folder / "again"), backbone=nano)
    assert again.about == task.about and again.metrics == task.metrics
    data = ModelCard.load(folder / "again" / "README.md").data
    assert (data.license, data.datasets) == ("cc-by-4.0", ["ada/signs"])
    assert data.eval_results[0].dataset_type == "ada/signs"
    assert data.to_dict() == front_matter(json.loads((folder / "again" / "config.json").read_text()))


def _config(folder, **changes):
    return {**json.loads((folder / "run" / "task" / "config.json").read_text()), **changes}


def test_a_strange_name_and_no_numbers_are_written_as_the_hub_wants_them(folder):
    about = {"data": "yes: [ünïcode] #1", "license": "other"}
    config = _config(folder, metrics={"metatx": {"r2": float("nan"), "mae": 0.5}}, about=about)
    card = ModelCard(model_card(config, "ada/signs"))
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_name) == ("mae", 0.5, about["data"])
    bare = ModelCard(model_card(_config(folder, metrics={}, about={}), "ada/signs")).data
    assert bare.eval_results is None and isinstance(bare, ModelCardData)


def test_base_model_is_the_repository_of_published_weights():
    laion = "vit_base_patch16_clip_224.laion2b"
    for spec, expected in {
        f"timm:{laion}": f"timm/{laion}",
        "timm:vit_tiny_patch16_224": "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k",
        "open_clip:ViT-B-16/laion2b_s34b_b88k": "laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
        "open_clip:ViT-B-16": None,
        "timm:none": None,
        "meta-transformer:base": None,
        "nano": None,
        "a/folder": None,
    }.items():
        backbone = load_backbone("nano")
        backbone.spec = spec
        assert repository(backbone) == expected
        backbone.pretrained = False
        assert repository(backbone) is None, "random weights have no base model"
