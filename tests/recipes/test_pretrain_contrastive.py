"""Pretraining from the command line's view: a new backbone, then one more modality on it, frozen."""

import pretrain_contrastive as recipe
import pytest
import torch

import metatx
from metatx.backbone.loading import save_backbone
from metatx.pretraining.alignment import Alignment
from metatx.pretraining.loop import PretrainingSettings
from tests.pairs import small_backbone
from tests.recipes.coloured import coloured_pairs


@pytest.fixture
def folder(tmp_path) -> str:
    return str(coloured_pairs(tmp_path / "data"))


def test_pretrain_contrastive(tmp_path, folder, capsys) -> None:
    save_backbone(small_backbone(), tmp_path / "small", about="random")
    settings = PretrainingSettings(epochs=8, batch_size=32, lr=3e-3, patch_dropout=0.25, precision="fp32")
    found = recipe.main(out=str(tmp_path / "a"), data=(folder,), backbone=str(tmp_path / "small"), settings=settings)
    assert found["zero_shot_class_name"] > 0.8
    assert found["image_to_text_recall@1"] > 0.8
    assert capsys.readouterr().out.strip() == str(tmp_path / "a" / "backbone")
    trained = metatx.load_backbone(str(tmp_path / "a" / "backbone"))
    assert trained.fingerprint != small_backbone().fingerprint
    card = (tmp_path / "a" / "backbone" / "README.md").read_text()
    for words in ("128 pairs", "random weights", "epochs 8", "zero_shot_class_name"):
        assert words in card

    text = Alignment.from_pretrained(tmp_path / "a" / "backbone").embed("text", ["red"])
    again = recipe.main(
        out=str(tmp_path / "b"),
        data=(folder,),
        modalities=("infrared", "text"),
        backbone=str(tmp_path / "a" / "backbone"),
        pretrained=True,
        train_backbone=False,
        settings=PretrainingSettings(epochs=4, batch_size=32, lr=3e-3, precision="fp32"),
    )
    three = Alignment.from_pretrained(tmp_path / "b" / "backbone")
    assert sorted(three.towers) == ["image", "infrared", "text"]
    assert three.backbone.fingerprint == trained.fingerprint
    assert again["infrared_to_text_recall@1"] > 0.3, "grey pictures tell some of six colours"
    assert (three.embed("text", ["red"]) == text).all(), "what was there stays as it was"


def test_a_run_goes_on_from_blocks_that_add_less(tmp_path, folder) -> None:
    save_backbone(small_backbone(), tmp_path / "small", about="random")
    settings = PretrainingSettings(epochs=1, batch_size=32, lr=1e-9, precision="fp32", transport_weight=1.0)
    recipe.main(
        out=str(tmp_path / "a"), data=(folder,), backbone=str(tmp_path / "small"), branches=0.5, settings=settings
    )
    made = metatx.load_backbone(str(tmp_path / "a" / "backbone"))
    expected = dict(small_backbone().scale_residuals(0.5).named_weights())
    assert all(torch.allclose(weight, expected[name], atol=1e-3) for name, weight in made.named_weights())
    assert "branches times 0.5" in (tmp_path / "a" / "backbone" / "README.md").read_text()
