"""The Open Inference Protocol: models and versions, tensors as JSON and as bytes, errors in its form."""

import json
import struct
import threading
import time

import numpy as np
import pytest
import uvicorn

from metatx.serving.body_limits import JSON_LENGTH
from metatx.serving.limits import Limits
from tests.serving.payloads import PICTURE, ROW, SERIES, near, png

COLUMNS = [
    {"name": "a", "datatype": "FP64", "shape": [2, 1], "data": [0.4, 0.4]},
    {"name": "b", "datatype": "BYTES", "shape": [2], "data": ["red", "red"]},
    {"name": "c", "datatype": "FP32", "shape": [2], "data": [[-1.0], [-1.0]]},
]


def infer(client, name, inputs, rest=b"", **others):
    head = json.dumps({"inputs": inputs, **others}).encode()
    headers = {JSON_LENGTH: str(len(head))} if rest else {}
    return client.post(f"/v2/models/{name}/infer", content=head + rest, headers=headers)


def outputs(response):
    assert response.status_code == 200, response.text
    return {tensor["name"]: tensor for tensor in response.json()["outputs"]}


def packed(*items):
    return b"".join(struct.pack("<I", len(item)) + item for item in items)


def test_the_server_and_its_models_are_described(serve):
    client = serve(token="secret")
    assert client.get("/v2/health/live").status_code == client.get("/v2/health/ready").status_code == 200
    assert client.get("/v2").status_code == 401 and "token" in client.get("/v2").json()["error"]
    client.headers["authorization"] = "Bearer secret"
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    rows, pictures, series = (client.get(f"/v2/models/{name}").json() for name in ("kinds", "light", "ahead"))
    assert [(each["name"], each["datatype"]) for each in rows["inputs"]] == [
        ("a", "FP64"),
        ("c", "FP64"),
        ("b", "BYTES"),
    ]
    assert rows["versions"] == ["1"] and rows["outputs"][1]["parameters"]["labels"] == ["no", "yes"]
    assert pictures["inputs"][0]["datatype"] == "BYTES" and ".png" in pictures["inputs"][0]["parameters"]["files"]
    assert series["inputs"][0]["shape"] == [-1, -1, -1] and series["outputs"][0]["shape"] == [-1, 6]
    client.service.draining = True
    assert client.get("/v2/health/ready").status_code == client.get("/v2/models/kinds/ready").status_code == 503


def test_answers_are_those_of_the_servers_own_protocol(serve):
    client = serve()
    own = client.post("/v1/tasks/kinds/predict", json={"inputs": [ROW]}).json()["answers"][0]
    found = outputs(infer(client, "kinds", COLUMNS))
    assert found["prediction"]["data"] == [own["prediction"]] * 2 and found["prediction"]["datatype"] == "BYTES"
    shares = found["probabilities"]
    assert shares["shape"] == [2, 2] and near(shares["data"][2:], [own["p(no)"], own["p(yes)"]])
    ahead = client.post("/v1/tasks/ahead/predict", json={"inputs": [SERIES.tolist()]}).json()["answers"][0]
    tensor = {"name": "load", "datatype": "FP64", "shape": [1, 1, 40], "data": SERIES.ravel().tolist()}
    assert near(outputs(infer(client, "ahead", [tensor]))["load"]["data"], ahead["load"])
    vectors = client.post("/v1/tasks/ahead/embed", json={"inputs": [SERIES.tolist()]}).json()["embeddings"]
    asked = outputs(infer(client, "ahead", [tensor], outputs=[{"name": "embedding"}], id="7"))
    assert near(asked["embedding"]["data"], vectors[0]) and list(asked) == ["embedding"]


