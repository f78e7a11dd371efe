"""The endpoints, on three trained tasks: answers, refusals, descriptions, limits, who may do what."""

import asyncio
import io
import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

import metatx
from metatx.serving.admission import Asked
from metatx.serving.limits import Limits
from tests.serving.load import steps, until

ROW = {"a": 0.4, "b": "red", "c": -1.0}
PICTURE = (np.arange(24 * 24 * 3) % 251).astype(np.uint8).reshape(24, 24, 3)
SERIES = [np.sin(np.arange(40) / 5).tolist()]


def png(array=PICTURE, form="PNG"):
    file = io.BytesIO()
    Image.fromarray(array).save(file, form)
    return file.getvalue()


def same(found, expected):
    """Answers as JSON, but for the last digits, which depend on what else is in the pass."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[name], expected[name]) for name in expected)
    return found == expected or np.allclose(found, expected, rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def alone(nano, trained):
    """Each task by itself, in the pool's precision."""
    tasks = {name: metatx.Task.from_pretrained(trained / name, nano) for name in ("kinds", "light", "ahead")}
    return {name: task.set_inference(precision="fp32") for name, task in tasks.items()}


def test_answers_are_those_of_each_task_alone(serve, alone):
    client = serve()
    for name, sample, value in (
        ("kinds", ROW, ROW),
        ("light", PICTURE, PICTURE.tolist()),
        ("ahead", np.array(SERIES), SERIES),
    ):
        answer = client.post(f"/v1/tasks/{name}/predict", json={"inputs": [value, value]}).json()
        assert answer["task"] == name and len(answer["answers"]) == 2
        assert same(answer["answers"][1], alone[name].records([sample])[0])
        vectors = client.post(f"/v1/tasks/{name}/embed", json={"inputs": [value]}).json()["embeddings"]
        assert np.allclose(vectors, alone[name].embed([sample]), atol=1e-4)


def test_files_are_answered_as_the_command_line_would(serve, alone, tmp_path):
    client = serve()
    file = tmp_path / "picture.jpg"
    Image.fromarray(PICTURE).save(file)
    parts = [("file", ("mine.JPG", file.read_bytes())), ("file", ("b.png", png()))]
    answers = client.post("/v1/tasks/light/predict", files=parts).json()["answers"]
    assert same(answers[0], alone["light"].records(str(file))[0])
    assert same(answers[1], alone["light"].records([PICTURE])[0])


def test_several_tasks_in_one_request_are_one_pass(serve, alone):
    client = serve()
    inputs = [{"task": "ahead", "input": SERIES}, {"task": "kinds", "input": ROW}, {"task": "light", "input": None}]
    inputs[2]["input"] = PICTURE.tolist()
    answers = client.post("/v1/predict", json={"inputs": inputs}).json()["answers"]
    assert [one["task"] for one in answers] == ["ahead", "kinds", "light"]
    assert same(answers[1]["answer"], alone["kinds"].records([ROW])[0])
    form = {"kinds": (None, json.dumps(ROW)), "light": ("a.png", png())}
    again = client.post("/v1/predict", files=form).json()["answers"]
    assert [one["task"] for one in again] == ["kinds", "light"] and same(again[1], answers[2])
    for _ in range(100):  # a pass is counted behind its answers
        counted = client.get("/metrics").text
        if "metatx_pass_inputs_count 2.0" in counted:
            break
        time.sleep(0.05)
    assert "metatx_pass_tasks_sum 5.0" in counted and "metatx_pass_inputs_count 2.0" in counted
    assert 'metatx_requests_total{answer="records",status="200",task="kinds"} 2.0' in counted


def test_metrics_are_written_beside_the_event_loop_one_scrape_at_a_time(serve, monkeypatch):
    client = serve()
    running = []

    def text():
        with pytest.raises(RuntimeError):  # there is a loop in the thread that answers requests
            asyncio.get_running_loop()
        running.append(1)
        time.sleep(0.05)
        assert running == [1]
        running.clear()
        return b"counted"

    monkeypatch.setattr(client.service.engine.metrics, "text", text)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: client.get("/metrics"), range(4)))
    assert [(response.status_code, response.text) for response in found] == [(200, "counted")] * 4


