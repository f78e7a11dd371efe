"""Tasks of several inputs over HTTP: objects of inputs, forms with files, what is missing, what is bad."""

import io
import json

import hypothesis
import hypothesis.strategies as st
import jsonschema
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import metatx
from metatx.serving.limits import Limits
from tests.fuzz import EXAMPLES

PICTURE = (np.arange(24 * 24 * 3) % 251).astype(np.uint8).reshape(24, 24, 3)
FACTS = {"rooms": 3.0, "kind": "flat"}
SAMPLE = {"photo": PICTURE.tolist(), "words": "a red door", "facts": FACTS}
HOUSE = "/v1/tasks/house/predict"


def png(array=PICTURE):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def alone(nano, houses):
    """The task by itself, in the pool's precision."""
    return metatx.Task.from_pretrained(houses / "house", nano).set_inference(precision="fp32")


def close(answer, expected):
    """True if answers agree but for the last digits."""
    return answer["prediction"] == expected["prediction"] and all(
        np.isclose(answer[name], value, atol=1e-4) for name, value in expected.items() if name != "prediction"
    )


def detail(found):
    """Line that tells why a request was refused."""
    assert 400 <= found.status_code < 500
    line = found.json()["detail"]
    assert "\n" not in line
    return line


def test_null_and_absent_inputs_are_missing(serve, houses, alone):
    client = serve(houses)
    inputs = [SAMPLE, {"words": "quiet"}, {"photo": None, "words": "quiet", "facts": None}, {"facts": FACTS}]
    answers = client.post(HOUSE, json={"inputs": inputs}).json()["answers"]
    expected = alone.records([{**SAMPLE, "photo": PICTURE}, *inputs[1:]])
    assert all(map(close, answers, expected)) and close(answers[1], answers[2])
    assert answers[0] != answers[1] != answers[3]
    mixed = [{"task": name, "input": {"words": "quiet"}} for name in ("early", "house")]
    found = client.post("/v1/predict", json={"inputs": mixed}).json()["answers"]
    assert close(found[1]["answer"], answers[1])


def test_a_form_holds_files_by_sample_and_input_and_the_rest_as_json(serve, houses, alone):
    client = serve(houses)
    files = {"0.photo": ("mine.PNG", png()), "2.photo": ("a.png", png()), "2.words": ("a.txt", b"quiet")}
    values = [{"words": "a red door"}, {"facts": FACTS}]
    found = client.post(HOUSE, files=files, data={"inputs": json.dumps(values)})
    assert found.status_code == 200, found.text
    samples = [{"photo": PICTURE, **values[0]}, values[1], {"photo": PICTURE, "words": "quiet"}]
    assert all(map(close, found.json()["answers"], alone.records(samples)))
    vectors = client.post("/v1/tasks/house/embed", files={"0.photo": ("a.png", png())}).json()["embeddings"]
    assert np.allclose(vectors, alone.embed([{"photo": PICTURE}]), atol=1e-4)


def archive():
    """Archive of two pictures, as MedMNIST has them."""
    file = io.BytesIO()
    parts = {f"{split}_{kind}" for split in ("train", "val", "test") for kind in ("images", "labels")}
    np.savez(file, **{name: np.zeros((2, 28, 28) if "images" in name else (2, 1), np.uint8) for name in parts})
    return file.getvalue()


