"""Frozen encoders: vectors of texts and pictures that are those of the models behind them, computed once."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from metatx.errors import SampleError
from metatx.pretraining.encoders import FrozenEncoder, backbone_encoder, distinct, sentence_encoder
from metatx.sequence import as_sequence
from tests.pairs import coloured, small_backbone
from tests.pretraining.anchors import bert_folder, colour_encoder

TEXTS = ["a photo of something red", "blue", "a photo of a white photo of black"]


def test_texts_are_the_mean_of_their_tokens_at_unit_length(tmp_path):
    folder = bert_folder(tmp_path / "bert")
    vectors = sentence_encoder(folder)(TEXTS)
    assert vectors.shape == (3, 64) and vectors.dtype == np.float32
    model = AutoModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for text, vector in zip(TEXTS, vectors, strict=True):
        with torch.no_grad():
            mean = model(**tokenizer([text], return_tensors="pt")).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(vector, mean / mean.norm(), atol=1e-5)


def test_the_folder_says_how_texts_become_vectors(tmp_path):
    plain = sentence_encoder(bert_folder(tmp_path / "plain", sentence=False))
    mean = sentence_encoder(bert_folder(tmp_path / "mean"))
    np.testing.assert_array_equal(plain(TEXTS), mean(TEXTS))
    modes = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    folder = bert_folder(tmp_path / "first", **modes)
    (folder / "modules.json").write_text(json.dumps(json.loads((folder / "modules.json").read_text())[:2]))
    first = sentence_encoder(folder)
    assert (first.name, first.dim) == ("first", 64)
    assert not np.allclose(np.linalg.norm(first(TEXTS), axis=1), 1), "no module brings them to unit length"
    assert len({plain.fingerprint, mean.fingerprint, first.fingerprint}) == 3
    assert sentence_encoder(tmp_path / "mean").fingerprint == mean.fingerprint


def test_a_long_text_is_cut_where_the_model_ends_and_said_once(tmp_path, caplog):
    encoder = sentence_encoder(bert_folder(tmp_path / "bert"))
    long = " ".join(["red", *["photo"] * 31])
    with caplog.at_level("INFO", logger="metatx"):
        whole = encoder([long])
        assert not caplog.messages
        np.testing.assert_allclose(encoder([long + " blue"]), whole, atol=1e-6)
        encoder([long + " red"])
    assert caplog.messages == ["bert reads the first 32 tokens of a text; one of 33 is cut, as longer ones are."]


def test_folders_that_are_no_encoder_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        sentence_encoder(tmp_path)
    folder = bert_folder(tmp_path / "max", pooling_mode_mean_tokens=False, pooling_mode_max_tokens=True)
    with pytest.raises(ValueError, match="by pooling_mode_max_tokens; the mean of the tokens or the first"):
        sentence_encoder(folder)
    (folder / "modules.json").write_text("[1]")
    with pytest.raises(ValueError, match="max is damaged"):
        sentence_encoder(folder)
    folder = bert_folder(tmp_path / "wordless")
    for file in ("tokenizer.json", "vocab.txt"):
        (folder / file).unlink(missing_ok=True)
    with pytest.raises(ValueError, match=r"wordless is incomplete: it has no tokenizer\.json"):
        sentence_encoder(folder)
    folder = bert_folder(tmp_path / "bare")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="no text encoder that transformers reads") as caught:
        sentence_encoder(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "  ", None, 3])
def test_texts_without_words_are_bad_samples(tmp_path, text):
    with pytest.raises(SampleError, match="expected at least one word"):
        sentence_encoder(bert_folder(tmp_path / "bert"))(["red", text])


def test_pictures_are_the_features_of_another_backbone():
    backbone = small_backbone()
    pictures = coloured(5)["image"]
    encoder = backbone_encoder(backbone)
    vectors = encoder(pictures)
    images = torch.stack([torch.from_numpy(picture).permute(2, 0, 1) for picture in pictures]) / 255
    with torch.no_grad():
        tokens = backbone(as_sequence(backbone.stem(images))).embeddings.view(5, 17, 48)
    np.testing.assert_allclose(vectors, torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], 1), atol=1e-5)
    assert encoder.fingerprint == backbone_encoder(small_backbone()).fingerprint
    assert encoder.fingerprint != backbone_encoder(backbone, options={"crop_pct": 0.5}).fingerprint
    assert backbone_encoder(small_backbone(prefix=0)).dim == 48
    with pytest.raises(ValueError, match="text tokenizer has weights of its own"):
        backbone_encoder(backbone, "text")
    with pytest.raises(ValueError, match="This backbone is trained"):
        backbone_encoder(backbone.trainable_copy())


def test_each_different_sample_is_encoded_once_also_in_the_next_run():
    asked = []

    def function(texts):
        asked.extend(texts)
        return [[len(text), 1.0] for text in texts]

    texts = ["red", "green", "red", "blue", "green"]
    encoder = FrozenEncoder(function=function, dim=2, fingerprint="once 1", name="lengths")
    vectors, bad = encoder.vectors(texts)
    assert asked == ["red", "green", "blue"] and not bad
    assert vectors.tolist() == [[3, 1], [5, 1], [3, 1], [4, 1], [5, 1]]
    np.testing.assert_array_equal(encoder.vectors(texts)[0], vectors)
    assert len(asked) == 3, "the cache has them"
    FrozenEncoder(function=function, dim=2, fingerprint="once 2", name="lengths").vectors(texts)
    assert len(asked) == 6, "another encoder"


def test_bad_samples_are_told_by_their_positions():
    def function(texts):
        if "bad" in texts:
            raise SampleError("text is bad")
        return [[len(text)] for text in texts]

    encoder = FrozenEncoder(function=function, dim=1, fingerprint="bad 1", name="lengths")
    vectors, bad = encoder.vectors(["red", "bad", "green", "bad", "red"])
    assert vectors.tolist() == [[3], [5], [3]] and bad == {1: "text is bad", 3: "text is bad"}


def test_vectors_of_another_shape_or_without_numbers_are_refused():
    with pytest.raises(ValueError, match=r"colours gave an array of \(1, 3\) for 1 samples; expected \(1, 4\)"):
        colour_encoder(function=lambda texts: np.zeros((1, 3)))(["red"])
    with pytest.raises(ValueError, match="not finite"):
        colour_encoder(function=lambda texts: np.full((1, 4), np.nan))(["red"])


def test_equal_texts_are_one_and_arrays_are_not_compared():
    assert distinct(["a", "b", "a"]) == ([0, 1], [0, 1, 0])
    assert distinct([np.zeros(2)] * 2) == ([0, 1], [0, 1])
    assert distinct(["1", b"1"]) == ([0, 1], [0, 1]), "a text is no bytes"
