"""Predictions bypass FastAPI's routes, with their answers and refusals."""

import re

import pytest

from metatx.serving import direct

PATHS = (
    "/v1/predict",
    "/v1/embed",
    "/v1/tasks/kinds/predict",
    "/v1/tasks/kinds/embed",
    "/v1/tasks/kinds/train",
    "/v1/tasks/none/predict",
    "/v1/tasks/a%2Fkinds/predict",
    "/v1/tasks/kinds/predict/",
    "/v1/tasks//predict",
    "/v1/tasks/kinds%0A/predict",
)
BODIES = (
    {"inputs": [{"a": 1.0, "b": "red", "c": 2.0}]},
    {"inputs": [{"task": "kinds", "input": {"a": 1.0, "b": "red", "c": 2.0}}]},
    {"inputs": [], "further": 1},
)


def shown(response):
    """Status, kind and content of a response."""
    return response.status_code, response.headers.get("content-type"), response.content


@pytest.mark.parametrize("path", PATHS)
def test_answers_and_refusals_are_those_of_the_routes(serve, monkeypatch, path):
    client = serve()
    found = [shown(client.post(path, json=body)) for body in BODIES]
    found.append(shown(client.get(path)))
    monkeypatch.setattr(direct, "PATH", re.compile("none of these"))
    assert found == [*(shown(client.post(path, json=body)) for body in BODIES), shown(client.get(path))]


def test_requests_do_not_reach_the_routes(serve, monkeypatch):
    client = serve()
    monkeypatch.setattr(client.app.router, "routes", [])
    body = {"inputs": [{"a": 1.0, "b": "red", "c": 2.0}]}
    assert client.post("/v1/tasks/kinds/predict", json=body).status_code == 200
    assert client.post("/v1/tasks/kinds/embed", json=body).status_code == 200
    assert client.get("/v1/tasks").status_code == 404