def test_tasks_are_described_and_their_examples_can_be_asked(serve):
    client = serve()
    listed = client.get("/v1/tasks").json()
    assert [task["name"] for task in listed["tasks"]] == ["ahead", "kinds", "light"] and listed["refused"] == {}
    for task in listed["tasks"]:
        found = client.get(f"/v1/tasks/{task['name']}").json()
        assert found.items() >= task.items() and found["card"].startswith("---\nlibrary_name: metatx")
        asked = client.post(f"/v1/tasks/{task['name']}/predict", json={"inputs": [found["example"]]})
        assert asked.status_code == 200
    row = client.get("/v1/tasks/kinds").json()["input_schema"]
    assert row["required"] == ["a", "c", "b"] and set(row["properties"]["b"]["examples"]) == {"red", "blue"}


BAD = [
    ("/v1/tasks/nowhere/predict", {"inputs": [ROW]}, 404, "Unknown task 'nowhere'"),
    ("/v1/tasks/..%2fkinds/predict", {"inputs": [ROW]}, 404, ""),
    ("/v1/tasks/kinds/predict", {}, 422, 'Expected {"inputs": [...]}'),
    ("/v1/tasks/kinds/predict", {"inputs": []}, 422, "one input or more"),
    (
        "/v1/tasks/kinds/predict",
        {"inputs": [ROW], "max_tokens": 3},
        422,
        "Unknown field 'max_tokens'. Choices: inputs, stream",
    ),
    ("/v1/tasks/kinds/embed", {"inputs": [ROW], "stream": True}, 422, "Unknown field 'stream'. Choices: inputs."),
    ("/v1/predict", {"inputs": [{"task": "kinds", "inputs": ROW}]}, 422, "inputs[0]: Unknown field 'inputs'. Did you"),
    ("/v1/tasks/kinds/predict", {"inputs": [ROW, {**ROW, "a": "x"}]}, 422, "inputs[1]: column a: found 'x'"),
    ("/v1/tasks/kinds/predict", {"inputs": [{"a": 1}]}, 422, "column c: absent"),
    ("/v1/tasks/kinds/predict", {"inputs": [ROW] * 1025}, 413, "at most 1,024"),
    ("/v1/tasks/light/predict", {"inputs": ["/etc/hostname.png"]}, 422, "expected numbers, or a file: .png"),
    ("/v1/tasks/light/predict", {"inputs": [{"path": "/etc/a.png", "bytes": None}]}, 422, "expected numbers"),
    ("/v1/tasks/light/predict", {"inputs": [[[1, 2], [3]]]}, 422, "unequal length"),
    ("/v1/tasks/light/predict", {"inputs": [[[999]]]}, 422, "holds int64 from 999"),
    ("/v1/tasks/ahead/predict", {"inputs": [[[None, None]]]}, 422, "no observed value"),
    ("/v1/tasks/ahead/predict", {"inputs": [[[10**400]]]}, 400, "number is infinity"),
    ("/v1/predict", {"inputs": [{"task": 3, "input": ROW}]}, 422, "inputs[0] is"),
    ("/v1/predict", {"inputs": [{"task": "kinds", "input": ROW}, {"task": "b", "input": 1}]}, 404, "'b'"),
]


@pytest.mark.parametrize(("path", "body", "status", "line"), BAD)
def test_bad_input_gives_one_clear_line(serve, path, body, status, line):
    found = serve().post(path, json=body)
    assert found.status_code == status and line in found.json()["detail"] and "\n" not in found.json()["detail"]


