"""What is asked of a task in a pool: samples alike are made tokens together, in the pass."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import metatx
from metatx.pool.requests import REMEMBERED, grouped, tokenized
from tests.conftest import waves
from tests.mixed_tasks import MODALITIES, build, small_backbone


@pytest.fixture(scope="module")
def dozen():
    """A pool of the twelve modalities, and samples of each."""
    pool, samples = metatx.TaskPool(small_backbone()), {}
    for number, modality in enumerate(MODALITIES):
        task, samples[modality] = build(pool.backbone, modality, number)
        pool.add(modality, task)
    return pool, samples


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_number_of_tokens_is_known_before_they_are_made(dozen, modality):
    pool, samples = dozen
    for sample in samples[modality]:
        first, second = pool.prepare(modality, sample), pool.prepare(modality, sample)
        assert second.sequence is None and second.samples == 1
        (part,) = tokenized([second])
        lengths = part.sequence.lengths
        assert first.tokens == second.tokens == sum(lengths) + len(lengths) * len(pool.backbone.cls_token)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_answers_do_not_depend_on_when_tokens_were_made(dozen, data):
    pool, samples = dozen
    every = [(name, i, kind) for name in MODALITIES for i in range(len(samples[name])) for kind in ("records", "embed")]
    asked = data.draw(st.lists(st.sampled_from(every), min_size=1, max_size=16))
    requests = [pool.prepare(name, samples[name][i], kind) for name, i, kind in asked]
    for (name, i, kind), answer in zip(asked, pool.answer(requests), strict=True):
        (alone,) = pool.answer([pool.prepare(name, samples[name][i], kind)])
        if kind == "embed":
            assert np.allclose(answer, alone, rtol=0, atol=1e-5)
        else:
            values = (list(record.values()) for record in (answer, alone))
            for found, expected in zip(*values, strict=True):
                assert found == expected or abs(found - expected) < 1e-5 * max(1, abs(expected))


def test_samples_alike_become_one_part_and_keep_their_places(nano):
    pool = metatx.TaskPool(nano)
    for name in ("one", "two"):
        pool.add(name, metatx.Task.from_data(nano, "waves", waves(20)))
    signals = waves(6)[0]
    pool.prepare("one", signals[0]), pool.prepare("two", signals[0])  # from now on the number of tokens is known
    names = ["one", "two", "one", "one", "two"]
    requests = [pool.prepare(name, signal) for name, signal in zip(names, signals, strict=False)]
    requests.append(pool.prepare("one", signals[5], "embed"))
    parts = tokenized(requests)
    assert sorted(part.indices for part in parts) == [[0, 2, 3], [1, 4], [5]]
    groups = sorted(sorted(group.indices) for group in grouped(parts))
    assert groups == [[0, 1, 2, 3, 4], [5]], "heads are of one kind, but what is asked for differs"
    assert pool.answer(requests)[:5] == pool.predict(list(zip(names, signals, strict=False)))


def test_so_many_shapes_are_remembered(nano, monkeypatch):
    pool = metatx.TaskPool(nano)
    pool.add("rows", metatx.Task.from_data(nano, "waves", waves(20)))
    loaded = pool.loaded("rows")
    loaded.lengths.update({((str(i), ()),): (1,) for i in range(REMEMBERED)})
    assert all(pool.prepare("rows", waves(1)[0][0]).sequence is not None for _ in range(2))
    assert len(loaded.lengths) == REMEMBERED
