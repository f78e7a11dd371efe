"""The recipe of pictures, words and speech, end to end on a few coloured pictures."""

import csv

import align_flickr8k as recipe
import numpy as np
import pytest
import soundfile
from PIL import Image

from metatx.pretraining.alignment import Alignment
from metatx.pretraining.encoders import sentence_encoder
from metatx.pretraining.loop import PretrainingSettings
from tests.pairs import COLOURS, coloured
from tests.pretraining.anchors import bert_folder


@pytest.fixture
def folder(tmp_path) -> str:
    """Forty pictures with five captions, and a tone that sounds higher the later their colour comes."""
    samples = coloured(40)
    (tmp_path / "data").mkdir()
    rows = []
    for number, (picture, text) in enumerate(zip(samples["image"], samples["text"], strict=True)):
        Image.fromarray(picture).save(tmp_path / "data" / f"{number}.png")
        pitch = 300 * (1 + list(COLOURS).index(text.split()[-1]))
        soundfile.write(tmp_path / "data" / f"{number}.wav", np.sin(np.arange(8000) * pitch * 6.28 / 16000) / 2, 16000)
        split = "train" if number < 32 else ("validation", "test")[number % 2]
        rows.append([number, f"{number}.png", f"{number}.wav", *[f"{word} {text}" for word in "abcde"], split])
    with (tmp_path / "data" / "flickr8k.csv").open("w") as file:
        csv.writer(file).writerows([["id", "image", "speech", *recipe.CAPTIONS, "split"], *rows])
    return str(tmp_path / "data")


def test_align_flickr8k(tmp_path, folder, capsys) -> None:
    settings = PretrainingSettings(epochs=2, batch_size=8, lr=3e-3, precision="fp32")
    anchor = str(bert_folder(tmp_path / "bert"))
    measures = recipe.main(
        out=str(tmp_path / "a"), data=folder, anchor=anchor, speech="halves", settings=settings, test=True
    )
    assert len(measures) == 18 and all(0 <= value <= 1 for value in measures.values())
    assert "test, seed 0, 32 rows" in capsys.readouterr().out
    again = Alignment.from_pretrained(tmp_path / "a" / "alignment", encoders={"text": sentence_encoder(anchor)})
    assert sorted(again.towers) == ["audio", "image", "text"]


def test_a_model_of_its_own_for_words_and_another_for_pictures(folder) -> None:
    settings = PretrainingSettings(epochs=1, batch_size=8, lr=3e-3, precision="fp32")
    measures = recipe.main(data=folder, pictures="nano", settings=settings, refit=True)
    assert sorted(measures) == [
        f"{way}_{name}" for way in ("image_to_text", "text_to_image") for name in ("mrr", "recall@1", "recall@10")
    ]