FORMS = [
    ({"0.photo": ("a.npz", archive())}, {}, 422, "input photo: The file holds 2 samples; expected one"),
    ({"0.photo": ("a.png", b"no picture")}, {}, 415, "input photo: The content is not that of a .png file"),
    ({"0.photo": ("a.heic", png())}, {}, 415, "input photo: The file is .heic; this task takes .png"),
    ({"0.photo": ("a.txt", b"words")}, {}, 415, "input photo: The file is .txt"),
    ({"0.words": ("a.png", png())}, {}, 415, "input words: The file is .png; this task takes .txt"),
    ({"0.facts": ("a.png", png())}, {}, 415, "input facts: The file is .png; this task takes no files"),
    ({"0.photo": ("a.png", b"")}, {}, 422, "input photo: The file is empty"),
    ({"0.photo": ("a.jpg", b"\xff\xd8\xff\xe0" + bytes(50))}, {}, 422, "input photo: photo.jpg"),
    ({"0.foto": ("a.png", png())}, {}, 422, "Did you mean 'photo'"),
    ({"0.../../photo": ("a.png", png())}, {}, 422, "Unknown input"),
    ({"file": ("a.png", png())}, {}, 422, "expected files named INDEX.NAME, such as 0.photo"),
    ({"1.photo": ("a.png", png())}, {}, 422, "inputs[0]: all inputs are missing"),
    ({"2000.photo": ("a.png", png())}, {}, 413, "2,001 inputs; expected at most 1,024"),
    ({"-1.photo": ("a.png", png())}, {}, 422, "expected files named INDEX.NAME"),
    ({"0.photo": ("a.png", png())}, {"inputs": "{}"}, 422, "expected an array of objects"),
    ({"0.photo": ("a.png", png())}, {"inputs": "[5]"}, 422, "inputs[0] is 5; expected an object"),
    ({"0.photo": ("a.png", png())}, {"inputs": "[{"}, 400, "cannot be read"),
    ({"0.photo": ("a.png", png())}, {"inputs": '[{"photo": [[1]]}]'}, 422, "came as a file and as JSON"),
    ({"0.photo": ("a.png", png())}, {"inputs": '[{"facts": {"rooms": "x"}}]'}, 422, "input facts: column "),
    ({"0.photo": ("a.png", png())}, {"0.words": "quiet"}, 422, "a field '0.words'"),
    ({}, {"inputs": "[]", "x": ""}, 422, "a field 'x'"),
]


@pytest.mark.parametrize(("files", "fields", "status", "line"), FORMS)
def test_a_bad_form_gives_one_line_that_names_the_input(serve, houses, files, fields, status, line):
    form = [*files.items(), *((name, (None, text)) for name, text in fields.items())]
    found = serve(houses).post(HOUSE, files=form)
    assert found.status_code == status and line in detail(found) and "/tmp" not in found.text


def test_a_file_for_a_task_of_several_inputs_names_its_input(serve, houses, trained):
    client = serve(houses)
    found = client.post("/v1/predict", files={"house": ("a.png", png())})
    assert found.status_code == 422 and "each file as a part INDEX.NAME, such as 0.photo" in detail(found)
    twice = [("0.photo", ("a.png", png())), ("0.photo", ("b.png", png()))]
    assert "two parts '0.photo'" in detail(client.post(HOUSE, files=twice))
    plain = serve(trained).post("/v1/tasks/light/predict", files={"0.photo": ("a.png", png())})
    assert plain.status_code == 422 and "expected file (files), input (JSON)" in detail(plain)


def test_damage_in_one_file_does_not_end_the_others(serve, houses):
    client = serve(houses)
    bad = {"0.photo": ("a.png", png()[:60])}
    assert "input photo: image file photo.png is truncated" in detail(client.post(HOUSE, files=bad))
    assert client.post(HOUSE, files={"0.photo": ("a.png", png())}).status_code == 200


def test_an_input_whose_parser_may_crash_is_read_apart(serve, nano, tmp_path):
    molecules = ["CCO", "CCN", "CCC", "OCC"] * 2
    samples = [{"molecule": name, "words": name if number % 3 else None} for number, name in enumerate(molecules)]
    inputs = {"molecule": "graph", "words": "text"}
    metatx.Task.from_data(nano, inputs, (samples, ["a", "b"] * 4)).save_pretrained(tmp_path / "both")
    client = serve(tmp_path)
    body = {"inputs": [{"molecule": "CCO", "words": "CCO"}, {"molecule": "CCO"}, {"words": "CCO"}]}
    found = client.post("/v1/tasks/both/predict", json=body)
    assert found.status_code == 200 and len(found.json()["answers"]) == 3
    bad = client.post("/v1/tasks/both/predict", json={"inputs": [{"molecule": "C(("}]})
    assert bad.status_code == 422 and detail(bad).startswith("input molecule: ")


