"""Mixture from the command line's view: pairs alone as the contrastive recipe; generated tasks; meta-validation."""

import pretrain_contrastive
import pretrain_mixture as recipe
import pytest
import torch
from safetensors.torch import load_file

import metatx
from metatx.backbone.loading import save_backbone
from metatx.pretraining.loop import PretrainingSettings
from metatx.pretraining.mixture import MixtureSettings
from tests.pairs import small_backbone
from tests.recipes.coloured import coloured_pairs

QUICK = PretrainingSettings(epochs=2, batch_size=32, lr=3e-3, patch_dropout=0.25, precision="fp32")


@pytest.fixture
def small(tmp_path) -> str:
    save_backbone(small_backbone(), tmp_path / "small", about="random")
    return str(tmp_path / "small")


def pair(tmp_path):
    folder = str(coloured_pairs(tmp_path / "data"))
    return {"data": [folder], "modalities": ["image", "text"], "columns": ["image", "text"]}


def test_one_set_of_pairs_is_contrastive_pretraining_to_the_last_bit(tmp_path, small) -> None:
    pairs = pair(tmp_path)
    pretrain_contrastive.main(out=str(tmp_path / "a"), data=tuple(pairs["data"]), backbone=small, settings=QUICK)
    recipe.main(out=str(tmp_path / "b"), pairs=(pairs,), backbone=small, settings=QUICK)
    first, second = (load_file(tmp_path / run / "checkpoint.safetensors") for run in "ab")
    assert first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())
    trained = metatx.load_backbone(str(tmp_path / "b" / "backbone"))
    assert trained.fingerprint != small_backbone().fingerprint


def test_pairs_and_generated_tasks_train_one_backbone_which_resumes_and_is_validated(tmp_path, small, monkeypatch):
    """Meta-validation stands on a recipe that is there; here its data are a prior's."""
    samples, targets = recipe.draw("tabular", 40, 80)
    held = metatx.Recipe(
        name="held",
        place="tabular/held",
        source="a prior",
        spec=metatx.TaskSpec(modality="tabular"),
        settings=metatx.TrainingSettings(epochs=1),
        read=lambda folder: {"train": (samples[:60], targets[:60]), "test": (samples[60:], targets[60:])},
    )
    monkeypatch.setattr(recipe, "chosen", lambda names, data: [(names, held, tmp_path)])
    options = {
        "pairs": (pair(tmp_path),),
        "priors": {"tabular": 2, "time_series": 1},
        "prior_size": 40,
        "meta": "held",
        "meta_minutes": 0.0,
        "meta_seconds": 0.5,
        "backbone": small,
        "mixture": MixtureSettings(tasks=2, batch_size=8, forget_every=3),
    }
    found = recipe.main(out=str(tmp_path / "a"), settings=QUICK, **options)
    assert found["frozen_held"] == found["frozen_held"] and "random_held" in found
    again = recipe.main(out=str(tmp_path / "a"), settings=QUICK, resume=True, **options)
    assert again["train_loss"] == found["train_loss"]
    card = (tmp_path / "a" / "backbone" / "README.md").read_text()
    assert "tabular 0, tabular 1, time_series 0" in card


def test_tasks_alone_make_a_backbone(tmp_path, small, capsys) -> None:
    settings = PretrainingSettings(epochs=1, batch_size=8, lr=3e-3, precision="fp32")
    mixture = MixtureSettings(tasks=1, batch_size=8)
    recipe.main(
        out=str(tmp_path), priors={"hyperspectral": 2}, prior_size=30, backbone=small, steps=3, settings=settings,
        mixture=mixture,
    )  # fmt: skip
    assert capsys.readouterr().out.strip() == str(tmp_path / "backbone")
    assert metatx.load_backbone(str(tmp_path / "backbone")).fingerprint != small_backbone().fingerprint


def test_data_that_are_trained_on_validate_nothing(tmp_path) -> None:
    with pytest.raises(ValueError, match="adult is among sets and meta"):
        recipe.main(out=str(tmp_path), sets="adult,sst2", meta="adult")