JSON = "application/json"
RAW = [
    (b"{", JSON, 400, "cannot be read"),
    (b'{"inputs": [NaN]}', JSON, 400, "null, not NaN"),
    (b"[" * 100_000, JSON, 400, "depth limit"),
    (b"\xff\xfe", JSON, 400, "cannot be read"),
    (b'{"inputs": [' + b"9" * 5000 + b"]}", JSON, 400, "cannot be read"),
    (b"a,b", "text/csv", 415, "text/csv"),
    (b"", "multipart/form-data; boundary=x", 422, "empty"),
    (b"--y", "multipart/form-data; boundary=x", 400, ""),
    (b"--x", "multipart/form-data", 400, "boundary"),
]


@pytest.mark.parametrize(("body", "kind", "status", "line"), RAW)
def test_bad_bodies_give_one_clear_line(serve, body, kind, status, line):
    found = serve().post("/v1/tasks/kinds/predict", content=body, headers={"content-type": kind})
    assert found.status_code == status and line in found.json()["detail"]


def test_limits_of_size_samples_and_tokens(serve):
    client = serve(limits=Limits(body_mb=0.1, json_mb=0.05, tokens=4))
    large = client.post("/v1/tasks/kinds/predict", content=b" " * 60_000, headers={"content-type": JSON})
    assert large.status_code == 413 and "more than 0.05 megabytes" in large.json()["detail"]
    announced = client.post("/v1/tasks/kinds/predict", content=b" " * 200_000, headers={"content-type": JSON})
    chunked = client.post("/v1/tasks/light/predict", files={"file": ("a.png", b"\0" * 200_000)})
    assert announced.status_code == chunked.status_code == 413
    pieces = client.post("/v1/tasks/kinds/predict", content=iter([b" " * 60_000] * 4), headers={"content-type": JSON})
    assert pieces.status_code == 413
    assert client.post("/v1/tasks/kinds/predict", json={"inputs": [ROW]}).status_code == 200  # 3 columns and CLS
    tokens = client.post("/v1/tasks/ahead/predict", json={"inputs": SERIES})
    assert tokens.status_code == 413 and "tokens; expected at most 4" in tokens.json()["detail"]


def test_a_full_server_is_429_before_the_body_is_read_and_says_when_to_come_back(serve):
    client = serve(queue_seconds=0.01)  # 50 tokens
    gate, busy = threading.Event(), threading.Event()
    engine = client.service.engine
    answer = engine.pool.outcomes
    engine.pool.outcomes = lambda requests: (busy.set(), gate.wait(10), answer(requests))[2]
    statuses = []

    def ask(count):
        found = client.post("/v1/tasks/kinds/predict", json={"inputs": [ROW] * count})
        statuses.append((count, found.status_code, found.headers.get("retry-after")))

    threads = [threading.Thread(target=ask, args=(count,)) for count in (1, 8)]
    threads[0].start()
    assert busy.wait(10)
    threads[1].start()
    while engine.scheduler.waiting[1] < 32:
        time.sleep(0.01)
    engine.pool.loaded = None  # nothing that is refused comes so far
    ask(10)
    gate.set()
    for thread in threads:
        thread.join(10)
    assert statuses[0] == (10, 429, "1") and sorted(statuses[1:]) == [(1, 200, None), (8, 200, None)]


def test_a_request_that_no_server_could_answer_in_time_is_413(serve):
    client = serve(limits=Limits(tokens=30), queue_seconds=0.01)
    found = client.post("/v1/tasks/kinds/predict", json={"inputs": [ROW] * 20})
    told = r"The request has \d+ tokens or more; expected at most \d+: divide it\."
    assert found.status_code == 413 and re.fullmatch(told, found.json()["detail"])


def test_a_request_that_waits_too_long_is_504_and_costs_nothing(serve):
    client = serve(limits=Limits(wait=0.5))
    gate, seen = threading.Event(), []
    pool = client.service.engine.pool
    answer = pool.outcomes
    pool.outcomes = lambda requests: (seen.append(len(requests)), gate.wait(10), answer(requests))[2]
    found = [client.post("/v1/tasks/kinds/predict", json={"inputs": [ROW]}) for _ in range(2)]
    assert [one.status_code for one in found] == [504, 504]
    gate.set()
    assert client.post("/v1/tasks/kinds/predict", json={"inputs": [ROW]}).status_code == 200
    assert seen == [1, 1]