BAD = [
    ({}, "all inputs are missing; expected at least one of photo, words, facts"),
    ({"photo": None, "words": None}, "all inputs are missing"),
    ({"words": " ", "facts": {"rooms": None, "kind": None}}, "all inputs are missing"),
    ({"foto": None, "words": "quiet"}, "Did you mean 'photo'"),
    ({"rooms": 3.0}, "Unknown input 'rooms'"),
    ("/etc/passwd", "expected an object of photo, words, facts"),
    (["a", "b", "c"], "found a list; expected an object"),
    (5, "found a int; expected an object"),
    ({"photo": "/etc/hostname.png"}, "input photo: found '/etc/hostname.png'; expected numbers, or a file: .png"),
    ({"photo": {"path": "/etc/a.png", "bytes": None}}, "input photo: found bytes and path; expected numbers"),
    ({"photo": "http://127.0.0.1/a.png"}, "input photo: found "),
    ({"photo": [[1, 2], [3]]}, "input photo: found lists of unequal length"),
    ({"words": []}, "input words: "),
    ({"facts": {"rooms": "many", "kind": "flat"}}, "input facts: column rooms: found 'many'"),
    ({"facts": {"kind": "flat"}}, "input facts: column rooms: absent"),
    ({"facts": "/etc/passwd"}, "input facts: column rooms: absent from a row"),
    ({"facts": ["metatx.Task", 1]}, "input facts: column rooms: absent from a row"),
]


@pytest.mark.parametrize(("value", "line"), BAD)
def test_a_bad_object_gives_one_line(serve, houses, value, line):
    client = serve(houses)
    for task in ("house", "early"):
        found = client.post(f"/v1/tasks/{task}/predict", json={"inputs": [value]})
        assert found.status_code == 422 and line in detail(found)


def test_words_that_name_a_file_are_words(serve, houses, alone, tmp_path):
    client = serve(houses)
    file = tmp_path / "secret.txt"
    file.write_text("quiet")
    for words in (str(file), "/etc/passwd", "http://127.0.0.1/", "metatx.Task"):
        found = client.post(HOUSE, json={"inputs": [{"words": words}, {"words": "quiet"}]}).json()["answers"]
        assert close(found[0], alone.records([{"words": words}])[0]) and not close(found[0], found[1])


def test_inputs_that_are_too_long_together_are_refused_alone(serve, houses):
    client = serve(houses)
    body = {"inputs": [{"task": "early", "input": {"words": "quiet " * 60}}]}
    found = client.post("/v1/predict", json=body)
    assert (
        found.status_code == 422
        and "tokens together (words " in detail(found)
        and "expected at most 40" in detail(found)
    )
    body["inputs"][0]["task"] = "house"
    assert client.post("/v1/predict", json=body).status_code == 200
    short = serve(houses, limits=Limits(tokens=40))
    assert short.post("/v1/predict", json=body).status_code == 413


def test_a_task_of_several_inputs_is_described(serve, houses, caplog):
    caplog.set_level("INFO", "metatx.serving")
    client = serve(houses)
    assert "house is served: photo (image), words (text), facts (tabular) -> classification" in caplog.text
    task = client.get("/v1/tasks/house").json()
    assert task["modality"] == "image, text, tabular" and task["files"][0] == ".png" and task["files"][-1] == ".txt"
    assert [(part["name"], part["modality"]) for part in task["inputs"]] == [
        ("photo", "image"),
        ("words", "text"),
        ("facts", "tabular"),
    ]
    assert task["inputs"][1]["files"] == [".txt"] and task["inputs"][2]["files"] == []
    jsonschema.Draft202012Validator.check_schema(task["input_schema"])
    jsonschema.validate(task["example"], task["input_schema"])
    assert list(task["example"]) == ["photo", "words", "facts"]
    answer = client.post(HOUSE, json={"inputs": [task["example"]]}).json()["answers"][0]
    document = client.get("/openapi.json").json()
    operation = document["paths"][HOUSE]["post"]
    assert "photo (image, .png" in operation["description"] and "facts (tabular)" in operation["description"]
    content = operation["requestBody"]["content"]
    assert content["application/json"]["example"] == {"inputs": [task["example"]]}
    form = content["multipart/form-data"]["schema"]
    assert list(form["patternProperties"]) == [r"^[0-9]+\.(photo|words)$"] and list(form["properties"]) == ["inputs"]
    published = operation["responses"]["200"]["content"]["application/json"]["example"]["answers"][0]
    assert close(published, answer)


