"""A picture of points, as a page and as a png: what is in it, what is refused, what is bounded."""

import json
import re
from dataclasses import replace

import pytest
from PIL import Image

from metatx.retrieval import map_page, picture
from metatx.retrieval.picture import write_picture
from tests.retrieval.points import coloured


def data_of(path):
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text(), re.DOTALL)[1])


def test_a_page_holds_points_columns_thumbnails_and_how_far_to_believe_it(tmp_path, caplog):
    out = tmp_path / "map.html"
    with caplog.at_level("INFO", "metatx"):
        seen = write_picture(out, coloured(), title="Things", notes=["A note."])
    data = data_of(out)
    assert (data["count"], data["near"]) == (120, 10) and len(data["sheets"]) == 1
    assert [column["name"] for column in data["columns"]] == ["modality", "name", "kind", "price"]
    assert data["colour"] == 0 and data["labels"]["values"][:1] == ["red thing 0"]
    text = out.read_text()
    assert f"Trustworthiness {seen.trustworthiness:.2f}" in text and f"{seen.kept:.0%} of the points" in text
    assert "<p>A note.</p>" in text and "t-SNE of 120 vectors" in caplog.text
    assert not re.findall(r"https?://", text), "a page needs no network"
    assert [path.name for path in tmp_path.iterdir()] == ["map.html"]


def test_the_same_points_give_the_same_page(tmp_path):
    for name in ("a.html", "b.html"):
        write_picture(tmp_path / name, coloured(20), colour="kind")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert data_of(tmp_path / "a.html")["colour"] == 2


def test_thumbnails_are_bounded_and_unreadable_ones_told(tmp_path, monkeypatch):
    monkeypatch.setattr(picture, "MOST_PICTURES", 40)
    monkeypatch.setattr(map_page, "SHEET", 25)
    points = coloured()
    gone = replace(points, read=lambda rows: ["gone.png" if row == 3 else points.read([row])[0] for row in rows])
    write_picture(tmp_path / "map.html", gone)
    text = (tmp_path / "map.html").read_text()
    assert "40 of 60 pictures are shown" in text and "gone.png" in text
    assert len(data_of(tmp_path / "map.html")["sheets"]) == 2


@pytest.mark.parametrize("colour", [None, "kind", "price", "name"])
def test_a_png_is_drawn(tmp_path, colour):
    points = coloured(40, gap=[None, *["x"] * 79])
    write_picture(tmp_path / "map.png", points, colour=colour)
    with Image.open(tmp_path / "map.png") as image:
        assert image.format == "PNG" and image.width > 800 and len(image.convert("RGB").getcolors(1 << 20)) > 20


def test_what_cannot_be_drawn_is_refused_in_a_line(tmp_path, monkeypatch):
    points = coloured(4)
    for out, kind, words in [
        ("map.svg", ValueError, r"map\.svg; expected a name with \.html or \.png"),
        ("no/map.html", FileNotFoundError, "folder .*no does not exist; make it first"),
    ]:
        with pytest.raises(kind, match=words):
            write_picture(tmp_path / out, points)
    with pytest.raises(ValueError, match="column to colour by.*'kin'.*kind"):
        write_picture(tmp_path / "map.html", points, colour="kin")
    with pytest.raises(ValueError, match="no items to draw"):
        write_picture(tmp_path / "map.html", replace(points, vectors=points.vectors[:0], modalities=[]))
    monkeypatch.setattr(picture, "MOST_POINTS", 7)
    with pytest.raises(ValueError, match="8 vectors to draw, at most 7.*--sample 7"):
        write_picture(tmp_path / "map.html", points)
    assert not list(tmp_path.iterdir())


def test_points_without_samples_and_columns_are_drawn(tmp_path):
    points = replace(coloured(5), columns={}, read=lambda rows: [None] * len(rows))
    write_picture(tmp_path / "map.html", points)
    assert data_of(tmp_path / "map.html")["labels"]["values"] == [f"item {n}" for n in range(1, 11)]
