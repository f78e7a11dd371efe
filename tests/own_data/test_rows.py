"""Rows of people's own: columns in any order, one form at every door, examples that the server answers."""

import numpy as np
import pandas as pd
import pytest
import torch
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, validate

import metatx
from metatx.cli import main
from metatx.data import byte_pairs
from metatx.encoding.columns import by_name
from metatx.pool.pool import TaskPool
from metatx.registry import lookup
from metatx.serving.application import Service, create_application
from metatx.serving.catalog import Catalog
from metatx.serving.engine import Engine
from metatx.serving.limits import Limits
from metatx.serving.metrics import Metrics
from tests.conftest import WavesTokenizer
from tests.mixed_tasks import MODALITIES, build, small_backbone, unlike_any
from tests.samples import TOKENIZERS, clouds, graphs, objects, pictures, pooling_heads

WORDS = ["is it good", "so so", "not bad at all", "well"]
PAIRS = [{"q": word, "a": f"yes {word[::-1]}"} for word in WORDS]


@pytest.fixture(scope="module")
def backbone():
    return small_backbone()


def labelled(frame):
    return frame.assign(y=["a", "b"] * (len(frame) // 2))


@pytest.fixture(scope="module")
def pair(backbone):
    frame = labelled(pd.DataFrame(PAIRS * 2))
    return unlike_any(metatx.Task.from_data(backbone, "text", frame, target="y", inputs=["q", "a"]), 0)


@pytest.fixture(scope="module")
def text(backbone):
    frame = labelled(pd.DataFrame({"words": WORDS * 2}))
    return unlike_any(metatx.Task.from_data(backbone, "text", frame, target="y"), 0)


@pytest.fixture(scope="module")
def number(backbone):
    frame = labelled(pd.DataFrame({"x": np.linspace(-1, 1, 40)}))
    return unlike_any(metatx.Task.from_data(backbone, "tabular", frame, target="y"), 0)


@pytest.fixture(scope="module")
def served(backbone, pair, text, number, tmp_path_factory):
    """A client of a server of a task of every modality and every head, and their folder."""
    folder = tmp_path_factory.mktemp("tasks")
    tasks = {"pair": pair, "text": text, "number": number, **of_every_kind(backbone), **with_every_head(backbone)}
    for name, task in tasks.items():
        task.save_pretrained(folder / name)
    pool = TaskPool(backbone)
    engine = Engine(pool, Limits(), Metrics(), batch_tokens=2048, rate=5000.0)
    service = Service(engine, Catalog(folder, pool))
    with TestClient(create_application(service)) as client:
        while not service.loaded:
            pass
        client.tasks = tasks
        yield client


def of_every_kind(backbone):
    """Tasks whose inputs have a form of their own, beside one of each modality."""
    rng = np.random.default_rng(0)
    made = {f"{modality}{i}": build(backbone, modality, i)[0] for i in (0, 1) for modality in MODALITIES}
    columns = pd.DataFrame([{**graph, "y": i % 2 == 0} for i, graph in enumerate(graphs(6)[:-1])])
    signals = pd.DataFrame({"acc": list(rng.normal(size=(4, 3, 90)).tolist()), "y": ["a", "b"] * 2})
    sounds = pd.DataFrame({"sound": [rng.normal(size=800).tolist() for _ in range(4)], "y": ["a", "b"] * 2})
    spectra = pd.DataFrame({"bands": rng.normal(5, 2, (6, 30)).tolist(), "y": ["a", "b"] * 3})
    for name, modality, table, inputs in (
        ("columns", "graph", columns, ["edge_index", "x", "edge_attr"]),
        ("signals", "imu", signals, ["acc"]),
        ("sounds", "audio", sounds, ["sound"]),
        ("spectra", "hyperspectral", spectra, ["bands"]),
    ):
        made[name] = metatx.Task.from_data(backbone, modality, table, target="y", inputs=inputs)
    return made


def with_every_head(backbone):
    """Tasks of the heads that are not for every modality."""
    hours = pd.DataFrame({"time": pd.date_range("2024", periods=90, freq="h"), "a/b": np.arange(90.0), "c": 1.5})
    looks = {"lookback": 40, "patch_size": 10, "stride": 10}
    masks = [np.arange(40 * 50).reshape(40, 50) % 2 for _ in range(4)]
    boxes = [objects(8.0 + 10 * i, ["cat", "dog"][i % 2]) for i in range(4)]
    words, labels = ["one", "two", "three", "four"], [["a"], ["b"], ["a", "b"], []]
    ahead = {"tokenizer_options": looks, "head_options": {"horizon": 6}}
    bands = {"tokenizer_options": looks, "head_options": {"horizon": 3, "quantiles": [0.1, 0.5, 0.9]}}
    sized = {"tokenizer_options": {"image_size": [32, 40]}, "head_options": {"layers": 2}}
    grouped = {"tokenizer_options": {"groups": 8}, "head_options": {"layers": 2}}
    cases = {
        "ahead": ("time_series", hours, ahead),
        "bands": ("time_series", hours, bands),
        "masks": ("image", (pictures(), masks), {"head": "segmentation", **sized}),
        "boxes": ("image", (pictures(), boxes), {"head": "detection", **sized}),
        "points": ("point_cloud", (clouds()[:2], [np.arange(60) % 2] * 2), {"head": "segmentation", **grouped}),
        "labels": ("text", (words, labels), {"head": "multilabel"}),
        "vectors": ("text", (words, ["x", "x", "y", "y"]), {"head": "embedding"}),
    }
    return {name: metatx.Task.from_data(backbone, *data, **options) for name, (*data, options) in cases.items()}


# Inputs go by name


@settings(max_examples=25, deadline=None)
@given(
    order=st.permutations(["q", "a", "id", "note"]),
    beside=st.sets(st.sampled_from(["id", "note"])),
    frame=st.booleans(),
)
def test_the_texts_of_a_pair_go_by_name(pair, order, beside, frame):
    rows = [{name: row.get(name, "a.png") for name in order if name in row or name in beside} for row in PAIRS]
    expected = pair.embed([(row["q"], row["a"]) for row in PAIRS])
    assert np.allclose(pair.embed(pd.DataFrame(rows) if frame else rows), expected, atol=1e-6)


def test_rows_of_another_order_are_learned_and_measured_by_name(backbone, pair):
    turned = [{"a": row["a"], "q": row["q"]} for row in PAIRS]
    mixed = [turned[0], PAIRS[1], turned[2], PAIRS[3]]
    labels = ["a", "b"] * 2
    learned = [metatx.Task.from_data(backbone, "text", (rows, labels)) for rows in (PAIRS, mixed)]
    assert learned[0].inputs == learned[1].inputs[::-1] == ["q", "a"]
    assert torch.equal(learned[0].tokenizer.known, learned[1].tokenizer.known)
    losses = [pair.evaluate((rows, labels))["loss"] for rows in (PAIRS, mixed)]
    losses.append(pair.evaluate(labelled(pd.DataFrame(mixed))[["y", "a", "q"]])["loss"])
    assert np.allclose(losses, losses[0], atol=1e-6)


@pytest.mark.parametrize("row", [{"q": "good"}, {"q": "good", "A": "yes"}, {"question": "good", "answer": "yes"}, {}])
def test_a_missing_input_is_named_everywhere(pair, served, row):
    missing = "q" if "q" not in row else "a"
    with pytest.raises(metatx.SampleError, match=f"sample 2: column {missing}: absent .*expected q, a"):
        pair.predict([PAIRS[0], row])
    found = served.post("/v1/tasks/pair/predict", json={"inputs": [PAIRS[0], row]})
    assert found.status_code == 422 and f"inputs[1]: column {missing}: absent" in found.json()["detail"]
    with pytest.raises(metatx.SampleError, match="sample 2: column"):
        pair.evaluate(([PAIRS[0], row], ["a", "b"]))


# One row has one form


def everywhere(task, name, client, rows):
    """Probabilities of the first class of rows, asked in Python, in a pool, over HTTP, in one request of many tasks."""
    pool = TaskPool(task.backbone)
    pool.add("t", task)
    records = [pool.answer([pool.prepare("t", row, "records")])[0] for row in rows]
    answers = client.post(f"/v1/tasks/{name}/predict", json={"inputs": rows}).json()["answers"]
    mixed = client.post("/v1/predict", json={"inputs": [{"task": name, "input": row} for row in rows]}).json()[
        "answers"
    ]
    assert pool.predict([("t", row) for row in rows]) == task.predict(rows).tolist()
    found = [task.records(rows), records, answers, [answer["answer"] for answer in mixed]]
    return [[record["p(a)"] for record in part] for part in found]


def test_a_table_of_one_column_is_asked_by_rows(number, served):
    frame = pd.DataFrame({"x": [-0.5, 0.25, 1.0]})
    expected = number.predict_proba(frame)[:, 0]
    rows = [{"x": -0.5}, {"z": "a", "x": 0.25}, {"x": 1}]
    for shares in everywhere(number, "number", served, rows):
        assert np.allclose(shares, expected, atol=1e-5)
    assert np.allclose(number.predict_proba([row for _, row in frame.iterrows()])[:, 0], expected)


def test_a_text_is_asked_bare_and_as_a_row(text, served):
    expected = text.predict_proba(WORDS)[:, 0]
    rows = [WORDS[0], {"words": WORDS[1]}, {"id": "a.txt", "words": WORDS[2]}, WORDS[3]]
    for shares in everywhere(text, "text", served, rows):
        assert np.allclose(shares, expected, atol=1e-5)
    for whole in (
        pd.Series(WORDS, name="words"),
        pd.DataFrame({"n": 1, "words": WORDS}),
        np.array(WORDS),
        tuple(WORDS),
    ):
        assert np.allclose(text.predict_proba(whole)[:, 0], expected)
    with pytest.raises(metatx.SampleError, match="column words: absent from a row of txt"):
        text.predict([{"txt": "good"}])


@pytest.mark.parametrize(
    ("modality", "sample"),
    [
        ("image", {"bytes": b"...", "path": "a.png"}),
        ("audio", {"array": [0.0], "sampling_rate": 16_000}),
        ("point_cloud", {"points": [[0.0, 0.0, 0.0]]}),
        ("graph", {"edge_index": [[0], [1]], "x": [[1.0], [2.0]]}),
        ("video", {"bytes": b"...", "path": None}),
    ],
)
def test_a_dict_that_is_a_sample_is_no_row_unless_it_holds_the_input(modality, sample):
    kind = lookup("tokenizers", modality)
    assert by_name(sample, kind, ["thing"]) == sample
    assert by_name({"id": 3, "thing": sample}, kind, ["thing"]) == sample
    assert by_name(sample, kind, []) == sample


@pytest.mark.parametrize("one", [{"x": 1.0}, pd.Series({"x": 1.0}), 3, None])
def test_what_is_no_list_of_samples_is_refused_in_words(number, one):
    with pytest.raises(TypeError, match=r"expected a list of samples \(for one: \[sample\]\), a path or a table"):
        number.predict(one)


def test_a_tensor_is_a_list_of_samples(backbone):
    task, _ = build(backbone, "imu", 1)
    signals = torch.randn(3, 6, 100)
    assert np.allclose(task.embed(signals), task.embed(list(signals.numpy())))


# What the server publishes


def published(client):
    """Path, body, schemas of request and response of each task, as a program reads them."""
    document = client.get("/openapi.json").json()

    def whole(schema):
        return {**schema, "components": document["components"]}

    for path, item in document["paths"].items():
        if path.count("/") == 4 and path.endswith("/predict") and "{" not in path:
            content = item["post"]["requestBody"]["content"]["application/json"]
            answer = item["post"]["responses"]["200"]["content"]["application/json"]
            yield path, content, whole(content["schema"]), answer, whole(answer["schema"])


def test_the_example_of_every_task_is_answered_as_published(served):
    asked = []
    for path, content, schema, answer, answers in published(served):
        Draft202012Validator.check_schema(schema)
        validate(content["example"], schema)
        validate(answer["example"], answers)
        found = served.post(path, json=content["example"])
        assert found.status_code == 200, (path, found.json())
        validate(found.json(), answers)
        assert found.json()["answers"][0].keys() == answer["example"]["answers"][0].keys()
        vectors = served.post(path.replace("predict", "embed"), json=content["example"])
        assert vectors.status_code == 200 and len(vectors.json()["embeddings"][0]) == 32
        asked.append(path.split("/")[3])
    assert sorted(asked) == sorted(served.tasks)
    heads, modalities = ({getattr(task, part).name for task in served.tasks.values()} for part in ("head", "tokenizer"))
    assert modalities == set(TOKENIZERS) and sorted(heads) == pooling_heads()


def test_rows_of_the_inputs_are_published_and_fit_the_schema(served):
    document = served.get("/openapi.json").json()
    for name, row in (("text", {"words": "so"}), ("pair", PAIRS[0]), ("spectra", {"bands": [1.0] * 30})):
        schema = document["components"]["schemas"][f"input.{name}"]
        validate(row, schema)
        assert served.post(f"/v1/tasks/{name}/predict", json={"inputs": [row]}).status_code == 200
    assert document["components"]["schemas"]["input.pair"]["examples"][0].keys() == {"q", "a"}


def test_an_example_that_is_not_answered_is_not_published(backbone, tmp_path):
    class Broken(WavesTokenizer):
        def json_schema(self):
            return {"type": "array", "examples": [[[1.0]]]}

    rng = np.random.default_rng(0)
    for name, kind in (("bare", type("Bare", (WavesTokenizer,), {})), ("broken", Broken)):
        metatx.register_tokenizer(name)(kind)
        data = list(rng.normal(size=(4, 3, 40)).astype(np.float32)), ["a", "b"] * 2
        metatx.Task.from_data(backbone, name, data).save_pretrained(tmp_path / name)
    catalog = Catalog(tmp_path, TaskPool(backbone))
    catalog.refresh()
    assert {name: task.sample.schema for name, task in catalog.served.items()} == {
        "bare": {},
        "broken": {"type": "array"},
    }


def test_a_task_is_ready_when_what_it_needs_is_loaded(backbone, text, tmp_path):
    text.save_pretrained(tmp_path / "text")
    vocabulary = byte_pairs.clip_vocabulary
    vocabulary.cache_clear()
    Catalog(tmp_path, TaskPool(backbone)).refresh()
    assert vocabulary.cache_info().currsize == 1


def test_errors_name_columns_as_they_are(backbone, tmp_path):
    frame = labelled(pd.DataFrame({"od280/od315": np.linspace(0, 1, 20), "c": 1.0}))
    metatx.Task.from_data(backbone, "tabular", frame, target="y").save_pretrained(tmp_path / "t")
    pool = TaskPool(backbone)
    engine = Engine(pool, Limits(), Metrics(), batch_tokens=2048, rate=5000.0)
    service = Service(engine, Catalog(tmp_path, pool))
    with TestClient(create_application(service)) as client:
        while not service.loaded:
            pass
        told = client.post("/v1/tasks/t/predict", json={"inputs": [{"od280/od315": "./a/b", "c": 1}]}).json()["detail"]
    assert told.startswith("column od280/od315: found './a/b', expected a number, or null")


@pytest.mark.parametrize("sample", ["only one", ["only one"], ["one", "two", "three"]])
def test_a_pair_is_not_answered_by_fewer_or_more_texts(pair, served, sample):
    with pytest.raises(ValueError, match="of 2 inputs; expected a row of q, a"):
        pair.predict([sample])
    found = served.post("/v1/tasks/pair/predict", json={"inputs": [sample]})
    assert found.status_code == 422 and "expected" in found.text


def test_names_of_inputs_may_hold_commas_on_the_command_line_too(tmp_path, capsys):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"alcohol, in %": rng.normal(size=40), "z": rng.normal(size=40), "id": range(40)})
    table.assign(label=["a", "b"] * 20).to_csv(tmp_path / "t.csv", index=False)
    command = ["train", f"{tmp_path}/t.csv", "--modality", "tabular", "--inputs", "alcohol, in %, z", "--epochs", "1"]
    main([*command, "--no-baseline", "--out", f"{tmp_path}/run"])
    capsys.readouterr()
    main(["info", f"{tmp_path}/run/task"])
    assert "reads      alcohol, in %, z\n" in capsys.readouterr().out