@pytest.fixture(scope="module")
def columns(nano, tmp_path_factory):
    """A folder of a task whose inputs read columns of other names."""
    folder = tmp_path_factory.mktemp("columns")
    inputs = [
        metatx.Input(name="photo", modality="image", columns=["picture"], options={"image_size": 32}),
        metatx.Input(name="facts", modality="tabular", columns=["top", "bottom"]),
    ]
    rows = [{"picture": PICTURE, "top": float(number % 3), "bottom": number / 7} for number in range(8)]
    metatx.Task.from_data(nano, inputs, (rows, ["a", "b"] * 4)).save_pretrained(folder / "flat")
    return folder


def test_rows_of_the_columns_are_taken_as_the_task_takes_them(serve, columns, nano):
    task = metatx.Task.from_pretrained(columns / "flat", nano).set_inference(precision="fp32")
    facts = {"top": 1.0, "bottom": 0.5}
    flat = [facts, {"picture": PICTURE.tolist(), **facts}, {"photo": PICTURE.tolist(), **facts, "unread": 1}]
    flat += [{"picture": None, **facts}, {"photo": PICTURE.tolist(), "top": None, "bottom": None}]
    expected = task.records([{n: PICTURE if isinstance(v, list) else v for n, v in row.items()} for row in flat])
    http = serve(columns)
    client = metatx.Client("http://testserver", http=http)
    assert all(map(close, client.predict("flat", flat), expected))
    nested = [{"facts": facts}, {"photo": PICTURE.tolist(), "facts": facts}]
    assert all(map(close, client.predict("flat", nested), expected[:2]))
    assert all(map(close, client.predict("flat", pd.DataFrame([facts] * 2)), [expected[0]] * 2))
    file = task.records([{"photo": PICTURE, **facts}])[0]
    assert close(client.predict("flat", [{"picture": ("a.png", png()), **facts}])[0], file)


def test_rows_of_the_columns_name_no_file_and_no_strange_column(serve, columns, tmp_path):
    client = serve(columns)
    (tmp_path / "a.png").write_bytes(png())
    facts = {"top": 1.0, "bottom": 0.5}
    for value, line in (
        ({"picture": str(tmp_path / "a.png"), **facts}, "input photo: found '"),
        ({"picture": {"path": str(tmp_path / "a.png"), "bytes": None}, **facts}, "found bytes and path"),
        ({**facts, "tpo": 1}, "Unknown input 'tpo'"),
        ({"top": 1.0}, "input facts: column bottom: absent"),
    ):
        found = client.post("/v1/tasks/flat/predict", json={"inputs": [value]})
        assert found.status_code == 422 and line in detail(found)


def test_an_array_for_a_task_of_several_inputs_is_told_how_to_come(serve, houses):
    file = io.BytesIO()
    np.save(file, PICTURE[None])
    found = serve(houses).post(HOUSE, content=file.getvalue(), headers={"content-type": "application/x-npy"})
    assert found.status_code == 415
    assert "a task of one input; house has photo, words, facts. Send JSON" in detail(found)
    assert '{"inputs": [{"photo": {"npy": BASE64}, ...}]}' in detail(found)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)
CELLS = st.dictionaries(st.sampled_from(["rooms", "kind", "path"]), VALUES, max_size=3)
OBJECTS = st.dictionaries(st.sampled_from(["photo", "words", "facts", "Photo", "rooms"]), VALUES | CELLS, max_size=4)
READ = st.fixed_dictionaries(
    {"words": st.text("abc ", min_size=1)},
    optional={"facts": st.fixed_dictionaries({"rooms": st.floats(0, 9), "kind": st.text("abc")}), "photo": st.none()},
)


def test_generated_objects_meet_no_failure(serve, houses):
    client = serve(houses)
    statuses = set()

    @hypothesis.settings(max_examples=max(EXAMPLES, 1000), deadline=None, database=None, derandomize=True)
    @hypothesis.given(value=OBJECTS | VALUES | READ)
    def generated(value):
        found = client.post(HOUSE, json={"inputs": [value]})
        statuses.add(found.status_code)
        assert found.status_code in (200, 400, 413, 422), (value, found.text)
        assert found.status_code == 200 or len(detail(found)) < 600

    generated()
    assert {200, 422} <= statuses
