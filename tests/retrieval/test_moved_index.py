"""Index: files that it names are found from any working folder, and when it was moved, alone or with them."""

import shutil

import numpy as np
import pytest
from PIL import Image

import metatx
from tests.pairs import colour_alignment, coloured, small_backbone


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """Folder with an alignment, two photos, and an index of them that was built from relative paths."""
    folder = tmp_path / "shop"
    (folder / "photos").mkdir(parents=True)
    for number in range(2):
        Image.fromarray(np.full((32, 32, 3), 90 * number, np.uint8)).save(folder / f"photos/{number}.png")
    alignment = colour_alignment(small_backbone(), coloured(12))
    alignment.save_pretrained(folder / "aligned", about="test")
    monkeypatch.chdir(folder)
    items = {"photo": ["photos/0.png", "photos/1.png"], "name": ["dark", "light"]}
    metatx.Index.build("shop.index", alignment, {"image": "photo", "text": "name"}, items)
    monkeypatch.chdir(tmp_path)
    return folder


def paths(folder):
    return [row["photo"] for row in metatx.Index.open(folder).rows([0, 1])]


def test_relative_paths_hold_from_any_folder(shop):
    assert paths(shop / "shop.index") == [str(shop / f"photos/{number}.png") for number in range(2)]


def test_an_index_that_is_moved_with_its_files_finds_them(shop, tmp_path):
    moved = tmp_path / "moved"
    shutil.move(shop, moved)
    index = metatx.Index.open(moved / "shop.index")
    assert paths(index.folder) == [str(moved / f"photos/{number}.png") for number in range(2)]
    assert len(index.search([paths(index.folder)[0]], modality="image", k=1)) == 1, "its alignment moved with it"
    where = {"photo": str(moved / "photos/1.png")}
    assert index.search(index.vectors("image")[1][:1], where=where)[0][0].item == 1
    index.picture(tmp_path / "map.html")
    assert (tmp_path / "map.html").read_text().count("data:image/jpeg") > 0


def test_an_index_that_is_moved_alone_finds_files_where_they_were(shop, tmp_path):
    shutil.move(shop / "shop.index", tmp_path / "other.index")
    assert paths(tmp_path / "other.index") == [str(shop / f"photos/{number}.png") for number in range(2)]
    assert metatx.Index.open(tmp_path / "other.index").alignment.spec == str(shop / "aligned")


def test_what_is_added_to_a_moved_index_and_compacted_is_found(shop, tmp_path):
    moved = tmp_path / "moved"
    shutil.move(shop, moved)
    index = metatx.Index.open(moved / "shop.index")
    Image.fromarray(np.full((32, 32, 3), 200, np.uint8)).save(moved / "photos/2.png")
    again = {"photo": [str(moved / "photos/0.png"), str(moved / "photos/2.png")], "name": ["dark", "new"]}
    assert index.add({"image": "photo", "text": "name"}, again) == range(2, 3), "the first is there already"
    index.compact()
    last = tmp_path / "last"
    shutil.move(moved, last)
    index = metatx.Index.open(last / "shop.index")
    assert [row["photo"] for row in index.rows(range(3))] == [str(last / f"photos/{n}.png") for n in range(3)]
