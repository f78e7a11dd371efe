"""Any mix of samples that a task accepts alone it accepts in one pass, of the pool or its own, with equal answers."""

import inspect
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import metatx
from metatx import registry
from tests.mixed_tasks import small_backbone, unlike_any
from tests.samples import TOKENIZERS, pooling_heads

BACKBONE = small_backbone()
LABELS = {"classification": ["even", "odd"], "embedding": ["even", "odd"], "regression": [0.5, 3.0]}
LABELS |= {"multilabel": [["cat"], ["cat", "dog"]]}
OPTIONS = {"forecasting": {"horizon": 4}, "segmentation": {"layers": 2}, "detection": {"layers": 2}}
RNG = np.random.default_rng(0)
MORE = {  # samples of the size drawn, 1 to 60, for modalities whose samples have one
    "time_series": lambda n: RNG.normal(size=(2, 2 * n)),
    "imu": lambda n: RNG.normal(size=(6, 40 + 3 * n)),
    "audio": lambda n: 0.1 * RNG.normal(size=500 * n),
    "image": lambda n: RNG.integers(0, 256, (2 + n, 63 - n, 3), dtype=np.uint8),
    "xray": lambda n: RNG.integers(0, 256, (2 + n, 63 - n), dtype=np.uint8),
    "infrared": lambda n: RNG.integers(0, 256, (2 + n, 63 - n), dtype=np.uint8),
    "video": lambda n: RNG.integers(0, 256, (1 + n // 3, 10 + n, 70 - n, 3), dtype=np.uint8),
    "point_cloud": lambda n: RNG.normal(size=(12 * n, 5)) + 50,
    "text": lambda n: "so, a film " * n,
    "graph": lambda n: "C" * n,
}


def options_of(modality):
    """The options of the contract, and pictures whose edges are kept, which dense heads need."""
    return TOKENIZERS[modality].options + [{"image_size": [48, 64]}] * (modality == "image")


def targets(head, samples, tokenizer):
    """A target of the head's kind for each sample; None where it labels places that the samples do not have."""
    if head in LABELS:
        return [LABELS[head][i % 2] for i in range(len(samples))]
    if head == "forecasting":
        return [RNG.normal(size=(2, 4)) for _ in samples]
    extents = [tokenizer.dense_values(sample).shape[:-1] for sample in samples]
    if head == "segmentation":
        return [RNG.integers(0, 3, extent).astype(np.uint8) for extent in extents]
    return [{"bbox": [[0, 0, w, h]], "category": ["cat"], "width": w, "height": h} for h, w in extents]


@cache
def made(modality, number, head, tune):
    """A pool of the one task, if the head reads what the tokenizer gives."""
    row = TOKENIZERS[modality]
    kind = registry.lookup("tokenizers", modality)
    stem = "stem" in inspect.signature(kind.__init__).parameters
    samples, options = list(row.samples), options_of(modality)[number]
    tokenizer = registry.create(
        "tokenizers", modality, BACKBONE.dim, **options, **({"stem": BACKBONE.stems.get(kind.stem)} if stem else {})
    )
    try:
        wanted = targets(head, samples, tokenizer.learn(samples))
        task = metatx.Task.from_data(
            BACKBONE,
            modality,
            (samples, wanted),
            head=head,
            tokenizer_options=dict(options),
            head_options=OPTIONS.get(head),
            tune=tune,
        )
        task.set_inference(precision="fp32").predict(samples[:1])
    except (TypeError, ValueError):  # a head for samples of another kind
        return None
    pool = metatx.TaskPool(BACKBONE)
    pool.add("t", unlike_any(task, 1))
    return pool


def numbers(answer):
    """All numbers in an answer, in order; of a label its text."""
    if isinstance(answer, dict | list | tuple):
        parts = answer.values() if isinstance(answer, dict) else answer
        return [number for part in parts for number in numbers(part)]
    return [answer] if isinstance(answer, str) else np.asarray(answer, dtype=float).ravel().tolist()


def assert_same(found, expected):
    one, other = numbers(found), numbers(expected)
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a == b or a == pytest.approx(b, abs=1e-5, rel=1e-4)


CASES = [(modality, i) for modality in TOKENIZERS for i in range(len(options_of(modality)))]
PAIRS = [(*case, head) for case in CASES for head in registry.names("heads") if head in (*LABELS, *OPTIONS)]


def test_every_shipped_head_is_mixed():
    assert sorted({*LABELS, *OPTIONS}) == pooling_heads()
    dense = {(modality, head) for modality, i, head in PAIRS if head in OPTIONS and made(modality, i, head, "frozen")}
    assert dense >= {("time_series", "forecasting"), ("image", "segmentation"), ("point_cloud", "segmentation")}
    assert dense >= {("image", "detection"), ("xray", "segmentation"), ("infrared", "detection")}


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_mix_is_answered_as_each_alone(data):
    modality, number, head = data.draw(st.sampled_from(PAIRS))
    pool = made(modality, number, head, data.draw(st.sampled_from(["frozen", "lora", "norm"])))
    if pool is None:
        return
    task, known = pool.task("t"), TOKENIZERS[modality].samples
    sizes = data.draw(st.lists(st.integers(1, 60), min_size=1, max_size=4))
    fresh = [MORE[modality](n) for n in sizes] if modality in MORE else []
    samples = [known[i % len(known)] for i in sizes] + fresh
    mix, alone = [], []
    for sample in data.draw(st.permutations(samples)):
        try:
            alone.append((task.records([sample])[0], task.embed([sample])[0]))
            mix.append(sample)
        except metatx.SampleError:
            continue
    if not mix:
        return
    for _ in range(2):  # the second time their numbers of tokens are known
        asked = [pool.prepare("t", sample, kind) for sample in mix for kind in ("records", "embed")]
        found = pool.answer(asked)
        for (record, vector), one, other in zip(alone, found[::2], found[1::2], strict=True):
            assert_same(one, record)
            np.testing.assert_allclose(other, vector, atol=1e-5, rtol=1e-4)
    for (record, _), one in zip(alone, task.records(mix), strict=True):
        assert_same(one, record)
