"""OpenAI's embeddings: the vectors of embed, floats or base64, refusals in OpenAI's form."""

import base64

import numpy as np
import pytest

from tests.serving.payloads import PICTURE, ROW, SERIES, near
from tests.serving.payloads import base64 as npy_base64

PATH = "/v1/embeddings"


def test_vectors_are_those_of_embed_as_floats_and_in_base64(serve):
    client = serve()
    for task, value in (("kinds", ROW), ("ahead", SERIES.tolist()), ("light", npy_base64(PICTURE))):
        own = client.post(f"/v1/tasks/{task}/embed", json={"inputs": [value]}).json()["embeddings"]
        for asked in ([value, value], [value]):
            found = client.post(PATH, json={"model": task, "input": asked, "dimensions": len(own[0])}).json()
            assert found["object"] == "list" and found["model"] == task and len(found["data"]) == len(asked)
            assert [each["index"] for each in found["data"]] == list(range(len(asked)))
            assert near([each["embedding"] for each in found["data"]], own * len(asked))
            assert found["usage"]["prompt_tokens"] == found["usage"]["total_tokens"] > 0
        sent = {"model": task, "input": [value], "encoding_format": "base64"}
        [coded] = client.post(PATH, json=sent).json()["data"]
        assert near(np.frombuffer(base64.b64decode(coded["embedding"]), "<f4"), own[0])
    one = client.post(PATH, json={"model": "kinds", "input": ROW}).json()
    assert len(one["data"]) == 1


@pytest.mark.parametrize(
    ("body", "status", "line"),
    [
        ([], 400, "expected an object"),
        ({"model": "kinds"}, 400, "input is absent"),
        ({"model": "kinds", "input": []}, 400, "input is absent or empty"),
        ({"model": 3, "input": [ROW]}, 400, "model is 3"),
        ({"model": "kinds", "input": [ROW], "encoding_format": "int8"}, 400, "expected float or base64"),
        ({"model": "kinds", "input": [ROW], "dimensions": 8}, 400, "leave it out"),
        ({"model": "kinds", "input": [ROW], "size": 8}, 400, "Unknown field 'size'"),
        ({"model": "nowhere", "input": [ROW]}, 404, "Unknown task"),
        ({"model": "kinds", "input": ["words"]}, 422, "row"),
        ({"model": "kinds", "input": [ROW] * 1025}, 413, "at most 1,024"),
    ],
)
def test_refusals_have_openais_form(serve, body, status, line):
    found = serve().post(PATH, json=body)
    error = found.json()["error"]
    assert found.status_code == status and line in error["message"] and error["type"] == "invalid_request_error"


def test_tasks_are_listed_as_models(serve):
    client = serve(token="secret")
    assert client.get("/v1/models").json()["error"]["code"] == "invalid_api_key"
    client.headers["authorization"] = "Bearer secret"
    assert [each["id"] for each in client.get("/v1/models").json()["data"]] == ["ahead", "kinds", "light"]
    assert client.get("/v1/models/kinds").json()["object"] == "model"
    assert client.get("/v1/models/other").json()["error"]["code"] == "model_not_found"
    assert client.post(PATH, content=b"{}", headers={"content-type": "text/plain"}).status_code == 415


def test_openais_client_is_understood(serve):
    openai = pytest.importorskip("openai")
    client = serve(token="secret")
    asking = openai.OpenAI(api_key="secret", base_url="http://testserver/v1", http_client=client, max_retries=0)
    assert [model.id for model in asking.models.list()] == ["ahead", "kinds", "light"]
    found = asking.embeddings.create(model="kinds", input=[ROW])
    own = client.post("/v1/tasks/kinds/embed", json={"inputs": [ROW]}, headers={"authorization": "Bearer secret"})
    assert near(found.data[0].embedding, own.json()["embeddings"][0]) and found.usage.total_tokens > 0
    with pytest.raises(openai.NotFoundError, match="Unknown task"):
        asking.embeddings.create(model="nowhere", input="a")
