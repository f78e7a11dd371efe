"""What the engine takes: samples by the time that they take the model, failures of passes, wrong guesses."""

import numpy as np
import pytest

import metatx
from metatx.serving.limits import Limits

ROW = {"a": 0.4, "b": "red", "c": -1.0}


@pytest.fixture
def waves(nano, tmp_path):
    """A folder with a task that takes series of any length, a token for 8 steps."""
    rng = np.random.default_rng(0)
    data = [rng.normal(size=(1, 96)) for _ in range(4)], ["x", "y"] * 2
    metatx.Task.from_data(nano, "time_series", data).save_pretrained(tmp_path / "waves")
    return tmp_path


def test_a_sample_that_takes_the_model_long_is_refused_but_a_short_one_never(serve, waves):
    client = serve(waves, limits=Limits(pass_seconds=1.0))  # of 5,000 short tokens a second
    for steps, status in ((800, 200), (16_000, 200), (24_000, 413)):
        found = client.post("/v1/tasks/waves/predict", json={"inputs": [[[0.0, 1.0] * (steps // 2)]]})
        assert found.status_code == status
    assert "3,001 tokens, which take this server 2.2 s; expected at most 1 s" in found.json()["detail"]
    assert client.service.engine.admission.cost == 0


def test_a_pass_that_is_repeated_is_counted_and_logged_once_a_minute(serve, caplog):
    client = serve()
    pool, metrics = client.service.engine.pool, client.service.engine.metrics
    answer = pool.outcomes

    def apart(requests):
        if len(requests) > 1:
            raise RuntimeError("they do not go together")
        return answer(requests)

    pool.outcomes = apart
    for _ in range(3):
        found = client.post("/v1/tasks/kinds/predict", json={"inputs": [ROW] * 20})
        assert found.status_code == 200 and len(found.json()["answers"]) == 20
    assert (
        b"metatx_passes_repeated_total 0.0" not in metrics.text() and b"metatx_passes_repeated_total" in metrics.text()
    )
    lines = [record for record in caplog.records if "run one by one" in record.message]
    assert len(lines) == 1 and "kinds" in lines[0].message and "together" in str(lines[0].exc_info[1])


def test_what_a_request_costs_replaces_the_guess_while_it_is_under_way(serve):
    client = serve()
    admission, pool, seen = client.service.engine.admission, client.service.engine.pool, []
    answer = pool.outcomes
    pool.outcomes = lambda requests: (seen.append(admission.cost), answer(requests))[1]
    for _ in range(2):
        client.post("/v1/tasks/kinds/predict", json={"inputs": [ROW] * 10})
    inputs = [{"task": "kinds", "input": ROW}] * 10
    client.post("/v1/predict", json={"inputs": inputs})
    assert set(seen) == {40} and admission.cost == admission.tasks.total == 0


def test_a_slow_server_takes_no_request_that_it_cannot_answer_in_time(serve, waves):
    """20 samples of 201 tokens cost 4,020 short tokens: ten seconds' work where 400 are computed a second."""
    client = serve(waves, limits=Limits(), rate=400.0, queue_seconds=10.0)
    series = [[0.0, 1.0] * 800]
    assert client.post("/v1/tasks/waves/predict", json={"inputs": [series]}).status_code == 200
    found = client.post("/v1/tasks/waves/predict", json={"inputs": [series] * 25})
    assert found.status_code == 413 and "divide it" in found.json()["detail"]
