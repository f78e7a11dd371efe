"""Tokenizers and heads of many tasks in one call: answers are those of each task by itself, whatever stands beside."""

import math
import threading
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import metatx
from metatx.pool.stacking import Part, pooled, stacked_outputs
from metatx.sequence import TokenSequence
from metatx.testing import check_tokenizer
from metatx.tokenizers.time_series import TimeSeriesTokenizer
from tests.conftest import waves
from tests.mixed_tasks import number_of, small_backbone, unlike_any
from tests.samples import TOKENIZERS

RNG = np.random.default_rng(0)
SERIES = [RNG.normal(size=(2, length)) for length in (40, 40, 96, 17)]
SERIES[1][:, 3:30] = np.nan
ROWS = TOKENIZERS["tabular"].samples[:4]
PICTURES = list(RNG.integers(0, 256, (4, 16, 16, 3), dtype=np.uint8))
SAMPLES = {"time_series": SERIES, "tabular": ROWS, "image": PICTURES, "waves": waves(4)[0]}
OPTIONS = {  # of the tokenizer, of the tier of tuning
    "series": ("time_series", {}, "frozen"),
    "mixed series": ("time_series", {"channels": "mixed"}, "lora"),
    "rows": ("tabular", {}, "frozen"),
    "pictures": ("image", {}, "frozen"),
    "own pictures": ("image", {"freeze_stem": False}, "norm"),
    "third party": ("waves", {}, "frozen"),
}
LABELS = [["even", "odd"] * 2, [0.5, 2.0, 3.0, 7.0], ["a", "b", "c", "a"]]


@pytest.fixture(scope="module")
def crowd():
    """A pool with four tasks of each kind, and what each answers alone, by task, sample and kind of answer."""
    pool = metatx.TaskPool(small_backbone(), precision="fp32")
    alone = {}
    for kind, (modality, options, tune) in OPTIONS.items():
        for number in range(4):
            name = f"{kind} {number}"
            data = SAMPLES[modality], LABELS[number % 3]
            head = "regression" if number == 1 else "classification"
            adapter = {"r": 2} if tune == "lora" else None
            task = metatx.Task.from_data(
                *(pool.backbone, modality, data),
                **{"head": head, "tokenizer_options": options, "tune": tune, "adapter_options": adapter},
            )
            pool.add(name, unlike_any(task, 10 * number + len(kind)))
            for at, sample in enumerate(SAMPLES[modality]):
                for answer in ("embed", "records", "predict"):
                    pool.prepare(name, sample, answer)  # from now on the number of tokens is known
                    (alone[name, at, answer],) = pool.answer([pool.prepare(name, sample, answer)])
    return pool, alone


def sample_of(key):
    name, at, answer = key
    return name, SAMPLES[OPTIONS[name.rpartition(" ")[0]][0]][at], answer


def assert_same(answer, expected):
    if isinstance(expected, dict):
        answer = number_of(answer) if "p(even)" in answer else answer.get("p(a)", answer["prediction"])
        expected = number_of(expected) if "p(even)" in expected else expected.get("p(a)", expected["prediction"])
    if isinstance(expected, str):
        assert answer == expected
    else:
        assert np.linalg.norm(np.subtract(answer, expected)) <= 1e-6 * max(1.0, np.linalg.norm(expected))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_mix_is_answered_as_each_request_alone(crowd, data):
    pool, alone = crowd
    keys = data.draw(st.lists(st.sampled_from(sorted(alone)), min_size=2, max_size=24))
    for key, answer in zip(keys, pool.answer([pool.prepare(*sample_of(key)) for key in keys]), strict=True):
        assert_same(answer, alone[key])


@pytest.mark.parametrize("kind", OPTIONS)
def test_answers_are_those_of_the_task_outside_of_the_pool(crowd, kind):
    pool, _ = crowd
    keys = [(f"{kind} {number}", at, "embed") for number in range(4) for at in range(4)]
    for key, vector in zip(keys, pool.answer([pool.prepare(*sample_of(key)) for key in keys]), strict=True):
        name, sample, _ = sample_of(key)
        expected = pool.task(name).set_inference(precision="fp32").embed([sample])[0]
        assert np.linalg.norm(vector - expected) <= 2e-6 * np.linalg.norm(expected)


