"""Indexes over HTTP: what a search finds, the passes that it shares with tasks, and one line for what is wrong."""

import io
import json

import numpy as np
import pytest
from PIL import Image

import metatx
from metatx.serving.command import build_service
from metatx.serving.indexes import FIELDS, Indexes, named_folders

NAMES = ["a red shoe", "a blue shirt", "a silver watch", "a green dress"]
URL = "/v1/indexes/shop/search"


def photo(shade):
    return np.full((32, 32, 3), shade, np.uint8)


@pytest.fixture(scope="module")
def shop(tmp_path_factory, nano):
    """Index of four names and two photos, and the folder that their files would lie in."""
    alignment = metatx.Alignment.from_pretrained("nano", nano)
    folder = tmp_path_factory.mktemp("shop") / "shop.index"
    items = {"name": NAMES, "price": [1.0, 2.0, 3.0, 4.0], "file": [f"/secret/{name}.jpg" for name in NAMES]}
    index = metatx.Index.build(folder, alignment, {"text": "name", "image": [photo(9), None, None, photo(200)]}, items)
    return index


@pytest.fixture(scope="module")
def by_file(tmp_path_factory):
    """Index whose source names files."""
    alignment = metatx.Alignment.from_pretrained("nano")
    folder = tmp_path_factory.mktemp("files")
    Image.fromarray(photo(9)).save(folder / "dark.png")
    index = metatx.Index.build(folder / "i", alignment, {"image": "file"}, {"file": [str(folder / "dark.png")]})
    return index


@pytest.fixture
def client(serve, shop, by_file):
    return serve(indexes={"shop": shop.folder, "files": by_file.folder})


def test_a_search_finds_what_the_index_finds(client, shop):
    asked = {"queries": ["a shoe", "a watch"], "modality": "text", "k": 2, "among": ["text"]}
    answer = client.post(URL, json=asked).json()
    assert answer["index"] == "shop"
    expected = shop.search(asked["queries"], modality="text", k=2, among=["text"])
    for found, hits in zip(answer["hits"], expected, strict=True):
        assert [hit["item"] for hit in found] == [hit.item for hit in hits]
        assert [hit["score"] for hit in found] == pytest.approx([hit.score for hit in hits], abs=1e-4)
        assert found[0]["columns"]["name"] == NAMES[hits[0].item]
    vectors = shop.vectors("text")[1][:1].tolist()
    [[hit]] = client.post(URL, json={"vectors": vectors, "k": 1, "among": ["text"]}).json()["hits"]
    assert hit["item"] == 0
    where = {"price": {"min": 2, "max": 3}, "name": ["a blue shirt", "a red shoe"]}
    [[hit]] = client.post(URL, json={**asked, "queries": ["a shoe"], "where": where}).json()["hits"]
    assert hit["item"] == 1


def test_a_photo_is_sent_as_a_file_or_as_numbers(client):
    content = io.BytesIO()
    Image.fromarray(photo(200)).save(content, "png")
    options = json.dumps({"modality": "image", "among": ["image"], "k": 1})
    sent = client.post(URL, files={"file": ("p.png", content.getvalue())}, data={"options": options}).json()
    listed = {"queries": [photo(200).tolist()], "modality": "image", "among": ["image"], "k": 1}
    for answer in (sent, client.post(URL, json=listed).json()):
        assert answer["hits"][0][0]["item"] == 3
        assert answer["hits"][0][0]["score"] > 0.999


def test_indexes_are_described(client):
    files, shop = client.get("/v1/indexes").json()["indexes"]
    assert files["name"] == "files"
    assert shop == {
        "name": "shop",
        "items": 4,
        "modalities": ["text", "image"],
        "queries": ["image", "text"],
        "columns": ["name", "price", "file"],
        "width": 192,
    }
    assert client.get("/v1/indexes/shop").json() == shop
    assert client.get("/v1/indexes/shops").status_code == 404
    body = client.get("/openapi.json").json()["paths"]["/v1/indexes/{name}/search"]["post"]["requestBody"]
    schema = body["content"]["application/json"]["schema"]
    assert set(schema["properties"]) == set(FIELDS), "all that is accepted, and nothing else"
    answer = client.post(URL, json=body["content"]["application/json"]["example"])
    assert answer.status_code == 200 and len(answer.json()["hits"][0]) == 4


def test_a_hit_names_no_folder_of_the_server(client):
    answer = client.post("/v1/indexes/files/search", json={"queries": ["dark"], "modality": "text"}).json()
    assert answer["hits"][0][0]["columns"] == {"file": "dark.png"}


