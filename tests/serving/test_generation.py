"""Answers in words over HTTP, beside those of other heads on the same language model."""

import time

import pandas as pd
from fastapi.testclient import TestClient

import metatx
from metatx.serving.application import Service, create_application
from metatx.serving.catalog import Catalog
from metatx.serving.engine import Engine
from metatx.serving.indexes import Indexes
from metatx.serving.limits import Limits
from metatx.serving.metrics import Metrics
from tests.backbone.language_models import write_model

ROWS = pd.DataFrame({"q": ["one two", "red", "a b c d"] * 4, "a": ["three", "rose", "e f"] * 4})


def test_words_are_answered_beside_labels(tmp_path, readers) -> None:
    folder = write_model(tmp_path / "llama", "llama", tie_word_embeddings=True)
    backbone = metatx.load_backbone(f"transformers:{folder}")
    tasks = {}
    for name, head in (("say", "generation"), ("label", "classification")):
        tasks[name] = metatx.Task.from_data(backbone, "text", ROWS, target="a", inputs=["q"], head=head)
        tasks[name].save_pretrained(tmp_path / "tasks" / name)
    pool = metatx.TaskPool(backbone)
    engine = Engine(pool, Limits(), Metrics(), batch_tokens=2048, rate=5000.0, queue_seconds=10.0, readers=readers)
    service = Service(engine, Catalog(tmp_path / "tasks", pool), indexes=Indexes(pool, {}))
    with TestClient(create_application(service)) as client:
        while not service.loaded:
            time.sleep(0.01)
        for name, task in tasks.items():
            found = client.post(f"/v1/tasks/{name}/predict", json={"inputs": ["one two", "red"]})
            assert found.status_code == 200, found.json()
            assert [row["prediction"] for row in found.json()["answers"]] == task.predict(["one two", "red"]).tolist()
        vectors = client.post("/v1/tasks/say/embed", json={"inputs": ["one two"]}).json()["embeddings"]
        assert len(vectors[0]) == 64
        example = client.get("/openapi.json").json()["paths"]["/v1/tasks/say/predict"]["post"]["responses"]["200"]
        assert {"prediction", "ended"} <= set(example["content"]["application/json"]["example"]["answers"][0])
        long = client.post("/v1/tasks/say/predict", json={"inputs": ["two " * 60]})
        assert long.status_code == 422 and "cut into several sequences" in long.text
