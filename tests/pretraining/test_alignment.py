"""Alignment: several modalities in one space, in memory and on disk."""

import json

import numpy as np
import pytest
import torch

from metatx import load_backbone
from metatx.data.tables import read_splits
from metatx.errors import SampleError
from metatx.pretraining.alignment import Alignment
from metatx.retrieval.zero_shot import zero_shot_accuracy
from tests.pairs import colour_alignment, coloured, small_backbone
from tests.recipes.common import real


def test_vectors_are_of_unit_length_and_depend_on_the_sample_alone():
    samples = coloured(9)
    alignment = colour_alignment(small_backbone(), samples)
    for modality, side in samples.items():
        together = alignment.embed(modality, side, batch_size=4)
        assert together.shape == (9, 32) and together.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
        alone = np.concatenate([alignment.embed(modality, [sample]) for sample in side])
        np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("shape", [{}, {"norm_pre": False}, {"prefix": 0}], ids=["clip", "no norm_pre", "no CLS"])
def test_saved_and_read_it_gives_the_same_vectors(tmp_path, shape):
    samples = coloured(5)
    alignment = colour_alignment(small_backbone(**shape).trainable_copy(), samples)
    alignment.save_pretrained(tmp_path / "a", about="tests", card="# made of colours\n")
    assert (tmp_path / "a" / "README.md").read_text() == "# made of colours\n"
    again = Alignment.from_pretrained(tmp_path / "a")
    backbone = load_backbone(str(tmp_path / "a"))
    assert again.backbone.frozen and backbone.fingerprint == alignment.backbone.fingerprint
    for modality, side in samples.items():
        np.testing.assert_array_equal(alignment.embed(modality, side), again.embed(modality, side))
    on = Alignment.on(backbone)
    np.testing.assert_array_equal(on.embed("text", ["red"]), again.embed("text", ["red"]))
    assert not Alignment.on(load_backbone(str(tmp_path / "a"), pretrained=False)).towers, "random weights have none"


def test_half_precision_files_are_read_as_float32(tmp_path):
    samples = coloured(5)
    alignment = colour_alignment(small_backbone(), samples)
    alignment.save_pretrained(tmp_path / "a", about="tests", dtype=torch.float16)
    again = Alignment.from_pretrained(tmp_path / "a")
    assert {parameter.dtype for parameter in again.parameters()} == {torch.float32}
    for modality, side in samples.items():
        np.testing.assert_allclose(alignment.embed(modality, side), again.embed(modality, side), atol=5e-3)


def test_options_change_and_weights_stay():
    samples = coloured(5)
    alignment = colour_alignment(small_backbone(), samples)
    before = {modality: alignment.embed(modality, side) for modality, side in samples.items()}
    alignment.set_options("image", {"augment": "light", "downscale": 0.5}).set_options("text", {"hide": 0.2})
    assert alignment.tower("image").tokenizer.augments
    assert alignment.tower("text").tokenizer.options["context"] == 16
    for modality, side in samples.items():
        np.testing.assert_array_equal(alignment.embed(modality, side), before[modality])
    with pytest.raises(ValueError, match="weights of text do not fit"):
        alignment.set_options("text", {"context": 8})
    with pytest.raises(ValueError, match="augmnt"):
        alignment.set_options("image", {"augmnt": "light"})


def test_what_is_not_aligned_or_bad_is_named():
    alignment = colour_alignment(small_backbone(), coloured(5))
    with pytest.raises(ValueError, match=r"'txt'.*text"):
        alignment.embed("txt", ["red"])
    with pytest.raises(ValueError, match="no samples"):
        alignment.embed("text", [])
    with pytest.raises(SampleError, match="sample 2: text is empty"):
        alignment.embed("text", ["red", ""])
    with pytest.raises(ValueError, match="image is aligned already"):
        alignment.add("image", [])
    with pytest.raises(ValueError, match="size is 0"):
        Alignment(small_backbone(), size=0)


@pytest.mark.parametrize("harm", ["no towers", "config", "weights", "another"])
def test_damaged_folders_are_refused_in_one_line(tmp_path, harm):
    samples, folder = coloured(5), tmp_path / "a"
    colour_alignment(small_backbone(), samples).save_pretrained(folder, about="tests")
    message = "is damaged"
    if harm == "no towers":
        (folder / "alignment.json").unlink()
        message = "holds no aligned modalities"
    elif harm == "config":
        (folder / "alignment.json").write_text(json.dumps({"size": 32}))
    elif harm == "weights":
        (folder / "alignment.safetensors").write_bytes(b"half")
    else:
        (folder / "alignment.json").write_text((folder / "alignment.json").read_text().replace(": 32,", ": 16,", 1))
    with pytest.raises(ValueError, match=message) as caught:
        Alignment.from_pretrained(folder)
    assert "\n" not in str(caught.value)
    assert load_backbone(str(folder)).dim == 48, "the backbone alone is whole"


def test_nano_knows_pictures_by_their_names():
    """Zero-shot on the held-out split of what it was pretrained on: ten times as often right as chance, at least."""
    folder = real("image_text/tiny_imagenet_175")
    alignment = Alignment.from_pretrained("nano")
    assert sorted(alignment.towers) == ["image", "text"]
    if folder is None:
        pictures = coloured(4)["image"]
        assert alignment.embed("image", pictures).shape == (4, 192)
        return
    table = read_splits(folder, ())["validation"].shuffle(seed=0).select(range(200))
    names = sorted({entry["class_name"] for entry in read_splits(folder, ())["validation"]})
    texts = alignment.embed("text", [f"a photo of a {name}" for name in names])
    pictures = alignment.embed("image", table["image"][:])
    assert len(names) == 175
    assert zero_shot_accuracy(pictures, texts, names, table["class_name"]) > 10 / 175
