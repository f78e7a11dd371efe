"""The clients, against running servers and against answers that are made up."""

import asyncio
import json

import httpx2
import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pytest
from PIL import Image

import metatx
from metatx.serving import client as clients
from tests.serving.payloads import PICTURE, ROW, SERIES, near, png

URL = "http://testserver"


def test_samples_of_every_form_are_answered_as_the_server_answers_them(serve, tmp_path):
    http = serve(token="secret")
    client = metatx.Client(URL, token="secret", http=http, batch_size=2)
    assert [task["name"] for task in client.tasks()] == ["ahead", "kinds", "light"]
    http.headers["authorization"] = "Bearer secret"

    def own(task, inputs, action="predict"):
        return http.post(f"/v1/tasks/{task}/{action}", json={"inputs": inputs}).json()[
            "answers" if action == "predict" else "embeddings"
        ]

    path = tmp_path / "a.png"
    path.write_bytes(png())
    [light] = own("light", [PICTURE.tolist()])
    forms = [PICTURE, Image.fromarray(PICTURE), PICTURE.tolist(), path, png(), ("b.PNG", png())]
    for samples in ([each] for each in forms):
        assert near(client.predict("light", samples)[0], light)
    assert all(near(answer, light) for answer in client.predict("light", forms))
    assert len(client.predict("light", np.stack([PICTURE] * 5))) == 5
    rows = own("kinds", [ROW, {**ROW, "a": None}])
    frame = pd.DataFrame([ROW, {**ROW, "a": np.nan}])
    tables = [frame, frame.astype({"b": "category"}), pa.Table.from_pandas(frame), polars.from_pandas(frame)]
    for table in (*tables, [{**ROW, "a": np.float32(0.4)}, {**ROW, "a": np.nan}]):
        assert all(map(near, client.predict("kinds", table), rows))
    vectors = client.embed("ahead", [SERIES] * 3)
    assert vectors.dtype == np.float32 and near(vectors, own("ahead", [SERIES.tolist()] * 3, "embed"))


def test_samples_of_several_inputs_may_hold_files_and_arrays(serve, houses):
    http = serve(houses)
    client = metatx.Client(URL, http=http)
    facts = {"rooms": 2.0, "kind": "flat"}
    inputs = [{"photo": PICTURE.tolist(), "words": "quiet", "facts": facts}]
    own = http.post("/v1/tasks/house/predict", json={"inputs": inputs}).json()["answers"][0]
    for photo in (PICTURE, png(), ("x.png", png())):
        assert near(client.predict("house", [{**inputs[0], "photo": photo}])[0], own)


def test_refusals_are_errors_with_the_servers_line(serve):
    http = serve(token="secret")
    with pytest.raises(PermissionError, match="needs a token"):
        metatx.Client(URL, http=http).predict("kinds", [ROW])
    client = metatx.Client(URL, http=http, token="secret")
    for task, samples, kind, line in (
        ("kinds", [{"a": 1}], metatx.SampleError, "column c: absent"),
        ("nowhere", [ROW], ValueError, "Unknown task 'nowhere'"),
        ("light", [b"GIF"], ValueError, "give \\(name, bytes\\)"),
        ("light", [("a.exe", b"x")], ValueError, "this task takes .png"),
        ("kinds", [], ValueError, "no samples"),
        ("kinds", ROW, TypeError, "for one: \\[sample\\]"),
        ("kinds", [object()], ValueError, "cannot be sent"),
        ("kinds", None, TypeError, "samples are of type NoneType; expected a list, for one: \\[sample\\]"),
        ("kinds", iter([ROW]), TypeError, "type list_iterator; expected a list"),
        ("light", np.array(5.0), TypeError, "type ndarray; expected a list"),
    ):
        with pytest.raises(kind, match=line):
            client.predict(task, samples)


def test_queries_are_a_list_or_an_array():
    transport, asked = scripted((200, {}, {"hits": [[], []]}))
    client = metatx.Client(URL, http=httpx2.Client(transport=transport))
    with pytest.raises(TypeError, match="queries are of type str; expected a list, for one: \\[query\\]"):
        client.search("shop", "a red shoe", modality="text")
    assert client.search("shop", np.zeros((2, 3)), modality="image") == [[], []] and len(asked) == 1


def scripted(*responses):
    """A transport that gives these responses, one after the other, and the requests that it got."""
    asked = []
    left = list(responses)

    def handle(request):
        asked.append(request)
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        status, headers, content = answer
        return httpx2.Response(status, headers=headers, content=json.dumps(content))

    return httpx2.MockTransport(handle), asked


