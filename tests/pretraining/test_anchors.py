"""Anchors: what is locked stays to the last bit; what another model gives is aligned with, in memory and on disk."""

import json

import numpy as np
import pytest

from metatx.errors import SampleError
from metatx.pretraining.alignment import Alignment
from metatx.pretraining.encoders import backbone_encoder
from metatx.pretraining.loop import PretrainingSettings, pretrain
from metatx.pretraining.paired_data import PairedDataset
from metatx.retrieval.zero_shot import recalls
from tests.pairs import colour_alignment, coloured, small_backbone
from tests.pretraining.anchors import colour_encoder

QUICK = {"batch_size": 16, "epochs": 2, "lr": 3e-3, "precision": "fp32"}


def with_colours(samples, backbone=None, **options):
    """Pictures of a frozen backbone, to be aligned with an anchor of captions."""
    alignment = Alignment(backbone or small_backbone(), size=32)
    alignment.add("image", samples["image"])
    return alignment.anchor("text", colour_encoder(), **options)


def test_a_locked_modality_stays_to_the_last_bit_whatever_is_trained():
    samples = coloured(64)
    alignment = colour_alignment(small_backbone(), samples).anchor("image")
    text = alignment.embed("text", samples["text"])
    image = alignment.embed("image", samples["image"])
    before = {name: alignment.fingerprint(name) for name in alignment.towers}
    alignment.requires_grad_(True)
    alignment.add("infrared", [picture[..., 0] for picture in samples["image"]])
    sides = {"image": samples["image"], "infrared": [picture[..., 0] for picture in samples["image"]]}
    infrared = alignment.fingerprint("infrared")
    pretrain(alignment, PairedDataset(alignment, sides, augment=True), PretrainingSettings(**QUICK, weight_decay=0.5))
    assert alignment.fingerprint("infrared") != infrared
    np.testing.assert_array_equal(alignment.embed("image", samples["image"]), image)
    np.testing.assert_array_equal(alignment.embed("text", samples["text"]), text)
    assert {name: alignment.fingerprint(name) for name in before} == before, "nor one that these pairs do not show"
    alignment.train()
    assert not alignment.tower("image").training and alignment.tower("infrared").training


def test_cached_vectors_of_an_anchor_are_those_that_it_gives():
    samples = coloured(9)
    alignment = colour_alignment(small_backbone(), samples).anchor("image")
    batches, _, _ = PairedDataset(alignment, samples).batch(range(9))
    np.testing.assert_allclose(
        alignment.project("image", batches["image"]["features"].numpy()),
        alignment.embed("image", samples["image"]),
        atol=1e-6,
    )
    np.testing.assert_allclose(
        alignment.features("image", samples["image"]), batches["image"]["features"].numpy(), atol=1e-5
    )


@pytest.mark.parametrize("mapped", [True, False])
def test_pictures_learn_to_find_the_captions_of_another_model(mapped):
    samples, unseen = coloured(192), coloured(60, seed=1)
    alignment = Alignment(small_backbone(), size=4)
    alignment.add("image", samples["image"], {"freeze_stem": False}).anchor("text", colour_encoder(), mapped=mapped)
    given = colour_encoder()(unseen["text"])
    settings = PretrainingSettings(**{**QUICK, "epochs": 8})
    pretrain(alignment, PairedDataset(alignment, samples), settings)
    vectors = {modality: alignment.embed(modality, side) for modality, side in unseen.items()}
    assert recalls(vectors, unseen["text"])["image_to_text_recall@1"] > 0.8
    unit = given / np.linalg.norm(given, axis=1, keepdims=True)
    assert np.allclose(vectors["text"], unit, atol=1e-6) == (not mapped), "without a map they are as they were given"


def test_the_other_model_is_asked_once_for_each_caption():
    samples = coloured(64)
    asked = []
    encoder = colour_encoder("asked", lambda texts: asked.append(texts) or np.ones((len(texts), 4)))
    alignment = Alignment(small_backbone(), size=32).add("image", samples["image"]).anchor("text", encoder)
    pretrain(alignment, PairedDataset(alignment, samples), PretrainingSettings(**QUICK))
    assert sorted(asked[0]) == sorted(set(samples["text"])) and len(asked) == 1


def test_sides_that_never_change_pass_the_backbone_once(monkeypatch):
    samples = coloured(48)
    histories = []
    for cache in (False, True):
        alignment = with_colours(samples)
        kind = type(alignment.backbone)
        passes = []

        def counted(self, *given, real=kind.forward, passes=passes, **options):
            passes.append(self)
            return real(self, *given, **options)

        with monkeypatch.context() as patch:
            patch.setattr(kind, "forward", counted)
            pairs = PairedDataset(alignment, samples, augment=True, cache=cache)
            histories.append(pretrain(alignment, pairs, PretrainingSettings(**QUICK)))
        assert len(passes) == (1 if cache else 6)
    losses = [[row["train_loss"] for row in history] for history in histories]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    varied = with_colours(samples).set_options("image", {"augment": "flip"})
    batches, _, _ = PairedDataset(varied, samples, augment=True, cache=True).batch([0])
    assert set(batches["image"]) == {"image", "view"}, "what is augmented is seen anew each time"