def test_a_failure_inside_is_500_of_one_line_and_the_next_request_is_answered(serve):
    client = serve()
    pool = client.service.engine.pool
    answer = pool.outcomes
    pool.outcomes = lambda requests: 1 / 0
    found = client.post("/v1/tasks/kinds/predict", json={"inputs": [ROW]})
    assert found.status_code == 500 and "log" in found.json()["detail"] and "zero" not in found.text
    pool.outcomes = lambda requests: [{"value": float("nan")} for _ in requests]
    assert client.post("/v1/tasks/kinds/predict", json={"inputs": [ROW]}).json()["answers"] == [{"value": None}]
    pool.outcomes = answer
    assert client.post("/v1/tasks/kinds/predict", json={"inputs": [ROW]}).status_code == 200


def test_a_starting_server_says_of_no_task_that_it_is_absent(serve):
    client = serve(token="secret", admin=True)
    client.headers["authorization"] = "Bearer secret"
    paths = {**client.get("/openapi.json").json()["paths"], "/openapi.json": ["get"]}
    assert {"/v1/tasks", "/v1/tasks/{task}", "/v1/models", "/v2/models/{name}"} <= set(paths)
    client.service.loaded = False
    for path in set(paths) - {"/metrics", "/v2", "/v2/health/live", "/v2/health/ready"}:
        for method in paths[path]:
            asked = {"inputs": [ROW], "version": "kinds@1"}
            found = client.request(method, re.sub(r"\{\w+\}", "kinds", path), json=asked)
            assert found.status_code == 503 and found.headers["retry-after"] == "5", (path, found.text)
            assert "The server is starting." in found.text
    assert [client.get(path).status_code for path in ("/", "/healthz", "/metrics", "/v2")] == [200] * 4


def test_health_readiness_and_draining(serve):
    client = serve()
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
    client.service.draining = True
    assert client.get("/healthz").status_code == 200 and client.get("/readyz").status_code == 503
    found = client.post("/v1/tasks/kinds/predict", json={"inputs": [ROW]})
    assert found.status_code == 503 and found.headers["connection"] == "close"


def test_the_token_guards_all_but_health_and_the_page(serve):
    client = serve(token="secret")
    for path in ("/v1/tasks", "/v1/tasks/kinds", "/metrics", "/openapi.json"):
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"authorization": "Bearer secre"}).status_code == 401
        assert client.get(path, headers={"authorization": "Bearer secret"}).status_code == 200
    assert client.post("/v1/tasks/kinds/predict", json={"inputs": [ROW]}).status_code == 401
    for path in ("/", "/docs", "/healthz", "/readyz"):
        assert client.get(path).status_code == 200


def test_the_pages_load_nothing_from_elsewhere(serve):
    client = serve()
    for path in ("/", "/docs"):
        found = client.get(path)
        assert "default-src 'none'" in found.headers["content-security-policy"]
        assert not re.search(r"(src|href)=.?https?:", found.text)
    assert 'href="docs"' in client.get("/").text and "openapi.json" in client.get("/docs").text


def test_tasks_come_and_go_over_http_only_when_switched_on(serve, tasks):
    client = serve()
    assert client.delete("/v1/tasks/kinds").status_code == client.put("/v1/tasks/kinds").status_code == 405
    with pytest.raises(ValueError, match="needs a token"):
        serve(admin=True)
    client = serve(tasks, admin=True, token="secret")
    assert client.delete("/v1/tasks/kinds").status_code == 401
    client.headers["authorization"] = "Bearer secret"
    assert client.delete("/v1/tasks/kinds").status_code == 204
    assert client.post("/v1/tasks/kinds/predict", json={"inputs": [ROW]}).status_code == 404
    assert client.put("/v1/tasks/kinds").json()["name"] == "kinds"
    assert client.post("/v1/tasks/kinds/predict", json={"inputs": [ROW]}).status_code == 200
    assert client.put("/v1/tasks/..").status_code in (404, 405)
    (tasks / "kinds").rename(tasks / "kinds@1")
    assert client.put("/v1/tasks/kinds@1").status_code == 200
    assert client.put("/v1/aliases/best", json={"version": "kinds@1"}).status_code == 204
    assert client.post("/v1/tasks/best/predict", json={"inputs": [ROW]}).json()["task"] == "kinds@1"
    assert client.put("/v1/aliases/..", json={"version": "kinds@1"}).status_code in (404, 405)
    assert client.put("/v1/aliases/light", json={"version": "kinds@1"}).status_code == 422
    assert client.put("/v1/aliases/best", json={}).status_code == 422


