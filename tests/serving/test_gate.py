"""Before the endpoints: the token, errors that tell nothing of the server."""

import asyncio
import errno

import pytest
from fastapi.testclient import TestClient
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from metatx.errors import TaskError
from metatx.serving.gate import Gate

TOKEN = "gehéim"
PATHS = ("/v1/tasks", "/v1/aliases/x", "/metrics", "/openapi.json", "/docs/", "//", "/healthz/", "/nowhere", "/v1//x")


def raising(error):
    async def app(scope, receive, send):
        raise error

    return TestClient(Gate(app, None, ["/srv/tasks/", "/srv/"]))


async def forbidden(scope, receive, send):
    raise AssertionError("reached")


def asked(headers, path="/v1/tasks", token=TOKEN):
    """Status of a request with these headers, whose body nobody may ask for."""
    sent = []

    async def send(message):
        sent.append(message)

    async def answering(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
    asyncio.run(Gate(answering, token, [])(scope, forbidden, send))
    return sent[0]["status"]


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ([], 401),
        (["Bearer gehéim".encode()], 200),
        (["Bearer gehéim".encode("latin-1")], 200),
        ([b"bearer geh\xe9im"], 200),
        ([b"BEARER   geh\xe9im "], 200),
        ([b"Bearer geheim"], 401),
        ([b"Bearer"], 401),
        ([b"Bearer "], 401),
        ([b"geh\xe9im"], 401),
        ([b"Basic geh\xe9im"], 401),
        ([b"Bearer geh\xe9im x"], 401),
        ([b"Bearer geh\xe9im", b"Bearer no"], 401),
    ],
)
def test_the_token_decides_before_the_body(values, status):
    assert asked([(b"authorization", value) for value in values]) == status


def test_a_token_beyond_latin_1_has_no_second_form():
    assert asked([(b"authorization", "Bearer 秘密".encode())], token="秘密") == 200
    assert asked([(b"authorization", b"Bearer ??")], token="秘密") == 401


@pytest.mark.parametrize("path", PATHS)
def test_every_path_but_four_needs_it(path):
    assert asked([], path) == 401
    assert [asked([], open) for open in ("/", "/docs", "/healthz", "/readyz")] == [200] * 4


class Model(BaseModel):
    text: str


def invalid():
    try:
        Model(text=5)
    except ValueError as error:
        return error


@pytest.mark.parametrize(
    ("error", "status", "detail"),
    [
        (RuntimeError("at /srv/x"), 500, "its log says why"),
        (OSError(errno.EACCES, "denied", "/srv/tasks/a"), 500, "its log says why"),
        (OSError(errno.ENOSPC, "full", "/tmp/x"), 503, "cannot hold this now"),
        (OSError(errno.EMFILE, "many"), 503, "cannot hold this now"),
        (MemoryError(), 503, "cannot hold this now"),
        (TaskError("/srv/tasks/a/config.json: torch 2.7"), 503, "damaged on disk"),
        (invalid(), 500, "its log says why"),
        (
            ValueError("column od280/od315: /srv/tasks/a/x.png is no picture, bytes/path is"),
            422,
            "column od280/od315: a/x",
        ),
        (RecursionError(), 500, "its log says why"),
        (ClientDisconnect(), 499, "gone"),
    ],
)
def test_whatever_is_raised_becomes_one_line_that_names_no_place(error, status, detail, caplog):
    found = raising(error).get("/")
    assert found.status_code == status and detail in found.json()["detail"] and "/srv/" not in found.text
    assert bool(caplog.records) == (status in (500, 503))
