"""Answers as server-sent events: the words as they are written, then the records."""

import asyncio
import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

import metatx
from metatx.heads.generation import GenerationHead
from tests.serving.conftest import MOST

QUESTIONS = ["one two", "red"]
EVENTS = {"accept": "text/event-stream"}


@pytest.fixture
def client(writing, serve):
    return serve(writing / "tasks", backbone=metatx.load_backbone(f"transformers:{writing / 'llama'}"))


@pytest.fixture(scope="module")
def head(writing):
    words = metatx.load_backbone(f"transformers:{writing / 'llama'}").stems["text"]
    return GenerationHead(64, end="~", stem=words)


def events_of(response):
    """Names and contents of the events of a response."""
    assert response.headers["content-type"].startswith("text/event-stream")
    found = []
    for block in response.text.removesuffix("\n\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((fields.get("event"), json.loads(fields["data"])))
    return found


@pytest.mark.parametrize("asking", [{"headers": EVENTS}, {"stream": True}])
def test_words_come_before_the_answers_and_add_up_to_them(client, asking):
    whole = client.post("/v1/tasks/say/predict", json={"inputs": QUESTIONS}).json()
    body = {"inputs": QUESTIONS, **({"stream": True} if "stream" in asking else {})}
    response = client.post("/v1/tasks/say/predict", json=body, headers=asking.get("headers"))
    assert response.headers["x-accel-buffering"] == "no" and response.headers["cache-control"] == "no-cache"
    *words, last = events_of(response)
    assert last == ("done", whole)
    assert len(words) > len(QUESTIONS) and all(name is None for name, _ in words)
    for index, row in enumerate(whole["answers"]):
        joined = "".join(content["text"] for _, content in words if content["index"] == index)
        assert joined == row["prediction"].rstrip("\ufffd").strip()


def test_without_events_the_answer_is_as_ever(client):
    for more in ({}, {"stream": False}):
        response = client.post("/v1/tasks/say/predict", json={"inputs": QUESTIONS, **more})
        assert response.headers["content-type"] == "application/json" and len(response.json()["answers"]) == 2


def test_a_class_is_one_event_and_tasks_mix(client):
    found = events_of(client.post("/v1/tasks/label/predict", json={"inputs": ["red"]}, headers=EVENTS))
    assert [name for name, _ in found] == ["done"] and "prediction" in found[0][1]["answers"][0]
    mixed = [{"task": "label", "input": "red"}, {"task": "say", "input": "one two"}]
    *words, (name, last) = events_of(client.post("/v1/predict", json={"inputs": mixed, "stream": True}))
    assert name == "done" and [row["task"] for row in last["answers"]] == ["label", "say"]
    assert {content["index"] for _, content in words} == {1}


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("tasks/say/predict", {"inputs": ["red"], "stream": 1}, 422, "expected true or false"),
        ("tasks/none/predict", {"inputs": ["red"], "stream": True}, 404, "none"),
        ("tasks/say/predict", {"inputs": ["two " * 200], "stream": True}, 422, "cut into several sequences"),
        ("tasks/say/predict", {"inputs": [], "stream": True}, 422, "one input or more"),
        ("tasks/say/embed", {"inputs": ["red"], "stream": True}, 422, "Unknown field 'stream'"),
    ],
)
def test_what_is_refused_before_the_first_word_has_its_status(client, path, body, status, said):
    response = client.post(f"/v1/{path}", json=body)
    assert response.status_code == status and said in response.json()["detail"]


def test_an_error_behind_the_first_word_is_an_event(client, monkeypatch):
    usual = GenerationHead.so_far

    def fails(self, numbers):
        if len(numbers) == MOST // 2:
            raise RuntimeError("no more")
        return usual(self, numbers)

    monkeypatch.setattr(GenerationHead, "so_far", fails)
    *words, (name, last) = events_of(client.post("/v1/tasks/say/predict", json={"inputs": ["red"]}, headers=EVENTS))
    assert words and name == "error" and last["status"] == 500 and "log" in last["detail"]


def test_a_client_that_leaves_ends_the_writing(client, monkeypatch):
    usual = GenerationHead.so_far
    left = threading.Event()
    lengths = []

    def waits(self, numbers):
        lengths.append(len(numbers))
        if len(numbers) > MOST // 2:
            assert left.wait(60)
        return usual(self, numbers)

    monkeypatch.setattr(GenerationHead, "so_far", waits)
    assert asyncio.run(_left_at_first_word(client.app)).startswith(b'data: {"index":0,"text":')
    left.set()
    again = client.post("/v1/tasks/label/predict", json={"inputs": ["red"]})  # waits for the end of the pass
    assert again.status_code == 200 and max(lengths) <= MOST // 2 + 1
    assert client.service.active == 0


async def _left_at_first_word(app):
    """Ask for events and leave at the first one, which is returned."""
    body = json.dumps({"inputs": ["red"]}).encode()
    headers = [(b"content-type", b"application/json"), (b"accept", b"text/event-stream")]
    scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "method": "POST", "http_version": "1.1"}
    scope |= {
        "path": "/v1/tasks/say/predict",
        "raw_path": b"",
        "query_string": b"",
        "headers": headers,
        "root_path": "",
    }
    scope |= {"root_path": "", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "scheme": "http"}
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    told = []
    leaving = asyncio.Event()

    async def receive():
        if messages:
            return messages.pop()
        await leaving.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        if message.get("body"):
            told.append(message["body"])
            leaving.set()

    await app(scope, receive, send)
    return told[0]


@given(numbers=st.lists(st.integers(0, 255), max_size=24))
def test_text_so_far_is_only_added_to(head, numbers):
    """Bytes in any order, whole characters or not: what was sent is never to be taken back."""
    texts = [head.so_far(numbers[:length]) for length in range(len(numbers) + 1)]
    assert all(longer.startswith(shorter) for shorter, longer in zip(texts, texts[1:], strict=False))