GOOD = 200, {}, {"answers": [{"prediction": 1}]}
BUSY = 429, {"retry-after": "3"}, {"detail": "The server is busy; try again in 3 s."}
STARTING = 503, {"retry-after": "5"}, {"detail": "The server is starting."}


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([1.0, 2.0], "application/vnd.apache.arrow.stream"),
        ([[1.0], [2.0, 3.0]], "application/vnd.apache.arrow.stream"),
        ([{"b": 1}, {"c": 2}], "application/json"),
        ([1, "x"], "application/json"),
        ([PICTURE, PICTURE], "application/json"),
        ([png(), png()], "multipart/form-data"),
    ],
)
def test_tables_are_sent_as_arrow_unless_a_column_is_no_arrow_column(cells, kind):
    transport, asked = scripted((200, {}, {"files": [".png"]}), GOOD) if kind.startswith("multi") else scripted(GOOD)
    client = metatx.Client(URL, http=httpx2.Client(transport=transport))
    assert client.predict("kinds", pd.DataFrame({"a": cells}, index=[3, 4])) == [{"prediction": 1}]
    assert asked[-1].headers["content-type"].startswith(kind)
    if kind.endswith("stream"):
        assert pa.ipc.open_stream(asked[-1].read()).read_all().to_pydict() == {"a": cells}


def test_a_busy_server_is_asked_again_after_the_time_that_it_names(monkeypatch):
    waited = []
    monkeypatch.setattr(clients.time, "sleep", waited.append)
    transport, asked = scripted(BUSY, STARTING, GOOD)
    client = metatx.Client(URL, http=httpx2.Client(transport=transport))
    assert client.predict("kinds", [ROW]) == [{"prediction": 1}] and waited == [3, 5] and len(asked) == 3
    for limits, responses in (({"retries": 1}, [BUSY] * 2), ({}, [(429, {"retry-after": "61"}, BUSY[2])])):
        transport, asked = scripted(*responses)
        with pytest.raises(RuntimeError, match="The server is busy"):
            metatx.Client(URL, http=httpx2.Client(transport=transport), **limits).predict("kinds", [ROW])
        assert len(asked) == len(responses)


def test_a_server_that_is_away_or_answers_nonsense_is_told(monkeypatch):
    for answer, kind, line in (
        (httpx2.ConnectError("refused"), ConnectionError, "cannot be reached"),
        (httpx2.ReadTimeout("late"), TimeoutError, "did not answer in time"),
        ((504, {}, {"detail": "The request was not answered in time."}), TimeoutError, "not answered in time"),
        ((500, {}, "x"), RuntimeError, "status 500"),
    ):
        transport, _ = scripted(answer)
        with pytest.raises(kind, match=line):
            metatx.Client(URL, http=httpx2.Client(transport=transport)).predict("kinds", [ROW])


def test_a_search_sends_queries_vectors_and_files():
    hits = [[{"item": 3, "score": 0.5}]]
    transport, asked = scripted(*[(200, {}, {"hits": hits})] * 3)
    client = metatx.Client(URL, http=httpx2.Client(transport=transport))
    assert client.search("shop", ["a red shoe"], modality="text", k=2) == hits
    assert client.search("shop", vectors=np.ones((1, 3))) == hits
    assert client.search("shop", [("a.png", b"png")], modality="image", where={"size": 3}) == hits
    bodies = [request.read() for request in asked]
    assert json.loads(bodies[0]) == {"queries": ["a red shoe"], "modality": "text", "k": 2}
    assert json.loads(bodies[1]) == {"vectors": [[1.0, 1.0, 1.0]], "k": 10}
    assert b'filename="a.png"' in bodies[2] and b'"where":{"size":3}' in bodies[2]
    with pytest.raises(ValueError, match="two searches"):
        client.search("shop", ["a", ("a.png", b"png")], modality="image")


def test_the_asynchronous_client_answers_alike(serve, monkeypatch):
    http = serve()
    waited = []

    async def sleep(seconds):
        waited.append(seconds)

    async def ask(transport):
        async with metatx.AsyncClient(URL, http=httpx2.AsyncClient(transport=transport)) as client:
            answers, vectors = await asyncio.gather(
                client.predict("light", [PICTURE]), client.embed("light", [png()] * 2)
            )
            return answers, vectors, await client.tasks()

    answers, vectors, tasks = asyncio.run(ask(httpx2.ASGITransport(http.app)))
    sync = metatx.Client(URL, http=http)
    assert near(answers[0], sync.predict("light", [PICTURE])[0]) and tasks == sync.tasks()
    assert near(vectors, sync.embed("light", [PICTURE] * 2))
    monkeypatch.setattr(clients.asyncio, "sleep", sleep)
    transport, asked = scripted(BUSY, GOOD)

    async def again():
        async with metatx.AsyncClient(URL, http=httpx2.AsyncClient(transport=transport)) as client:
            return await client.predict("kinds", [ROW])

    assert asyncio.run(again()) == [{"prediction": 1}] and waited == [3] and len(asked) == 2