def test_bad_samples_of_an_anchor_are_named_or_left_out():
    samples = coloured(5)
    bad = {"image": samples["image"], "text": ["red", "", "green", "blue", "black"]}

    def strict(texts):
        if "" in texts:
            raise SampleError("text is empty")
        return np.ones((len(texts), 4))

    strictly = Alignment(small_backbone(), size=32).add("image", samples["image"])
    strictly.anchor("text", colour_encoder("strict", strict))
    with pytest.raises(ValueError, match="1 of 5 samples cannot be used: the data, row 2: text is empty"):
        PairedDataset(strictly, bad)
    pairs = PairedDataset(strictly, bad, skip_bad=True)
    assert len(pairs) == 4 and pairs.rows[1] == (2, 1), "with their partners"
    with pytest.raises(SampleError, match="sample 2: text is empty"):
        strictly.embed("text", bad["text"])


def test_dropped_features_are_the_same_in_each_run():
    samples = coloured(32)
    runs = []
    for share in (0.0, 0.5, 0.5):
        alignment = with_colours(samples)
        settings = PretrainingSettings(**QUICK, feature_dropout=share)
        runs.append(pretrain(alignment, PairedDataset(alignment, samples), settings))
    losses = [[row["train_loss"] for row in history] for history in runs]
    assert losses[1] == losses[2] != losses[0]


def test_an_anchor_is_saved_by_name_and_fingerprint(tmp_path):
    samples = coloured(6)
    alignment = with_colours(samples).anchor("image")
    alignment.save_pretrained(tmp_path / "a", about="tests")
    entry = json.loads((tmp_path / "a" / "alignment.json").read_text())["towers"]["text"]
    assert entry["encoder"] == {"name": "colours", "fingerprint": "colours 1", "dim": 4}
    again = Alignment.from_pretrained(tmp_path / "a", encoders={"text": colour_encoder()})
    for modality, side in samples.items():
        np.testing.assert_array_equal(again.embed(modality, side), alignment.embed(modality, side))
    assert again.tower("image").locked and not any(p.requires_grad for p in again.tower("image").parameters())
    assert all(again.fingerprint(name) == alignment.fingerprint(name) for name in samples)
    missing = r"text of .* is an anchor of another model, colours \(fingerprint colours 1\).*encoders={'text': ENCODER}"
    with pytest.raises(ValueError, match=missing):
        Alignment.from_pretrained(tmp_path / "a")
    with pytest.raises(ValueError, match="aligned with colours .* is another encoder"):
        Alignment.from_pretrained(tmp_path / "a", encoders={"text": colour_encoder("colours 2")})


def test_the_part_of_the_output_that_becomes_a_vector_is_saved(tmp_path):
    samples = coloured(6)
    vectors = {}
    for pooling in (None, "cls", "mean", "cls_mean"):
        alignment = Alignment(small_backbone(), size=32).add("image", samples["image"], pooling=pooling)
        vectors[pooling] = alignment.embed("image", samples["image"])
        alignment.save_pretrained(tmp_path / str(pooling), about="tests")
        again = Alignment.from_pretrained(tmp_path / str(pooling))
        np.testing.assert_array_equal(again.embed("image", samples["image"]), vectors[pooling])
    np.testing.assert_array_equal(vectors[None], vectors["cls"])
    assert not np.allclose(vectors["cls"], vectors["mean"]) and not np.allclose(vectors["mean"], vectors["cls_mean"])


def test_features_of_another_backbone_are_an_anchor_too():
    samples, unseen = coloured(96), coloured(30, seed=1)
    other = small_backbone(dim=32, num_heads=2)
    alignment = Alignment(small_backbone(), size=32).anchor("image", backbone_encoder(other))
    alignment.add("text", samples["text"], {"context": 16, "overlap": 4, "hide": 0.0})
    pretrain(alignment, PairedDataset(alignment, samples), PretrainingSettings(**{**QUICK, "epochs": 8}))
    vectors = {modality: alignment.embed(modality, side) for modality, side in unseen.items()}
    assert recalls(vectors, unseen["text"])["image_to_text_recall@1"] > 0.5


def test_what_cannot_be_an_anchor_is_said():
    samples = coloured(5)
    alignment = colour_alignment(small_backbone().trainable_copy(), samples)
    with pytest.raises(ValueError, match="image passes through a backbone that is trained"):
        alignment.anchor("image")
    with pytest.raises(ValueError, match="'audio'.*image, text"):
        alignment.anchor("audio")
    with pytest.raises(ValueError, match="text is aligned already; choose another name for the anchor colours"):
        alignment.anchor("text", colour_encoder())
    with pytest.raises(ValueError, match="4 wide and the space is 32; train a map"):
        alignment.anchor("words", colour_encoder(), mapped=False)
    frozen = with_colours(samples).anchor("image")
    with pytest.raises(ValueError, match="image is an anchor, which does not change"):
        frozen.set_options("image", {"augment": "flip"})
    with pytest.raises(ValueError, match="text is an anchor of colours; it has no tokens"):
        frozen.tower("text")
    with pytest.raises(ValueError, match="feature_dropout is 1"):
        PretrainingSettings(feature_dropout=1.0)