def test_searches_share_passes_with_tasks(client):
    passes = []
    engine = client.service.engine
    outcomes = engine.pool.outcomes
    engine.pool.outcomes = lambda requests: passes.append({r.name for r in requests}) or outcomes(requests)
    task = next(iter(client.service.catalog.served))
    loaded = engine.pool.loaded(task)
    example = client.service.catalog.served[task].sample.example
    requests = [
        engine.pool.prepare("shop:text", "a shoe", "records"),
        engine.pool.prepare(task, example, "records"),
    ]
    vector, answer = engine.pool.answer(requests)
    assert passes == [{"shop:text", task}], "one pass of the backbone"
    assert vector.shape == (192,) and answer
    assert loaded is engine.pool.loaded(task)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 422, "Expected queries or vectors, one or more"),
        ([], 422, "Found []; expected"),
        ({"queries": []}, 422, "Expected queries or vectors"),
        ({"queries": ["a"], "vectors": [[1.0] * 192], "modality": "text"}, 422, "Expected queries or vectors"),
        ({"queries": ["a"]}, 422, "modality is None; expected the name"),
        ({"queries": ["a"], "modality": "audio"}, 422, "Unknown modality of queries 'audio'."),
        ({"queries": ["a"], "modality": "text", "file": "x"}, 422, "Unknown field 'file'. Choices: queries"),
        ({"queries": ["a"], "modality": "text", "wher": {}}, 422, "Unknown field 'wher'. Did you mean 'where'?"),
        ({"queries": ["a"], "modality": "text", "k": "5"}, 422, "k is '5'; expected a whole number"),
        ({"vectors": [["1.0"] * 192]}, 422, "equally many in each: '1.0' is none."),
        ({"vectors": [[True] * 192]}, 422, "equally many in each: True is none."),
        ({"queries": ["a"], "modality": "text", "k": 0}, 422, "k is 0; expected a whole number from 1 to 1,000."),
        ({"queries": ["a"], "modality": "text", "k": True}, 422, "k is True; expected"),
        ({"queries": ["a"], "modality": "text", "among": "image"}, 422, "among is 'image'; expected"),
        ({"queries": ["a"], "modality": "text", "among": ["audio"]}, 422, "Unknown modality of the index 'audio'"),
        ({"queries": ["a"], "modality": "text", "where": []}, 422, "where is []; expected"),
        ({"queries": ["a"], "modality": "text", "where": {"colour": 1}}, 422, "Unknown column of the items 'colour'"),
        ({"queries": ["a"], "modality": "text", "where": {"price": [[1]]}}, 422, "price holds double"),
        ({"queries": ["a"], "modality": "text", "centre": 1}, 422, "centre is 1; expected true or false."),
        ({"queries": ["/etc/passwd.png"], "modality": "image"}, 422, "expected numbers, or a file"),
        ({"queries": [{"path": "/etc/x.png"}], "modality": "image"}, 422, "files are not sent within JSON"),
        ({"queries": [""], "modality": "text"}, 422, "text is empty"),
        ({"queries": ["a"] * 65, "modality": "text"}, 413, "65 queries; expected at most 64"),
        ({"vectors": [[1.0, 2.0]]}, 422, "The vectors are 2 wide; those of the index are 192 wide."),
        ({"vectors": [[0.0] * 192]}, 422, "is all zeros"),
        ({"vectors": [[1.0], [1.0, 2.0]]}, 422, "vectors is no list of lists of numbers"),
        ({"vectors": [["a"]]}, 422, "vectors is no list of lists of numbers"),
    ],
)
def test_a_bad_request_is_told_in_a_line(client, body, status, message):
    answer = client.post(URL, json=body)
    assert answer.status_code == status
    assert message in answer.json()["detail"]
    assert "\n" not in answer.json()["detail"]


def test_an_unknown_index_is_404(client):
    answer = client.post("/v1/indexes/shoop/search", json={})
    assert answer.status_code == 404
    assert "Did you mean 'shop'?" in answer.json()["detail"]


def test_what_is_added_is_found_at_the_next_search(client, by_file):
    index = metatx.Index.open(by_file.folder)
    count = client.get("/v1/indexes").json()["indexes"][0]["items"]
    index.add({"image": [photo(250)]}, {"file": ["x"]})
    assert client.get("/v1/indexes").json()["indexes"][0]["items"] == count + 1


def test_an_index_of_another_backbone_is_refused(shop):
    pool = metatx.TaskPool(metatx.load_backbone("nano", pretrained=False))
    with pytest.raises(ValueError, match="Index shop was made with backbone nano, but the server has"):
        Indexes(pool, {"shop": shop.folder})


def test_the_command_names_indexes(tmp_path):
    assert named_folders(["shop=a/b"])["shop"].is_absolute()
    for bad in ("shop", "shop="):
        with pytest.raises(ValueError, match=r"--index is .*; expected NAME=FOLDER"):
            named_folders([bad])
    for bad in ("=x", "a/b=x", ".a=x", "a b=x"):
        with pytest.raises(ValueError, match="expected letters, digits, _, - and ., of which a letter or a digit"):
            named_folders([bad])
    with pytest.raises(ValueError, match="--index names shop twice"):
        named_folders(["shop=a", "shop=b"])
    assert "index" in build_service.__kwdefaults__
