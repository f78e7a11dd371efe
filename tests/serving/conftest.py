"""What the tests of the server share: a folder of small trained tasks, and servers on it."""

import shutil
import time

import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient

import metatx
from metatx.pool.pool import TaskPool
from metatx.serving.application import Service, create_application
from metatx.serving.catalog import Catalog
from metatx.serving.engine import Engine
from metatx.serving.indexes import Indexes
from metatx.serving.limits import Limits
from metatx.serving.metrics import Metrics
from metatx.serving.readers import Readers
from tests.backbone.language_models import write_model

MOST = 40  # tokens of an answer of the task that writes


def pictures(count, seed=0):
    """Pictures that are bright or dark."""
    rng = np.random.default_rng(seed)
    bright = rng.integers(0, 2, count)
    return list((rng.integers(0, 120, (count, 24, 24, 3)) + 120 * bright[:, None, None, None]).astype(np.uint8)), [
        "bright" if flag else "dark" for flag in bright
    ]


@pytest.fixture(scope="session")
def trained(nano, table, tmp_path_factory):
    """Three tasks: rows of a table (with an adapter), pictures, series to forecast."""
    folder = tmp_path_factory.mktemp("tasks")
    kinds = metatx.Task.from_data(nano, "tabular", table, target="kind", inputs=["a", "b", "c"], tune="lora")
    kinds.fit(table, epochs=2, lr=3e-3, batch_size=64).save_pretrained(folder / "kinds")
    light = metatx.Task.from_data(nano, "image", pictures(16), tokenizer_options={"image_size": 32})
    light.fit(pictures(16), epochs=1).save_pretrained(folder / "light")
    hours = pd.DataFrame(
        {"time": pd.date_range("2024", periods=200, freq="h"), "load": np.sin(np.arange(200) / 5) + 20}
    )
    ahead = metatx.Task.from_data(
        nano,
        "time_series",
        hours,
        tokenizer_options={"lookback": 40, "patch_size": 10, "stride": 10},
        head_options={"horizon": 6},
    )
    ahead.save_pretrained(folder / "ahead")
    return folder


def houses_of(count):
    """Samples of three inputs, of which some are missing, and their targets."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        sample = {
            "photo": rng.integers(0, 255, (24, 24, 3), dtype=np.uint8),
            "words": ["a red door", "no garden at all", "quiet"][number % 3],
            "facts": {"rooms": float(number % 4), "kind": "flat" if number % 2 else "house"},
        }
        if number % 4 == 3:
            sample["photo"] = None
        found.append(sample)
    return found, ["dear" if number % 2 else "cheap" for number in range(count)]


@pytest.fixture(scope="session")
def houses(nano, tmp_path_factory):
    """A folder of tasks: of three inputs, late with LoRA and early."""
    folder = tmp_path_factory.mktemp("houses")
    inputs = {"photo": "image", "words": "text", "facts": "tabular"}
    options = {"photo": {"image_size": 32}}
    for name, fusion, tune in (("house", "late", "lora"), ("early", "early", "frozen")):
        limits = {"max_tokens": 40} if fusion == "early" else {}
        task = metatx.Task.from_data(
            nano, inputs, houses_of(16), fusion=fusion, fusion_options=limits, tune=tune, tokenizer_options=options
        )
        task.fit(houses_of(16), epochs=1, batch_size=8).save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="session")
def writing(tmp_path_factory):
    """Folder of a task that writes words and one that gives a class, on a small language model of random weights."""
    rows = pd.DataFrame({"q": ["one two", "red", "a b c d"] * 4, "a": ["three", "rose", "e f"] * 4})
    place = tmp_path_factory.mktemp("words")
    model = write_model(place / "llama", "llama", tie_word_embeddings=True)
    backbone = metatx.load_backbone(f"transformers:{model}")
    for name, head, options in (("say", "generation", {"max_new_tokens": MOST}), ("label", "classification", {})):
        task = metatx.Task.from_data(
            backbone, "text", rows, target="a", inputs=["q"], head=head, head_options=options, seed=0
        )
        task.save_pretrained(place / "tasks" / name)
    return place


@pytest.fixture
def tasks(trained, tmp_path):
    """A copy of the three tasks that a test may change."""
    return shutil.copytree(trained, tmp_path / "tasks")


class Shared(Readers):
    """Processes that read for the engines of many tests, which close them in vain: to start some takes seconds."""

    def close(self):
        pass


@pytest.fixture(scope="session")
def readers():
    """Processes that read files, with the limits of a server."""
    shared = Shared(Limits(), Metrics())
    yield shared
    Readers.close(shared)


@pytest.fixture
def serve(nano, trained, readers):
    """A function that gives a client of a running application, by default on the three tasks."""
    running = []

    def start(
        folder=trained,
        *,
        backbone=nano,
        limits=None,
        rate=5000.0,
        queue_seconds=10.0,
        readers=readers,
        indexes=None,
        **options,
    ):
        pool = TaskPool(backbone)
        engine = Engine(
            pool,
            limits or Limits(),
            Metrics(),
            batch_tokens=2048,
            rate=rate,
            queue_seconds=queue_seconds,
            readers=readers,
        )
        service = Service(engine, Catalog(folder, pool), indexes=Indexes(pool, indexes or {}), **options)
        client = TestClient(create_application(service), raise_server_exceptions=False)
        client.service = service
        client.__enter__()
        running.append(client)
        while not service.loaded:
            time.sleep(0.01)
        return client

    yield start
    for client in running:
        client.__exit__(None, None, None)