def test_a_client_that_goes_costs_nothing(serve):
    client = serve()
    gate, busy, seen = threading.Event(), threading.Event(), []
    pool, scheduler = client.service.engine.pool, client.service.engine.scheduler
    answer = pool.outcomes
    pool.outcomes = lambda requests: (busy.set(), seen.append(len(requests)), gate.wait(10), answer(requests))[3]
    other = threading.Thread(target=client.post, args=("/v1/tasks/kinds/predict",), kwargs={"json": {"inputs": [ROW]}})
    other.start()
    assert busy.wait(10)
    body = json.dumps({"inputs": [ROW] * 3}).encode()
    sent = []

    async def receive():
        if not sent:
            sent.append("body")
            return {"type": "http.request", "body": body, "more_body": False}
        while scheduler.waiting[0] < 3:
            await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/tasks/kinds/predict", "query_string": b"", "headers": []}
    scope["headers"] = [(b"content-type", b"application/json")]
    asyncio.run(client.app(scope, receive, send))
    assert sent[1]["status"] == 499
    gate.set()
    other.join(10)
    assert client.post("/v1/tasks/kinds/predict", json={"inputs": [ROW]}).status_code == 200 and seen == [1, 1]


def test_a_client_that_goes_while_it_sends_is_no_failure(serve, caplog):
    client = serve()
    sent = []

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    for kind in (b"application/json", b"multipart/form-data; boundary=x"):
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/tasks/kinds/predict",
            "query_string": b"",
            "headers": [],
        }
        scope["headers"] = [(b"content-type", kind), (b"content-length", b"100")]
        asyncio.run(client.app(scope, receive, send))
    assert [one["status"] for one in sent if "status" in one] == [499, 499]
    counted = client.get("/metrics").text
    assert 'status="499",task="kinds"} 2.0' in counted and 'status="5' not in counted
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_what_cannot_be_prepared_in_time_is_refused_too(serve):
    client = serve(queue_seconds=1.0)
    quick, slow = client.service.engine.json_workers, client.service.engine.file_workers
    gate, begun = threading.Event(), threading.Barrier(3)
    slow.pace = 0.07
    for _ in range(2):
        slow.submit("light", 1, steps(lambda: (begun.wait(10), gate.wait(10))), "other")
    begun.wait(10)
    for _ in range(100):  # two workers: three and a half seconds
        slow.submit("light", 1, steps(lambda: None), "other")
    files = {"file": ("a.png", png())}
    with client.service.engine.admission.waiting(Asked(client="testclient", task="light", form=True, size=1)):
        found = client.post("/v1/tasks/light/predict", files=files)
    assert found.status_code == 429 and found.headers["retry-after"] == "3"
    rate = client.service.engine.admission.rate
    passes = client.service.engine.metrics.pass_seconds.collect
    before = str(passes())
    assert client.post("/v1/tasks/light/predict", files=files).status_code == 200, "who has nothing there has a turn"
    # A pass is counted after its answers are sent; the next request must not join the queue before that.
    until(lambda: str(passes()) != before)
    assert client.post("/v1/tasks/kinds/predict", json={"inputs": [ROW]}).status_code == 200
    assert client.service.engine.admission.rate == rate, "files that wait do not make the model slower"
    assert quick.waiting == 0 and quick.pace > 0
    gate.set()
