"""The captioning recipe end to end, on pictures of two colours and language models of random weights."""

import caption_flickr8k as recipe
import pandas as pd
import pytest
from PIL import Image

import metatx
from tests.backbone.language_models import write_model

TEXTS = {0: ["a dark wall", "night"], 1: ["a white wall", "day"]}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    rows = []
    for at in range(16):
        Image.new("RGB", (32, 32), (255 * (at % 2),) * 3).save(tmp_path / f"images/{at}.png")
        split = ["train", "train", "train", "validation", "test"][at % 5]
        texts = {name: TEXTS[at % 2][number % 2] for number, name in enumerate(recipe.CAPTIONS)}
        rows.append({"image": f"images/{at}.png", **texts, "split": split})
    pd.DataFrame(rows).to_csv(tmp_path / "flickr8k.csv", index=False)
    return tmp_path


def test_caption_flickr8k(folder, tmp_path, capsys) -> None:
    model = write_model(tmp_path / "llama", "llama", tie_word_embeddings=True)
    settings = metatx.TrainingSettings(epochs=2, batch_size=8, lr=1e-2)
    given = {"language": str(model), "pictures": "nano", "data": str(folder), "settings": settings, "words": 5}
    measured = recipe.main(**given, out=str(tmp_path / "run"), test=True)
    assert measured["nats_per_token"] > 0
    said = capsys.readouterr().out
    assert "nats a token given another's picture" in said and "constant answer: CIDEr" in said
    assert "caption of the nearest picture" in said and "a person, against the other four" in said
    task = metatx.Task.from_pretrained(tmp_path / "run/task")
    assert len(task.predict([{"photo": str(folder / "images/0.png")}])) == 1
    recipe.main(**{**given, "words": 0, "baseline": False}, random_language=True, random_pictures=True)


def test_controls_stand_beside_the_run(folder, tmp_path, capsys) -> None:
    model = write_model(tmp_path / "llama", "llama", tie_word_embeddings=True)
    settings = metatx.TrainingSettings(epochs=1, batch_size=8)
    recipe.main(
        language=str(model),
        pictures="nano",
        data=str(folder),
        settings=settings,
        words=2,
        baseline=False,
        control=True,
        most=8,
    )
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "own picture" in line]
    assert [row[0] for row in rows] == ["as", "random_pictures", "random_language"]
    assert len({tuple(row[-6:]) for row in rows}) == 3, "each has numbers of its own"
