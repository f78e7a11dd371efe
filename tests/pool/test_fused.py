"""Tasks of several inputs in a pool: in one pass with others, with any inputs missing, each answers as alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import metatx
from metatx.errors import TaskError
from metatx.pool.requests import grouped, tokenized
from tests.conftest import waves
from tests.fused_tasks import INPUTS, build, sample
from tests.mixed_tasks import alone, number_of, small_backbone, unlike_any

FUSIONS = metatx.names("fusions")
KEYS = [(count, fusion, tune) for count in INPUTS for fusion in FUSIONS for tune in ("frozen", "lora")]


def name_of(key):
    return "{}-{}-{}".format(*key)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """A pool of tasks of 1, 2 and 4 inputs, of every fusion, with LoRA and without, and a plain task."""
    folder = tmp_path_factory.mktemp("crowd")
    pool = metatx.TaskPool(small_backbone())
    tasks = {}
    for seed, key in enumerate(KEYS):
        # The context of a main input that may be missing is there for some samples only.
        main = "signal" if key[0] == 4 and key[2] == "lora" else None
        tasks[name_of(key)] = build(pool.backbone, *key, seed=seed, main=main)
    tasks["plain"] = unlike_any(metatx.Task.from_data(pool.backbone, "waves", waves(8)), 1)
    for name, task in tasks.items():
        pool.add(name, task.save_pretrained(folder / name))
    return pool, tasks


def presence(names):
    """Strategy of the inputs that are there, at least one."""
    return st.lists(st.sampled_from(names), min_size=1, unique=True).map(lambda kept: [n for n in names if n in kept])


@st.composite
def asked(draw):
    """Task, sample with some inputs missing, kind of answer."""
    if draw(st.integers(0, 7)) == 0:
        return "plain", waves(4)[0][draw(st.integers(0, 3))], "predict"
    key = draw(st.sampled_from(KEYS))
    kept = draw(presence(INPUTS[key[0]]))
    value = sample(draw(st.integers(0, 5)), kept)
    if draw(st.booleans()):
        value = {name: value.get(name) for name in INPUTS[key[0]]}  # None says the same as nothing
    return name_of(key), value, draw(st.sampled_from(["embed", "records"]))


@settings(deadline=None, max_examples=25)
@given(st.lists(asked(), min_size=1, max_size=9))
def test_any_mix_is_one_pass_and_answers_as_each_task_alone(crowd, requests):
    pool, tasks = crowd
    prepared = [pool.prepare(*request) for request in requests]
    calls = []
    handle = pool.backbone.register_forward_hook(lambda *_: calls.append(1))
    answers = pool.answer(prepared)
    handle.remove()
    assert len(calls) == 1
    for (name, value, kind), answer in zip(requests, answers, strict=True):
        if kind == "predict":
            assert answer == pytest.approx(tasks[name].predict([value])[0], rel=1e-5)
            continue
        embedding, number = alone(tasks[name], value)
        if kind == "embed":
            np.testing.assert_allclose(answer, embedding, atol=1e-5, rtol=1e-5)
        else:
            assert number_of(answer) == pytest.approx(number, abs=1e-5, rel=1e-5)
    # A task's samples are made tokens together here, whatever inputs each has.
    pairs = [(name, value) for name, value, _ in requests]
    for (name, value), vector in zip(pairs, pool.embed(pairs), strict=True):
        np.testing.assert_allclose(vector, tasks[name].embed([value])[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_tokens_are_counted_by_the_inputs_that_are_there(crowd, fusion):
    pool, _ = crowd
    name = name_of((4, fusion, "frozen"))
    prefix = pool.backbone.num_prefix_tokens
    for kept in (("photo", "words", "facts", "signal"), ("words",), ("photo", "signal"), ("facts",)):
        for number in range(3):
            first = pool.prepare(name, sample(number, kept))
            second = pool.prepare(name, sample(number, kept))
            assert second.sequence is None
            (part,) = tokenized([second])
            lengths = [length + prefix for length in part.sequence.lengths]
            assert first.lengths == second.lengths and first.tokens == sum(lengths)
            together = part.sequence.fuse_at is not None and part.sequence.fuse_at[0] < pool.backbone.depth
            assert first.lengths == ((sum(lengths),) if together else tuple(lengths))


def test_samples_of_other_grids_or_context_are_not_joined(crowd):
    pool, tasks = crowd
    name = name_of((4, "late", "lora"))  # its main input is the signal
    values = [sample(1), sample(1, ("words",)), sample(2, ("signal", "facts")), sample(4)]
    requests = [pool.prepare(name, value, "embed") for value in values]
    groups = grouped(tokenized(requests))
    assert sorted(sorted(group.indices) for group in groups) == [[0, 3], [1], [2]]
    for vector, value in zip(pool.answer(requests), values, strict=True):
        np.testing.assert_allclose(vector, tasks[name].embed([value])[0], atol=1e-5, rtol=1e-5)


def test_inputs_that_are_too_long_together_fail_alone(crowd):
    pool = metatx.TaskPool(crowd[0].backbone)
    pool.add("short", build(pool.backbone, 4, "early", fusion_options={"max_tokens": 20}))
    pool.add("long", build(pool.backbone, 4, "early"))
    long = sample(1)
    fits = sample(1, ("words", "facts"))
    told = "the inputs of a sample have .* tokens together .*photo 16, .*; expected at most 20"
    with pytest.raises(metatx.SampleError, match=f"sample 1: {told}"):
        pool.prepare("short", long)
    with pytest.raises(metatx.SampleError, match=f"sample 3: {told}"):
        pool.predict([("short", fits), ("long", long), ("short", long)])
    assert len(pool.answer([pool.prepare("short", fits), pool.prepare("long", long)])) == 2


def test_tasks_are_described_by_their_inputs(crowd):
    pool, tasks = crowd
    described = {task.name: task for task in pool.tasks()}
    fused = described["4-late-frozen"]
    assert fused.inputs == {"photo": "image", "words": "text", "facts": "tabular", "signal": "time_series"}
    assert fused.modality == "image, text, tabular, time_series"
    assert described["plain"].modality == "waves" and described["plain"].inputs == {}
    other = metatx.TaskPool(pool.backbone)
    other.add("2", tasks["2-mid-lora"])
    assert other.tasks()[0].inputs == {"photo": "image", "words": "text"}


def test_inputs_that_config_does_not_describe_are_damage(crowd, tmp_path):
    pool, tasks = crowd
    folder = tasks["2-late-frozen"].save_pretrained(tmp_path / "task")
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"modality": "image"', '"mode": "image"'))
    with pytest.raises(TaskError, match="its inputs are .*; expected a list of objects with a name and a modality"):
        pool.add("bad", folder)
