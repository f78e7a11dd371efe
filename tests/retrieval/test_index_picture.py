"""Maps of an index: of chosen modalities and items, with the samples that the index keeps, and places for an export."""

import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import metatx
from metatx.cli import main
from tests.retrieval.points import COLOURS

COUNT = 30


def as_png(colour):
    file = io.BytesIO()
    Image.new("RGB", (24, 24), colour).save(file, "png")
    return {"bytes": file.getvalue(), "path": None}


@pytest.fixture
def index(tmp_path):
    """30 coloured pictures with names, and a column that no picture shows."""
    kinds = [list(COLOURS)[number % 3] for number in range(COUNT)]
    cells = {
        "photo": [as_png(COLOURS[kind]) for kind in kinds],
        "name": [f"{kind} {number}" for number, kind in enumerate(kinds)],
        "kind": kinds,
        "tags": [["a"]] * COUNT,
    }
    alignment = metatx.Alignment.from_pretrained("nano")
    columns = {"image": "photo", "text": "name"}
    return metatx.Index.build(tmp_path / "shop.index", alignment, columns, items=pd.DataFrame(cells))


def data_of(path):
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text(), re.DOTALL)[1])


def test_a_map_of_an_index_shows_what_it_keeps(index, tmp_path):
    index.delete([0])
    seen = index.picture(tmp_path / "map.html", colour="kind")
    data = data_of(tmp_path / "map.html")
    assert data["count"] == len(seen.points) == 2 * (COUNT - 1) and len(data["sheets"]) == 1
    assert [column["name"] for column in data["columns"]] == ["modality", "name", "kind"]
    assert "red 0" not in data["labels"]["values"] and "<title>shop</title>" in (tmp_path / "map.html").read_text()

    index.picture(tmp_path / "some.html", among=["text"], where={"kind": ["red", "blue"]}, sample=7)
    some = data_of(tmp_path / "some.html")
    assert some["count"] == 7 and not some["sheets"] and all("green" not in name for name in some["labels"]["values"])
    assert "7 of 19 items, drawn at random" in (tmp_path / "some.html").read_text()


def test_vectors_without_samples_and_columns_are_drawn(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32)
    index = metatx.Index.build(tmp_path / "x.index", None, {"image": vectors, "text": vectors[:, ::-1].copy()})
    assert index.picture(tmp_path / "map.html").points.shape == (24, 2)
    alike = metatx.Index.build(tmp_path / "y.index", None, {"image": np.ones((3, 8)), "text": vectors[:3]})
    assert alike.picture(tmp_path / "map.html").points.shape == (6, 2)


def test_an_export_gets_the_places_of_its_rows(index, tmp_path):
    places = index.places()
    assert places.shape == (2 * COUNT, 2)
    table = pd.read_parquet(index.export(tmp_path / "x.parquet", neighbours=3, places=places))
    np.testing.assert_array_equal(table[["x", "y"]].to_numpy(), places)
    near = table.neighbors[0]
    assert set(near) == {"ids", "distances"} and len(near["ids"]) == len(near["distances"]) == 3


def test_the_command_draws_and_says_how_far_to_believe_it(index, tmp_path, capsys):
    out = tmp_path / "map.html"
    words = ["--colour", "kind", "--among", "image", "--where", "kind=red", "--where", "kind=blue"]
    main(["picture", str(index.folder), "--out", str(out), *words])
    assert "map.html: t-SNE of 20 vectors: trustworthiness" in capsys.readouterr().out
    assert data_of(out)["count"] == 20


def test_hits_of_the_command_are_a_page(index, tmp_path):
    out = tmp_path / "hits.html"
    main(["search", str(index.folder), "red", "-k", "3", "--among", "image", "--out", str(out)])
    text = out.read_text()
    assert text.count("<li>") == text.count("data:image/jpeg") == 3 and "<h2>red</h2>" in text
    main(["search", str(index.folder), "--item", "1", "--modality", "image", "-k", "2", "--out", str(out)])
    assert out.read_text().count("data:image/jpeg") >= 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"colour": "knd"}, "column to colour by.*'knd'"),
        ({"colour": "photo"}, "column to colour by.*'photo'"),
        ({"among": ["audio"]}, "modality of the index.*'audio'"),
        ({"where": {"kind": "violet"}}, "no items to draw"),
        ({"sample": 0}, "sample is 0"),
    ],
)
def test_what_an_index_does_not_hold_is_refused(index, tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        index.picture(tmp_path / "map.html", **options)
    assert not (tmp_path / "map.html").exists()
