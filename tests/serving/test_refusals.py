"""Every route, asked wrongly in every way: JSON, one line, and nothing of the server itself."""

import itertools
import re
import sys
from pathlib import Path

import pytest
import starlette
import uvicorn

import metatx
from metatx.serving.refusals import discreet, places

PATHS = ("/v1/predict", "/v1/tasks/{}/predict", "/v1/tasks/{}/embed", "/v1/tasks/{}", "/v1/aliases/{}", "/v1/tasks")
NAMES = ("kinds", "light", "damaged", "..%2fkinds", "%00", "x" * 3000)
BODIES = (
    (b"", "application/json"),
    (b"[" * 10_000, "application/json"),
    (b'{"inputs": [{"path": "/etc/passwd"}]}', "application/json"),
    (b'{"version": 5}', "application/json"),
    (b"x" * 70_000, "application/json"),
    (b"--x\r\n\r\n", "multipart/form-data; boundary=x"),
    (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\nPNG\r\n--x--\r\n',
        "multipart/form-data; boundary=x",
    ),
    (b"a=b", "application/x-www-form-urlencoded"),
)
VERSIONS = [re.escape(one) for one in (uvicorn.__version__, starlette.__version__)]
TELLING = re.compile("|".join(["site-packages", "Traceback", "metatx/serving", r"\.py\b", "uvicorn", *VERSIONS]))


@pytest.fixture
def damaged(tasks):
    """The tasks, and one that is none."""
    (tasks / "damaged").mkdir()
    (tasks / "damaged" / "config.json").write_text("{")
    return tasks


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_no_answer_tells_where_the_server_lies_or_what_it_is(serve, damaged, method):
    client = serve(damaged, admin=True, token="secret")
    client.headers["authorization"] = "Bearer secret"
    hidden = [str(damaged), str(Path(metatx.__file__).parent), sys.prefix, str(Path.home())]
    routes = [path.format(name) for path, name in itertools.product(PATHS, NAMES)]
    routes += ["/", "/v1/tasks/", "/v1/tasks/kinds/", "/nowhere", "//evil.example/%2e%2e", "/openapi.json", "/readyz"]
    for route, (body, kind) in itertools.product(dict.fromkeys(routes), BODIES):
        if method == "DELETE" and route.endswith(("kinds", "light")):
            continue
        headers = {"content-type": kind, "host": "evil.example"}
        found = client.request(method, route, content=body, headers=headers, follow_redirects=False)
        text = found.text + str(found.headers)
        assert found.status_code < 500 and not 300 <= found.status_code < 400, (route, found.text)
        assert not any(place in text for place in hidden) and "evil.example" not in text, (route, text)
        assert route in ("/", "/openapi.json") or not TELLING.search(text), (route, text)
        if found.status_code >= 400 and method != "HEAD":
            assert set(found.json()) == {"detail"} and "\n" not in found.json()["detail"]


def test_places_are_cut_and_slashes_that_name_none_stay(tmp_path):
    hidden = places(tmp_path / "tasks")
    message = f"{tmp_path}/tasks/a/config.json: od280/od315, bytes/path, {sys.prefix}/lib/x.py, {Path.home()}/y"
    assert discreet(message, hidden).startswith("a/config.json: od280/od315, bytes/path, ")
    assert str(Path.home()) not in discreet(message, hidden) and sys.prefix not in discreet(message, hidden)
