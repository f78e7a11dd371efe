"""One bad folder is one bad folder: whatever it holds, the others are served, and it is listed with its reason."""

import errno
import json
import os
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import metatx
from metatx.errors import ChangedError, SampleError
from metatx.pool.pool import TaskPool
from metatx.serving.catalog import Catalog, common_backbone
from metatx.serving.schemas import TaskList, detail_of, summary_of
from tests.conftest import waves
from tests.damaging import DAMAGE, PARTS, away, changed
from tests.mixed_tasks import small_backbone

SIGNAL = waves(1)[0][0]
EXAMPLES = int(os.environ.get("METATX_DAMAGE", "60"))  # by hand a thousand


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A backbone, and a folder of two tasks on it."""
    backbone, folder = small_backbone(), tmp_path_factory.mktemp("source")
    for name, tune in (("good", "frozen"), ("other", "lora")):
        metatx.Task.from_data(backbone, "waves", waves(20), tune=tune).save_pretrained(folder / name)
    return backbone, folder


@pytest.fixture
def catalog(source, tmp_path):
    backbone, folder = source
    found = Catalog(shutil.copytree(folder, tmp_path / "tasks"), TaskPool(backbone))
    found.refresh()
    return found


def listed(catalog):
    """What the endpoints give, all of it as JSON."""
    served = [summary_of(name, task) for name, task in catalog.served.items()]
    for name, task in catalog.served.items():
        detail_of(name, task).model_dump_json()
    return TaskList(tasks=served, aliases=catalog.aliases, refused=catalog.refused).model_dump_json()


STRANGE = {
    "loop": lambda tasks: (tasks / "bad").symlink_to("bad"),
    "loop inside": lambda tasks: _task(tasks) or (tasks / "bad" / "x").symlink_to("x"),
    "config loops": lambda tasks: _replaced(tasks, "config.json", lambda path: path.symlink_to("config.json")),
    "config away": lambda tasks: _replaced(tasks, "config.json", lambda path: path.symlink_to("/etc/passwd")),
    "config pipe": lambda tasks: _replaced(tasks, "config.json", os.mkfifo),
    "config folder": lambda tasks: _replaced(tasks, "config.json", os.mkdir),
    "card away": lambda tasks: _replaced(tasks, "README.md", lambda path: path.symlink_to("/etc/passwd")),
    "card of another": lambda tasks: _replaced(tasks, "README.md", lambda path: path.symlink_to("../good/README.md")),
    "card pipe": lambda tasks: _replaced(tasks, "README.md", os.mkfifo),
    "weights away": lambda tasks: _replaced(
        tasks, "model.safetensors", lambda path: path.symlink_to("../good/model.safetensors")
    ),
    "outside": lambda tasks: (tasks / "bad").symlink_to(shutil.copytree(tasks / "good", tasks.parent / "elsewhere")),
    "task outside": lambda tasks: (
        (tasks / "bad").mkdir()
        or (tasks / "bad" / "task").symlink_to(shutil.copytree(tasks / "good", tasks.parent / "elsewhere"))
    ),
    "no version": lambda tasks: _config(tasks, version=None),
    "version": lambda tasks: _config(tasks, version="2"),
    "deep": lambda tasks: _replaced(tasks, "config.json", lambda path: path.write_text("[" * 100_000)),
    "target": lambda tasks: _config(tasks, target=5),
    "inputs": lambda tasks: _config(tasks, inputs=[5]),
    "surrogate": lambda tasks: _config(tasks, inputs=["\ud800"]),
    "huge": lambda tasks: _config(tasks, metrics={"metatx": {"accuracy": 10**400}}),
}


def _task(tasks):
    shutil.copytree(tasks / "good", tasks / "bad")


def _replaced(tasks, name, make):
    _task(tasks)
    (tasks / "bad" / name).unlink()
    make(tasks / "bad" / name)


def _config(tasks, **changes):
    _task(tasks)
    path = tasks / "bad" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("case", [case for case in STRANGE if case != "loop inside"])
def test_what_is_strange_is_refused_with_its_reason(catalog, case):
    STRANGE[case](catalog.folder)
    (catalog.folder / "a\nb").mkdir()
    catalog.refresh()
    assert sorted(catalog.served) == ["good", "other"] and set(catalog.refused) == {"bad"}
    reason = catalog.refused["bad"]
    assert reason and "\n" not in reason and str(catalog.folder.parent) not in reason
    assert "root:" not in listed(catalog)
    assert common_backbone(catalog.folder)
    shutil.copytree(catalog.folder / "good", catalog.folder / "new")
    catalog.refresh()
    assert "new" in catalog.served, "what comes later is loaded"


def test_a_loop_beside_the_files_of_a_task_does_not_matter(catalog):
    STRANGE["loop inside"](catalog.folder)
    catalog.refresh()
    assert sorted(catalog.served) == ["bad", "good", "other"]


def test_whatever_a_plug_in_raises_is_one_task_s(catalog, monkeypatch, caplog):
    def fail(*_, **__):
        raise RuntimeError(f"{catalog.folder} is not mine")

    monkeypatch.setattr("metatx.serving.catalog.tried", fail)
    _task(catalog.folder)
    catalog.refresh()
    assert catalog.refused["bad"] == "It could not be loaded (RuntimeError); the log says why."
    assert "Traceback" in caplog.text and "bad" not in [task.name for task in catalog.pool.tasks()]
    caplog.clear()
    catalog.refresh()
    assert not caplog.text, "said once for each change"


def test_a_folder_that_is_being_written_is_tried_again(catalog):
    _task(catalog.folder)
    weights = catalog.folder / "bad" / "model.safetensors"
    whole = weights.read_bytes()
    for content in (b"", whole[:100], whole[:-1]):
        weights.write_bytes(content)
        catalog.refresh()
        assert "damaged" in catalog.refused["bad"]
    weights.write_bytes(whole)
    catalog.refresh()
    assert "bad" in catalog.served and not catalog.refused


@settings(deadline=None, max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_damage_keeps_the_others_from_being_served(catalog, data):
    bad = catalog.folder / "bad"
    away(bad)
    shutil.copytree(catalog.folder / data.draw(st.sampled_from(["good", "other"])), bad)
    if data.draw(st.booleans()):
        text = data.draw(changed(json.loads((bad / "config.json").read_text())))
        (bad / "config.json").write_text(text)
    else:
        data.draw(st.sampled_from(DAMAGE))(bad / data.draw(st.sampled_from(PARTS)))
    catalog.refresh()
    listed(catalog)
    assert {"good", "other"} <= set(catalog.served)
    assert len(catalog.pool.predict([("good", SIGNAL), ("other", SIGNAL)])) == 2


# Versions


@pytest.fixture
def small(source, tmp_path):
    """A catalog of two versions whose pool holds one task at a time."""
    backbone, folder = source
    for name in ("t@1", "t@2"):
        shutil.copytree(folder / "good", tmp_path / "tasks" / name)
    found = Catalog(tmp_path / "tasks", TaskPool(backbone, memory_mb=1e-6))
    found.refresh()
    return found


def other_weights(folder):
    tensors = load_file(folder / "model.safetensors")
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, folder / "model.safetensors")


def test_a_version_never_changes_also_when_it_was_evicted(small):
    before = small.pool.task("t@2")
    other_weights(small.folder / "t@2")
    small.refresh()
    assert small.pool.task("t@2") is before and "never change" in small.refused["t@2"]
    small.pool.task("t@1")
    for _ in range(2):
        with pytest.raises(ChangedError, match="t@2 changed on disk, but a version must not change"):
            small.pool.predict([("t@2", SIGNAL)])
    assert len(small.pool.predict([("t@1", SIGNAL)])) == 1


def test_a_version_that_came_back_is_the_same_or_refused(small):
    kept = shutil.copytree(small.folder / "t@2", small.folder.parent / "kept")
    for changed_meanwhile in (True, False):
        shutil.rmtree(small.folder / "t@2")
        small.refresh()
        small.refresh()
        assert "t@2" not in small.served
        shutil.copytree(kept, small.folder / "t@2")
        if changed_meanwhile:
            other_weights(small.folder / "t@2")
        small.refresh()
        assert ("t@2" in small.served) != changed_meanwhile and ("t@2" in small.refused) == changed_meanwhile


def test_a_version_in_files_of_another_date_is_the_same(small):
    for file in (small.folder / "t@1").iterdir():
        os.utime(file, ns=(1, 1))
    small.refresh()
    assert not small.refused
    small.pool.task("t@2")
    assert len(small.pool.predict([("t@1", SIGNAL)])) == 1


def test_what_cannot_be_loaded_again_is_a_503_in_words(serve, tasks):
    shutil.copytree(tasks / "kinds", tasks / "kinds@1")
    client = serve(tasks)
    pool = client.service.engine.pool
    pool.memory_mb = 1e-6
    ask = {"inputs": [{"a": 0.4, "b": "red", "c": -1.0}]}
    pool.reload("light")  # drops the others
    other_weights(tasks / "kinds@1")
    answer = client.post("/v1/tasks/kinds@1/predict", json=ask)
    assert answer.status_code == 503 and answer.json()["detail"].startswith("kinds@1 changed on disk, but a version")
    pool.reload("light")
    (tasks / "kinds" / "model.safetensors").write_bytes(b"damaged")
    answer = client.post("/v1/tasks/kinds/predict", json=ask)
    assert answer.status_code == 503 and "damaged on disk" in answer.text and str(tasks) not in answer.text
    pool.reload("light")
    shutil.rmtree(tasks / "kinds")
    answer = client.post("/v1/tasks/kinds/predict", json=ask)
    assert answer.status_code == 503 and "The folder of task 'kinds' is gone" in answer.json()["detail"]


def test_a_full_disk_at_an_upload_is_a_503(serve, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "/tmp/secret")

    client = serve()
    monkeypatch.setattr("metatx.serving.readers.shutil.copyfileobj", full)
    answer = client.post("/v1/tasks/light/predict", files={"file": ("a.png", b"x")})
    assert answer.status_code == 503 and "cannot hold this now" in answer.text and "secret" not in answer.text


def test_a_link_that_a_crash_left_keeps_no_alias_from_moving(small, monkeypatch):
    (small.folder / f".best.{os.getpid()}").symlink_to("t@1")
    small.point("best", "t@2")
    small.point("best", "t@1")
    assert small.resolve("best") == "t@1" and (small.folder / "best").readlink().name == "t@1"


def test_a_task_whose_example_is_too_long_is_refused(source, tmp_path):
    backbone, _ = source
    pictures = ([SIGNAL[0, :36].reshape(6, 6) for _ in range(2)], ["a", "b"])
    task = metatx.Task.from_data(backbone, "image", pictures, tokenizer_options={"image_size": 64})
    task.save_pretrained(tmp_path / "tasks" / "large")
    for most, refused in ((255, True), (1000, False)):
        catalog = Catalog(tmp_path / "tasks", TaskPool(backbone), tokens=most)
        catalog.refresh()
        assert ("large" in catalog.refused) == refused


def test_an_answer_that_runs_over_is_that_sample_s_alone(source):
    pool = TaskPool(source[0])
    pool.add("good", source[1] / "good")
    large = np.sign(SIGNAL) * np.float32(3e38)
    found = pool.outcomes([pool.prepare("good", one) for one in (SIGNAL, large, SIGNAL)])
    assert isinstance(found[1], SampleError) and found[0] == found[2] == pool.predict([("good", SIGNAL)])[0]