def test_tokenizers_of_one_kind_are_called_once(crowd, monkeypatch):
    pool, _ = crowd
    calls = []
    padded = TimeSeriesTokenizer.padded
    monkeypatch.setattr(TimeSeriesTokenizer, "padded", lambda self, batch: calls.append(1) or padded(self, batch))
    pool.answer(
        [pool.prepare(f"{kind} {number}", SERIES[0]) for kind in ("series", "mixed series") for number in (0, 2)]
    )
    assert len(calls) == 2, "one for each kind"


def test_weights_that_change_are_followed(crowd):
    pool, alone = crowd
    task = pool.task("rows 0")
    before = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    unlike_any(task, 5)
    first, other = pool.answer([pool.prepare(name, ROWS[0], "embed") for name in ("rows 0", "rows 2")])
    assert not np.allclose(first, alone["rows 0", 0, "embed"], atol=1e-3)
    assert_same(other, alone["rows 2", 0, "embed"])
    task.model.load_state_dict(before)


def test_other_threads_use_a_task_meanwhile(crowd):
    pool, alone = crowd
    keys = [(f"series {number}", 0, "embed") for number in range(4)]
    failures = []

    def ask():
        try:
            for _ in range(20):
                for key, vector in zip(keys, pool.answer([pool.prepare(*sample_of(key)) for key in keys]), strict=True):
                    assert_same(vector, alone[key])
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        for key in keys:
            assert_same(pool.embed([sample_of(key)[:2]])[0], alone[key])
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize("largest", [0, math.inf])
def test_large_heads_are_called_one_by_one(largest):
    heads = [unlike_any(metatx.create("heads", "classification", 8).learn(["a", "b", "c"]).eval(), i) for i in range(3)]
    features = torch.randn(6, 16)
    outputs = stacked_outputs([Part.of(head, head) for head in heads], features, largest)
    expected = torch.cat([head(features[2 * i : 2 * i + 2]) for i, head in enumerate(heads)])
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-6)


def test_pooling_reads_no_neighbour():
    tokens = torch.randn(2 + 700 + 2, 8)
    vectors = pooled(TokenSequence.mean, TokenSequence(tokens, (2, 700, 2)))
    for vector, part in zip(vectors, torch.split(tokens, [2, 700, 2]), strict=True):
        assert torch.equal(vector, TokenSequence(part, (len(part),)).mean()[0])


class Levels(metatx.Tokenizer):
    """Numbers, a token each."""

    stacks = True

    def __init__(self, dim):
        super().__init__(dim)
        self.proj = nn.Linear(1, dim)
        self.layers = [self.proj]  # beside the registered one

    def encode(self, sample):
        return {"levels": torch.as_tensor(sample, dtype=torch.float32)}

    def forward(self, batch):
        return self.proj(batch["levels"][..., None])


class Doubled(Levels):
    def forward(self, batch):
        return 2 * super().forward(batch)


class ReadsValues(Levels):
    stacks = True

    def forward(self, batch):
        return super().forward(batch) if batch["levels"].sum() > -1e9 else None


class ReadsAList(Levels):
    stacks = True

    def forward(self, batch):
        return self.layers[0](batch["levels"][..., None])


class Packs(Levels):
    stacks = True

    def forward(self, batch):
        return TokenSequence.pack(super().forward(batch))


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        (Levels, None),
        (ReadsValues, "fails check_stacked_tokens: stacks is True, but padded raises"),
        (ReadsAList, "fails check_stacked_tokens: padded gives sample 0 other tokens"),
        (Packs, "fails check_stacked_tokens: .*forward returns packed tokens; write padded"),
    ],
)
def test_what_stacks_promises_is_checked(tokenizer, message):
    samples = [[1.0, 2.0], [3.0, 5.0]]
    with nullcontext() if message is None else pytest.raises(AssertionError, match=message):
        check_tokenizer(tokenizer, samples)


def test_a_subclass_says_itself_that_it_stacks():
    assert Levels.stacks and not Doubled.stacks
