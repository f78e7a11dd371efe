"""Embedding: vectors that find their own kind, identities that training never saw, measures as scikit-learn's."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score
from sklearn.neighbors import NearestNeighbors
from torch.nn import functional as F

import metatx
from metatx.cli import main
from metatx.errors import SampleError
from metatx.metrics.retrieval import Retrieval
from metatx.registry import create, lookup
from metatx.sequence import TokenSequence
from tests.conftest import waves

NAMES = ["ann", "ann", "bob", "bob", "cleo"]


def _head(targets=NAMES, **options):
    return create("heads", "embedding", 4, **options).learn(targets)


def _vectors(count, identities, seed=0):
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randint(identities, (count,), generator=generator)
    centres = torch.randn(identities, 8, generator=generator)
    return centres[numbers] + 1.5 * torch.randn(count, 8, generator=generator), numbers


def _measured(vectors, numbers, parts=1):
    found = {}
    for name, metric in _head().metrics().items():
        for part in zip(vectors.chunk(parts), numbers.chunk(parts), strict=True):
            metric.update(*part)
        found[name] = metric.compute().item()
    return found


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(8, 60), st.integers(2, 30))
def test_measures_are_scikit_learn_s(seed, count, identities):
    vectors, numbers = _vectors(count, identities, seed)
    cosines = F.normalize(vectors, dim=1).double() @ F.normalize(vectors, dim=1).double().T
    others = [np.delete(np.arange(count), i) for i in range(count)]
    queries = [i for i in range(count) if (numbers[others[i]] == numbers[i]).any()]
    found = _measured(vectors, numbers, parts=3)
    assert found.keys() == {"map", "recall@1", "recall@5"}
    if not queries:
        assert np.isnan(list(found.values())).all(), "there is nothing to find"
        return
    precision = [average_precision_score(numbers[others[i]] == numbers[i], cosines[i, others[i]]) for i in queries]
    assert found["map"] == pytest.approx(np.mean(precision), abs=1e-5)
    nearest = NearestNeighbors(metric="cosine", algorithm="brute").fit(vectors).kneighbors(n_neighbors=5)[1]
    for k in (1, 5):
        hit = [(numbers[nearest[i, :k]] == numbers[i]).any().item() for i in queries]
        assert found[f"recall@{k}"] == pytest.approx(np.mean(hit))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    assert _measured(vectors[order], numbers[order]) == pytest.approx(found, abs=1e-5)


def test_blocks_of_queries_do_not_matter(monkeypatch):
    vectors, numbers = _vectors(100, 12)
    whole = _measured(vectors, numbers)
    monkeypatch.setattr("metatx.metrics.retrieval.QUERIES", 7)
    assert _measured(vectors, numbers) == pytest.approx(whole)


def test_two_samples_and_equal_ones():
    metric = Retrieval("recall", 5)
    metric.update(torch.eye(2), torch.tensor([3, 3]))
    assert metric.compute() == 1
    metric = Retrieval("map")
    metric.update(torch.tensor([[1.0, 0.0]] * 3 + [[0.0, 1.0]]), torch.tensor([0, 0, 1, 1]))
    assert 0 < metric.compute() < 1


@pytest.mark.parametrize("identity", ["dora", "", 7, np.int64(7), "7", True])
def test_unknown_identities_have_numbers_of_their_own(identity):
    head, again = _head(), _head(["x", "x", "y"])
    number = head.encode(identity)
    assert number.dtype == torch.int64 and number >= 3
    assert head.encode(identity) == number != head.encode("emil")
    assert again.encode(identity) - 2 == number - 3, "by its name alone"


@pytest.mark.parametrize("identity", [None, np.nan, 1.5, ["ann"], {"a": 1}])
def test_what_is_no_identity_is_a_bad_sample(identity):
    with pytest.raises(SampleError, match="expected text or a whole number"):
        _head().encode(identity)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["a", None, np.nan], "2 of 3 samples have no identity"),
        (["a", ["b"]], "An identity is a list; identities are text or whole numbers"),
        ([0.5, 1.5], "An identity is a float"),
        (["a", "a"], "There are 1 identities in 2 samples; two or more are needed"),
        ([], "There are 0 identities in 0 samples"),
        (["a", "b"], "All 2 samples are of different identities"),
    ],
)
def test_what_no_task_can_be_made_of_is_refused(targets, message):
    with pytest.raises(ValueError, match=message):
        _head(targets)


def test_bad_options_are_refused():
    for options in ({"size": 0}, {"temperature": 0.0}):
        with pytest.raises(ValueError, match="both must be above 0"):
            _head(**options)


def test_the_loss_is_the_formula_and_leaves_unknown_identities_out():
    head, vectors = _head(temperature=0.1), F.normalize(torch.randn(4, 128, generator=torch.Generator()), dim=1)
    proxies = F.normalize(head.proxies, dim=1).detach().double().numpy()
    cosines = vectors.double().numpy() @ proxies.T / 0.1
    shares = np.exp(cosines) / np.exp(cosines).sum(1, keepdims=True)
    known = torch.tensor([0, 2, 1, 1])
    expected = -np.log(shares[np.arange(4), known])
    assert head.loss(vectors, known).item() == pytest.approx(expected.mean(), rel=1e-5)
    mixed = torch.stack([known[0], head.encode("dora"), known[2], head.encode("emil")])
    assert head.loss(vectors, mixed).item() == pytest.approx(expected[[0, 2]].sum() / 4, rel=1e-5)
    unknown = head.loss(vectors.requires_grad_(), torch.stack([head.encode("dora")] * 4))
    unknown.backward()
    assert unknown == 0 and not vectors.grad.any()


def test_vectors_have_length_one_and_forward_reaches_the_proxies_in_training():
    head = _head(size=16)
    sequence = TokenSequence(100 * torch.randn(5, 4), (2, 3))
    output = head.eval()(head.pool(sequence))
    torch.testing.assert_close(output.norm(dim=1), torch.ones(2))
    decoded = head.decode(output.detach())
    assert decoded.shape == (2, 16) and decoded.dtype == np.float32
    torch.testing.assert_close(head.train()(head.pool(sequence)), output)
    head(head.pool(sequence)).sum().backward()
    assert head.proxies.grad is not None, "several processes share no other gradients"
    with pytest.raises(TypeError, match="gives no probabilities"):
        head.probabilities(output)


@given(st.lists(st.integers(0, 9), min_size=2, max_size=60), st.floats(0.05, 0.9), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_split_shares_no_identity(identities, fraction, seed):
    table, head = Dataset.from_dict({"who": identities}), create("heads", "embedding", 4)
    if len(set(identities)) == 1:
        with pytest.raises(ValueError, match=r"samples are of '\w+'; two identities or more can be split"):
            head.split(table, "who", None, fraction, seed)
        return
    kept, held = head.split(table, "who", None, fraction, seed)
    assert sorted([*kept, *held]) == list(range(len(identities))) and len(kept) and len(held)
    assert not {identities[i] for i in kept} & {identities[i] for i in held}
    again = head.split(table, "who", None, fraction, seed)
    assert again[1].tolist() == held.tolist()
    largest = max(identities.count(identity) for identity in identities)
    assert abs(len(held) - fraction * len(identities)) <= largest


def test_baselines():
    head, (vectors, numbers) = _head(size=8), _vectors(300, 3)
    frame = pd.DataFrame(vectors.numpy(), columns=[*"abcdefgh"])
    _, chance = head.trivial()
    found = _measured(head.baseline_predict(chance.fit(frame, numbers), frame), numbers)
    assert found["map"] == pytest.approx(1 / 3, abs=0.05), "the share of an identity"
    for kind in ("linear", "boosting"):
        for name, model in head.classical(kind).items():
            vectors = head.baseline_predict(model.fit(frame, numbers), frame)
            assert vectors.shape == (300, 8), name
            assert _measured(vectors, numbers)["map"] > 0.5, name
    texts = [f"{'red' if i % 2 else 'blue'} " + " ".join(f"word{i}x{j}" for j in range(40)) for i in range(30)]
    ((_, words),) = head.classical("words").items()
    assert head.baseline_predict(words.fit(texts, None), texts).shape == (30, 8)


def test_it_is_never_guessed():
    assert not lookup("heads", "embedding").accepts(NAMES)


def _people(count, names, seed):
    """Waves whose loudness tells who it is."""
    signals, rng = waves(count, seed)[0], np.random.default_rng(seed)
    who = rng.integers(0, len(names), count)
    return pd.DataFrame(
        [{"signal": (signal * 4.0**k).tolist(), "who": names[k]} for signal, k in zip(signals, who, strict=True)]
    )


def test_from_the_command_line_with_people_that_training_never_saw(tmp_path, capsys):
    for split, names in {"train": "abcd", "validation": "efg", "test": "hijk"}.items():
        _people(80, names, len(split)).to_parquet(tmp_path / f"{split}.parquet")
    out, found = tmp_path / "run", tmp_path / "found.jsonl"
    main(["train", str(tmp_path), "--modality", "waves", "--head", "embedding", "--head.size", "6", "--target", "who"]
         + ["--epochs", "4", "--out", str(out), "--precision", "fp32"])  # fmt: skip
    main(["predict", str(out / "task"), str(tmp_path / "test.parquet"), "--out", str(found)])
    printed = capsys.readouterr().out
    assert "random ranking (trivial)" in printed and "recall@1" in printed
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["validation"]["loss"] == metrics["test"]["loss"] == 0
    assert metrics["test"]["map"] > metrics["majority_or_naive"]["map"]
    task = metatx.Task.from_pretrained(out / "task")
    vectors = task.predict(str(tmp_path / "test.parquet"))
    assert vectors.shape == (80, 6) and "compare them by cosine" in task.head.card_note()
    np.testing.assert_allclose(vectors, pd.read_json(found, lines=True).prediction.tolist(), rtol=1e-5)
    assert task.embed(str(tmp_path / "test.parquet")).shape == (80, task.backbone.dim)


def test_a_table_without_splits_is_split_by_identity(nano):
    report = metatx.run(
        _people(150, "abcdefgh", 0),
        "waves",
        backbone=nano,
        target="who",
        head="embedding",
        settings=metatx.TrainingSettings(epochs=1),
        baseline=False,
    )
    assert report.test["loss"] == report.validation["loss"] == 0, "no identity of theirs was in training"
