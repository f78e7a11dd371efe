"""Names that a stranger's data give to files: found within their folder alone, and said where they lead out of it."""

import json
import shutil

import pandas as pd
import pytest
from PIL import Image

from metatx.data.tables import read_splits
from metatx.reading.coco import read_coco
from metatx.reading.folders import check_folder, inside
from tests.coco_files import CONTENT

PNG = (".png",)
LEADING = ["../secret.png", "images/../../secret.png", "{}/secret.png", "link.png", "linked/secret.png"]
OUT = "(lies outside of|is a link that leads out of) .*data"


def folder(tmp_path):
    """A folder of data beside a picture that is none of its business, with links to that."""
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    for file in (tmp_path / "secret.png", data / "a.png", data / "b.png"):
        Image.new("RGB", (60, 40)).save(file)
    (data / "link.png").symlink_to(tmp_path / "secret.png")
    (data / "linked").symlink_to(tmp_path)
    return data


@pytest.mark.parametrize("name", LEADING)
@pytest.mark.parametrize("first", [True, False])
def test_coco_names_no_picture_out_of_its_folder(tmp_path, name, first):
    data, content = folder(tmp_path), json.loads(json.dumps(CONTENT))
    content["images"][0 if first else 1]["file_name"] = name.format(tmp_path)
    (data / "boxes.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=OUT):
        read_coco(data / "boxes.json")
    with pytest.raises(ValueError, match=OUT):
        read_splits(data, PNG)


@pytest.mark.parametrize("name", LEADING[:3])
def test_names_of_another_machine_are_found_by_their_end(tmp_path, name):
    data, content = folder(tmp_path), json.loads(json.dumps(CONTENT))
    (data / "linked").unlink()
    shutil.copy(data / "a.png", data / "secret.png")
    content["images"] = [{**content["images"][0], "file_name": name.format(tmp_path)}]
    content["annotations"] = content["annotations"][:1]
    (data / "boxes.json").write_text(json.dumps(content))
    assert read_coco(data / "boxes.json")["file"] == [str(data / "secret.png")]


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("name", LEADING)
def test_metadata_name_no_file_out_of_their_folder(tmp_path, monkeypatch, form, name):
    data = folder(tmp_path)
    monkeypatch.chdir(tmp_path)  # where a name without folders could be found
    table = pd.DataFrame({"file_name": ["a.png", name.format(tmp_path)], "label": ["x", "y"]})
    write = {"csv": table.to_csv, "parquet": table.to_parquet}.get(form)
    if write:
        write(data / f"metadata.{form}", index=False)
    else:
        table.to_json(data / "metadata.jsonl", orient="records", lines=True)
    with pytest.raises(ValueError, match=OUT):
        read_splits(data, PNG)


def test_a_table_of_the_users_own_may_name_files_anywhere(tmp_path):
    data = folder(tmp_path)
    pd.DataFrame({"image": ["../secret.png", str(tmp_path / "secret.png")]}).to_csv(data / "mine.csv", index=False)
    found = read_splits(data / "mine.csv", PNG)["all"]["image"]
    assert [(tmp_path / "secret.png").samefile(file) for file in found] == [True, True]


def test_the_folder_itself_may_be_a_link_and_links_may_stay_in_it(tmp_path, monkeypatch):
    data = folder(tmp_path)
    (tmp_path / "data_link").symlink_to(data)
    (data / "images" / "again.png").symlink_to(data / "a.png")
    for root in (data, tmp_path / "data_link"):
        for name in ("a.png", "images/again.png", "images/../a.png", "gone.png"):
            assert inside(root, root / name, "") == root / name
    monkeypatch.setenv("METATX_FOLLOW_LINKS", "1")
    assert inside(data, data / "link.png", "") == data / "link.png"
    with pytest.raises(ValueError, match="lies outside of"):
        inside(data, data / ".." / "secret.png", "The name")


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"images":' + b"[" * 100_000, b'{"a":' * 100_000])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "metadata.jsonl"])
def test_json_that_is_too_deep_is_one_line(tmp_path, content, name):
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} cannot be read as json") as caught:
        read_splits(tmp_path if name == "metadata.jsonl" else tmp_path / name, PNG)
    assert "\n" not in str(caught.value)


def test_names_in_json_that_are_no_text_are_said(tmp_path):
    data, content = folder(tmp_path), json.loads(json.dumps(CONTENT))
    content["images"][0]["file_name"] = "\ud800.png"
    (data / "boxes.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"file_name of entry 1 of images is '\\ud800.png'"):
        read_coco(data / "boxes.json")
    (tmp_path / "a.jsonl").write_text(json.dumps({"image": "\ud800.png"}))
    with pytest.raises(ValueError, match=r"a.jsonl holds a word that is no text, '\\ud800.png'"):
        read_splits(tmp_path / "a.jsonl", PNG)


def test_a_snapshot_in_hugging_face_s_cache_links_to_blobs_of_its_own_repository(tmp_path):
    repository = tmp_path / "datasets--user--set"
    snapshot = repository / "snapshots" / "abc"
    for folder in (repository / "blobs", snapshot / "train"):
        folder.mkdir(parents=True)
    (repository / "blobs" / "1234").write_text("x")
    (snapshot / "train" / "a.txt").symlink_to("../../../blobs/1234")
    check_folder(snapshot)
    check_folder(snapshot / "train")
    (tmp_path / "other").write_text("y")
    (snapshot / "train" / "b.txt").symlink_to("../../../../other")
    with pytest.raises(ValueError, match="b.txt is a link that leads out"):
        check_folder(snapshot)