def test_pictures_come_as_files_or_as_pixels_in_bytes(serve):
    client = serve()
    name = client.get("/v2/models/light").json()["inputs"][0]["name"]
    own = client.post("/v1/tasks/light/predict", json={"inputs": [PICTURE.tolist()]}).json()["answers"][0]
    file = packed(png())
    file_tensor = {"name": name, "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(file)}}
    pixels = {"name": name, "datatype": "UINT8", "shape": [1, 24, 24, 3], "parameters": {"binary_data_size": 1728}}
    for tensor, content in ((file_tensor, file), (pixels, PICTURE.tobytes())):
        found = infer(client, "light", [tensor], content, parameters={"binary_data_output": True})
        length = int(found.headers[JSON_LENGTH])
        head = json.loads(found.content[:length])
        word, shares = head["outputs"]
        assert found.content[length:].startswith(packed(own["prediction"].encode()))
        values = np.frombuffer(found.content[-shares["parameters"]["binary_data_size"] :], "<f4")
        assert near(values, [own["p(bright)"], own["p(dark)"]]) and word["datatype"] == "BYTES"


def test_a_task_of_several_inputs_takes_a_tensor_each(serve, houses):
    client = serve(houses)
    facts = {"rooms": 2.0, "kind": "flat"}
    own = client.post(
        "/v1/tasks/house/predict",
        json={"inputs": [{"photo": PICTURE.tolist(), "words": "quiet", "facts": facts}, {"words": "a red door"}]},
    ).json()["answers"]
    tensors = [
        {"name": "words", "datatype": "BYTES", "shape": [2], "data": ["quiet", "a red door"]},
        {"name": "facts", "datatype": "BYTES", "shape": [2], "data": [json.dumps(facts), ""]},
        {"name": "photo", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": len(png()) + 8}},
    ]
    found = outputs(infer(client, "house", tensors, packed(png(), b"")))
    assert found["prediction"]["data"] == [each["prediction"] for each in own]
    assert near(found["probabilities"]["data"][::2], [each["p(cheap)"] for each in own])


def test_versions_and_aliases_are_those_of_tasks(serve, tasks):
    (tasks / "kinds").rename(tasks / "kinds@2")
    (tasks / "kinds").symlink_to("kinds@2")
    client = serve(tasks)
    for path, status in (
        ("kinds", 200),
        ("kinds/versions/2", 200),
        ("kinds/versions/1", 404),
        ("light/versions/1", 200),
    ):
        assert client.get(f"/v2/models/{path}").status_code == status
        assert client.get(f"/v2/models/{path}/ready").status_code == status
        asked = client.post(f"/v2/models/{path}/infer", json={"inputs": COLUMNS})
        assert asked.status_code == (400 if path.startswith("light") else status)
    assert client.get("/v2/models/kinds").json()["versions"] == ["2"]
    assert infer(client, "kinds", COLUMNS).json()["model_version"] == "2"


LONG = {"name": "load", "datatype": "FP32", "shape": [1, 501], "parameters": {"binary_data_size": 2004}}


def tensor(**changes):
    return {**COLUMNS[0], **changes}


@pytest.mark.parametrize(
    ("name", "inputs", "status", "line"),
    [
        ("nowhere", COLUMNS, 404, "Unknown task"),
        ("kinds", [], 400, "one tensor or more"),
        ("kinds", [3], 400, "A tensor is 3"),
        ("kinds", [tensor(name="x")], 400, "Unknown tensor 'x'"),
        ("kinds", [tensor(datatype="FLOAT")], 400, "Unknown datatype 'FLOAT'. "),
        ("kinds", [tensor(datatype=["FP32"])], 400, "Unknown datatype"),
        ("kinds", [tensor(shape=[3, 1])], 400, "2 values; its shape [3, 1] has 3"),
        ("kinds", [tensor(shape=[-2, 1])], 400, "shape is"),
        ("kinds", [tensor(shape=[])], 400, "its shape"),
        ("kinds", [tensor(data="x")], 400, "data is 'x'"),
        ("kinds", [tensor(data=["x", 1])], 400, "expected values of FP64"),
        ("kinds", [tensor(data=[[1], [2, 3]])], 400, "expected values of FP64"),
        ("kinds", [tensor(datatype="UINT8", data=[1, 300])], 400, "out of the range"),
        ("kinds", [tensor(parameters={"binary_data_size": 9})], 400, "9 bytes of values; 0 follow"),
        ("kinds", [COLUMNS[0]], 422, "column"),
        ("kinds", [COLUMNS[0], {**COLUMNS[1], "shape": [1], "data": ["red"]}], 400, "equally many"),
        ("kinds", COLUMNS[:1] * 2, 400, "each tensor once"),
        ("ahead", [{"name": "load", "datatype": "BYTES", "shape": [1], "data": ["{"]}], 422, "no JSON"),
        (
            "ahead",
            [{"name": "load", "datatype": "FP32", "shape": [1, 501], "parameters": {"binary_data_size": 2004}}],
            413,
            "501 numbers",
        ),
        ("ahead", [{"name": "load", "datatype": "FP32", "shape": [1025], "data": [0] * 1025}], 413, "1,025 inputs"),
    ],
)
def test_bad_tensors_are_one_line_in_the_form_of_the_protocol(serve, name, inputs, status, line):
    limits = Limits(json_mb=0.001) if "501" in line else None
    client = serve(limits=limits)
    content = np.zeros(501 if limits else 0, "<f4").tobytes()
    found = infer(client, name, inputs, content)
    assert found.status_code == status and line in found.json()["error"] and "\n" not in found.json()["error"]


def test_bytes_that_are_cut_off_or_no_file_are_refused(serve):
    client = serve()
    name = client.get("/v2/models/light").json()["inputs"][0]["name"]

    def sent(content, size=None, **changes):
        about = {"binary_data_size": len(content) if size is None else size}
        item = {"name": name, "datatype": "BYTES", "shape": [1], "parameters": about, **changes}
        return infer(client, "light", [item], content)

    assert sent(packed(b"GIF")).status_code == 415
    assert sent(packed(b"abc")[:-1]).status_code == 400 and sent(b"ab").status_code == 400
    assert sent(b"abc", datatype="FP32").status_code == 400
    assert "2 bytes follow the tensors" in sent(packed(b"a") + b"xy", size=5).json()["error"]
    for length in ("x", "-1", "0", "99999"):
        found = client.post("/v2/models/light/infer", content=b"{}", headers={JSON_LENGTH: length})
        assert found.status_code == 400 and JSON_LENGTH in found.json()["error"]
    asked = infer(client, "kinds", COLUMNS, outputs=[{"name": "nothing"}])
    assert asked.status_code == 400 and "Unknown output 'nothing'" in asked.json()["error"]


def test_tritons_client_is_understood(serve):
    triton = pytest.importorskip("tritonclient.http")
    client = serve()
    server = uvicorn.Server(uvicorn.Config(client.app, port=0, lifespan="off", log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    host, port = server.servers[0].sockets[0].getsockname()
    try:
        asking = triton.InferenceServerClient(f"{host}:{port}")
        assert asking.is_server_live() and asking.is_server_ready() and asking.is_model_ready("light", "1")
        assert asking.get_server_metadata()["name"] == "metatx"
        name = asking.get_model_metadata("light")["inputs"][0]["name"]
        pixels = triton.InferInput(name, [2, 24, 24, 3], "UINT8")
        pixels.set_data_from_numpy(np.stack([PICTURE, PICTURE]))
        files = triton.InferInput(name, [2], "BYTES")
        files.set_data_from_numpy(np.array([png(), png()], dtype=object))
        wanted = [triton.InferRequestedOutput("probabilities"), triton.InferRequestedOutput("prediction", False)]
        own = client.post("/v1/tasks/light/predict", json={"inputs": [PICTURE.tolist()] * 2}).json()["answers"]
        for tensor in (pixels, files):
            for result in (asking.infer("light", [tensor]), asking.infer("light", [tensor], outputs=wanted)):
                shares = result.as_numpy("probabilities")
                assert near(shares, [[each["p(bright)"], each["p(dark)"]] for each in own])
                words = [word if isinstance(word, str) else word.decode() for word in result.as_numpy("prediction")]
                assert words == [each["prediction"] for each in own]
        with pytest.raises(triton.InferenceServerException, match="Unknown task"):
            asking.infer("nowhere", [pixels])
    finally:
        asking.close()
        server.should_exit = True
        thread.join(20)
