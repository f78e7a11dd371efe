"""The pool: a batch that mixes tasks answers as each task alone."""

import json
import threading
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import metatx
from metatx.errors import TaskError
from tests.conftest import waves
from tests.mixed_tasks import MODALITIES, alone, build, number_of, small_backbone, unlike_any
from tests.samples import TOKENIZERS


@pytest.fixture(scope="module")
def pool(nano, table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    pool = metatx.TaskPool(nano)
    rows = metatx.Task.from_data(nano, "tabular", table, target="kind").fit(table, epochs=1)
    rows.save_pretrained(folder / "rows")
    pool.add("rows", folder / "rows")
    deep = metatx.Task.from_data(nano, "waves", waves(40), head_options={"layers": 3}).fit(waves(40), epochs=1)
    pool.add("waves", deep)
    image = metatx.Task.from_data(nano, "image", ([np.zeros((8, 8), np.uint8), np.ones((8, 8), np.uint8)], ["a", "b"]))
    pool.add("image", image)
    return pool


def test_mixed_answers_are_those_of_each_task(pool, table):
    signals = waves(6, seed=5)[0]
    rows = table.drop(columns="kind").to_dict("records")
    pictures = list(np.random.default_rng(0).integers(0, 255, (3, 20, 30, 3), dtype=np.uint8))
    requests = [("waves", signals[0]), ("rows", rows[0]), ("image", pictures[0]), ("waves", signals[1])]
    requests += [("rows", row) for row in rows[1:9]] + [("image", picture) for picture in pictures[1:]]
    answers = pool.predict(requests)
    for (name, sample), answer in zip(requests, answers, strict=True):
        assert answer == pool.task(name).set_inference(precision="fp32").predict([sample])[0]


def test_one_pass_through_the_backbone(pool, table):
    calls = []
    handle = pool.backbone.register_forward_hook(lambda *_: calls.append(1))
    row = table.drop(columns="kind").iloc[0].to_dict()
    pool.predict([("rows", row), ("waves", waves(1)[0][0]), ("rows", row)])
    handle.remove()
    assert len(calls) == 1


def test_what_cannot_be_answered_is_named(pool, tmp_path):
    with pytest.raises(ValueError, match="Did you mean 'waves'"):
        pool.predict([("wave", None)])
    with pytest.raises(metatx.SampleError, match=r"sample 1: signal is \(1, 4\)"):
        pool.predict([("waves", np.zeros((1, 4)))])
    with pytest.raises(ValueError, match="nothing to predict"):
        pool.predict([])
    with pytest.raises(ValueError, match="has a task 'waves' already"):
        pool.add("waves", pool.task("waves"))
    with pytest.raises(FileNotFoundError):
        pool.add("new", tmp_path / "none")
    other = metatx.Task.from_data(metatx.load_backbone("nano", pretrained=False), "waves", waves(20))
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(TaskError, match="trained on backbone"):
        pool.add("other", tmp_path / "other")
    assert [task.name for task in pool.tasks()] == ["image", "rows", "waves"]


# Twelve tasks, with and without adapters


@pytest.fixture(scope="module")
def dozen(tmp_path_factory):
    """A pool of twelve tasks from their folders; all requests there are; the embedding and answer of each alone."""
    folder, pool, expected = tmp_path_factory.mktemp("dozen"), metatx.TaskPool(small_backbone()), {}
    for number, modality in enumerate(MODALITIES):
        task, samples = build(pool.backbone, modality, number)
        pool.add(modality, task.save_pretrained(folder / modality))
        expected |= {(modality, i): alone(task, sample) for i, sample in enumerate(samples)}
    return pool, {key: build_sample(key) for key in expected}, expected


def build_sample(key):
    return TOKENIZERS[key[0]].samples[key[1]]


def test_the_dozen_differ(dozen):
    pool, samples, expected = dozen
    assert (
        len(pool.tasks()) == 12
        and len(samples) >= 40
        and len({round(answer, 5) for _, answer in expected.values()}) > 40
    )
    assert {task.tune for task in pool.tasks()} == {"frozen", "scale", "norm", "lora"}


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_any_mix_is_answered_as_each_task_alone(dozen, data):
    pool, samples, expected = dozen
    keys = data.draw(st.lists(st.sampled_from(sorted(samples)), min_size=1, max_size=9))
    kinds = data.draw(st.lists(st.sampled_from(["embed", "records"]), min_size=len(keys), max_size=len(keys)))
    requests = [pool.prepare(key[0], samples[key], kind) for key, kind in zip(keys, kinds, strict=True)]
    for key, kind, answer in zip(keys, kinds, pool.answer(requests), strict=True):
        embedding, number = expected[key]
        if kind == "embed":
            np.testing.assert_allclose(answer, embedding, atol=1e-5, rtol=1e-5)
        else:
            assert number_of(answer) == pytest.approx(number, abs=1e-5, rel=1e-5)
    asked = [(key[0], samples[key]) for key in keys]
    for found, key in zip(pool.embed(asked), keys, strict=True):
        np.testing.assert_allclose(found, expected[key][0], atol=1e-5, rtol=1e-5)


# Tasks come and go


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The small backbone, and folders of three tasks on it that answer differently."""
    folder, backbone = tmp_path_factory.mktemp("saved"), small_backbone()
    for seed, (name, tune) in enumerate({"a": "frozen", "b": "lora", "c": "norm"}.items()):
        task = metatx.Task.from_data(backbone, "waves", (SIGNALS, NUMBERS), tune=tune, seed=seed)
        unlike_any(task, seed).save_pretrained(folder / name)
    return backbone, folder


SIGNALS, NUMBERS = waves(8)[0], np.linspace(0, 9, 8).tolist()
NAMES = ("a", "b", "c")


def filled(saved, **options):
    backbone, folder = saved
    pool = metatx.TaskPool(backbone, **options)
    for name in NAMES:
        pool.add(name, folder / name)
    return pool


def facts(pool, field):
    return {task.name: getattr(task, field) for task in pool.tasks()}


def test_folders_are_loaded_when_they_are_first_asked(saved):
    pool = filled(saved)
    pool.add("pinned", saved[1] / "a", pinned=True)
    assert facts(pool, "loaded") == {"a": False, "b": False, "c": False, "pinned": True}
    pool.predict([("b", SIGNALS[0]), ("b", SIGNALS[1])])
    assert facts(pool, "loaded") == {"a": False, "b": True, "c": False, "pinned": True}
    assert facts(pool, "answered") == {"a": 0, "b": 2, "c": 0, "pinned": 0}
    assert facts(pool, "tune") == {"a": "frozen", "b": "lora", "c": "norm", "pinned": "frozen"}
    assert facts(pool, "bytes")["b"] > facts(pool, "bytes")["pinned"] > 0 == facts(pool, "bytes")["a"]


def test_beyond_the_bound_the_least_recently_used_goes(saved):
    pool = filled(saved)
    expected = [pool.predict([(name, SIGNALS[0])]) for name in NAMES]
    size = {name: held / 1e6 for name, held in facts(pool, "bytes").items()}
    pool = filled(saved, memory_mb=size["a"] + max(size["b"], size["c"]) + 1e-6)
    order = ("a", "b", "a", "c", "b", "c", "a")
    kept = ("a", "ab", "ab", "ac", "bc" if size["b"] + size["c"] < pool.memory_mb else "b")
    for name, names in zip(order, kept, strict=False):
        assert pool.predict([(name, SIGNALS[0])]) == expected[NAMES.index(name)]
        assert [task.name for task in pool.tasks() if task.loaded] == list(names)
    held = pool.prepare("b", SIGNALS[0])
    for name in ("a", "c", "a"):
        pool.predict([(name, SIGNALS[0])])
    assert not facts(pool, "loaded")["b"] and pool.answer([held]) == expected[1]
    with pytest.raises(ValueError, match="memory_mb is 0; it must be above 0"):
        metatx.TaskPool(saved[0], memory_mb=0)


def test_what_is_pinned_or_has_no_folder_stays(saved):
    pool = metatx.TaskPool(saved[0], memory_mb=1e-6)
    pool.add("object", metatx.Task.from_pretrained(saved[1] / "a", saved[0]))
    pool.add("pinned", saved[1] / "b", pinned=True)
    pool.add("c", saved[1] / "c")
    pool.predict([("c", SIGNALS[0])])
    assert facts(pool, "loaded") == {"object": True, "pinned": True, "c": True}, "the latest answers in any case"
    pool.add("a", saved[1] / "a")
    pool.predict([("a", SIGNALS[0])])
    assert facts(pool, "loaded") == {"object": True, "pinned": True, "c": False, "a": True}


def test_requests_prepared_before_a_reload_finish_on_the_old_task(saved):
    pool = filled(saved)
    old, new = (pool.predict([(name, SIGNALS[0])]) for name in ("a", "b"))
    before = pool.prepare("a", SIGNALS[0])
    pool.reload("a", saved[1] / "b")
    assert pool.answer([before, pool.prepare("a", SIGNALS[0])]) == [*old, *new] and old != new
    assert facts(pool, "folder")["a"] == saved[1] / "b" and facts(pool, "answered")["a"] == 3
    removed = pool.prepare("c", SIGNALS[0])
    pool.remove("c")
    assert len(pool.answer([removed])) == 1
    for ask in (pool.remove, pool.reload, pool.task, lambda name: pool.prepare(name, SIGNALS[0])):
        with pytest.raises(ValueError, match="Unknown task 'c'. Choices: a, b"):
            ask("c")


def test_a_reload_that_fails_keeps_the_old_task(saved, tmp_path):
    pool = filled(saved)
    task = metatx.Task.from_pretrained(saved[1] / "a", saved[0])
    folder = task.save_pretrained(tmp_path / "new")
    pool.add("new", folder)
    answer = pool.predict([("new", SIGNALS[0])])
    damage_shapes(folder)
    for source in (None, tmp_path / "none"):
        with pytest.raises((TaskError, FileNotFoundError)):
            pool.reload("new", source)
    assert pool.predict([("new", SIGNALS[0])]) == answer
    task.save_pretrained(folder)
    pool.reload("new")
    assert pool.predict([("new", SIGNALS[0])]) == answer
    pool.add("object", task)
    with pytest.raises(ValueError, match="'object' was given as an object; give the task or folder"):
        pool.reload("object")


def damage_shapes(folder):
    """Weights of other shapes than config.json says."""
    tensors = load_file(folder / "model.safetensors")
    save_file({name: torch.stack([tensor, tensor]) for name, tensor in tensors.items()}, folder / "model.safetensors")


def damage_config(folder):
    (folder / "config.json").write_text("{}")


def damage_length(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-5])


def damage_adapter(folder):
    (folder / "adapter" / "adapter_model.safetensors").unlink()


def damage_backbone(folder):
    config = json.loads((folder / "config.json").read_text())
    config["backbone"]["fingerprint"] = "0" * 64
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("damage", [damage_config, damage_length, damage_adapter, damage_backbone])
def test_a_damaged_folder_is_refused_at_once_and_the_others_go_on(saved, tmp_path, damage):
    pool = filled(saved)
    folder = metatx.Task.from_pretrained(saved[1] / "b", saved[0]).save_pretrained(tmp_path / "task")
    damage(folder)
    with pytest.raises(TaskError) as caught:
        pool.add("bad", folder)
    assert "\n" not in str(caught.value)
    assert [task.name for task in pool.tasks()] == list(NAMES) and len(pool.predict([("a", SIGNALS[0])])) == 1


def test_damage_that_shows_later_is_the_one_task_s(saved, tmp_path):
    pool = filled(saved)
    folder = metatx.Task.from_pretrained(saved[1] / "a", saved[0]).save_pretrained(tmp_path / "task")
    damage_shapes(folder)
    pool.add("bad", folder)
    with pytest.raises(TaskError, match="is damaged"):
        pool.prepare("bad", SIGNALS[0])
    ill = metatx.Task.from_pretrained(saved[1] / "b", saved[0])
    for parameter in ill.parameters():
        parameter.data.fill_(float("nan"))
    pool.add("ill", ill)
    asked = [(name, signal) for signal in SIGNALS for name in NAMES]
    healthy = pool.predict(asked)
    both = [(name, signal) for pair in asked for name, signal in (pair, ("ill", pair[1]))]
    mixed = pool.outcomes([pool.prepare(*one) for one in both])
    assert all(isinstance(outcome, metatx.SampleError) for outcome in mixed[1::2]) and np.isfinite(healthy).all()
    with pytest.raises(metatx.SampleError, match="no finite number"):
        pool.predict(both)
    np.testing.assert_allclose(mixed[::2], healthy, atol=1e-5, rtol=1e-5)


def test_a_file_overwritten_in_place_does_not_reach_a_loaded_task(saved, tmp_path):
    pool = filled(saved)
    pool.add("task", metatx.Task.from_pretrained(saved[1] / "b", saved[0]).save_pretrained(tmp_path / "task"))
    answer = pool.predict([("task", SIGNALS[0])])
    for file in tmp_path.rglob("*.safetensors"):
        file.write_bytes(b"")
    assert pool.predict([("task", SIGNALS[0])]) == answer


def test_tasks_come_and_go_while_others_ask(saved):
    pool = filled(saved, memory_mb=0.03)
    pool.add("moving", saved[1] / "a")
    expected = {name: pool.predict([(name, SIGNALS[0])])[0] for name in NAMES}
    failures, stop = [], threading.Event()

    def ask(names):
        while not stop.is_set():
            for name, answer in zip(names, pool.predict([(name, SIGNALS[0]) for name in names]), strict=True):
                if abs(answer - expected[name]) > 1e-5 * max(1, abs(expected[name])):
                    failures.append((name, answer))

    def guarded(names):
        try:
            ask(names)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(names,)) for names in ("abc", "ba", "cc")]
    for thread in threads:
        thread.start()
    for turn in range(12):
        pool.reload("moving", saved[1] / NAMES[turn % 3])
        assert pool.predict([("moving", SIGNALS[0])])[0] == pytest.approx(expected[NAMES[turn % 3]], rel=1e-5)
        pool.remove("moving")
        pool.add("moving", saved[1] / "a")
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures


def test_nothing_of_a_task_is_left_when_it_goes(saved):
    pool = filled(saved)
    gone = []
    for _ in range(5):
        for name in NAMES:
            pool.add("again", saved[1] / name)
            pool.predict([("again", SIGNALS[0])])
            gone.append(weakref.ref(pool.task("again")))
            pool.remove("again")
    assert not any(reference() for reference in gone), "freed at once, not when the garbage collector comes by"
