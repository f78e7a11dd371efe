"""Several sets of pairs: whose turn it is, the same numbers again after a run was killed, and graphs of three sides."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from torch.nn import functional as F

from metatx.pretraining.contrastive import ContrastiveLoss, matches, over_graph
from metatx.pretraining.loop import PretrainingSettings, pretrain
from metatx.pretraining.pair_sets import PairSets
from metatx.pretraining.paired_data import PairedDataset
from metatx.retrieval.zero_shot import recalls
from tests.pairs import colour_alignment, coloured, small_backbone

QUICK = {"batch_size": 16, "epochs": 2, "lr": 3e-3, "precision": "fp32"}


def grey(samples):
    return {**samples, "infrared": [picture[..., 0] for picture in samples["image"]]}


def three(samples, backbone=None):
    """Pictures, captions and grey pictures."""
    alignment = colour_alignment(backbone or small_backbone(), samples)
    return alignment.add("infrared", grey(samples)["infrared"])


class Numbered:
    """As many pairs as asked for, each of which is its number."""

    edges = ((0, 1),)

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def batch(self, positions):
        return {"image": {"number": torch.tensor(positions)}}, torch.zeros(2, len(positions)), torch.tensor(positions)


def taken(sets, positions):
    return [number for number, start in enumerate(sets.starts[:-1]) if start <= min(positions)][-1]


@examples(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(3, 40), min_size=1, max_size=4),
    st.integers(1, 3),
    st.lists(st.floats(0.1, 10), min_size=4, max_size=4),
    st.booleans(),
)
def test_turns_are_spread_and_each_batch_is_of_one_set(counts, size, weights, weighted):
    sets = PairSets([Numbered(count) for count in counts], size, weights[: len(counts)] if weighted else ())
    batches = sets.batches(0, 1)
    assert batches == sets.batches(0, 1) and len(batches) == sum(sets.steps)
    turns = [taken(sets, batch) for batch in batches]
    for number, count in enumerate(counts):
        mine = [at for at, turn in enumerate(turns) if turn == number]
        assert len(mine) == sets.steps[number]
        drawn = [place for at in mine for place in batches[at]]
        if not weighted:
            assert sets.steps[number] == count // size and len(set(drawn)) == len(drawn)
        gap = len(batches) / len(mine)
        assert all(b - a <= gap * 2 + len(counts) for a, b in zip(mine, mine[1:], strict=False))
        for at in mine:
            places = sets.batch(batches[at])[0]["image"]["number"]
            assert 0 <= places.min() and places.max() < count and len(set(places.tolist())) == size


def test_one_set_is_drawn_as_it_always_was():
    (batches,) = [PairSets([Numbered(50)], 16).batches(3, 2)]
    order = np.random.default_rng((3, 2)).permutation(50).tolist()
    assert batches == [order[:16], order[16:32], order[32:48]]
    assert PairSets([Numbered(50), Numbered(20)], 16).batches(3, 2)[0] == order[:16]


def test_a_list_of_one_set_is_that_set():
    samples = coloured(32)
    weights = []
    for listed in (False, True):
        alignment = colour_alignment(small_backbone(), samples)
        pairs = PairedDataset(alignment, samples)
        pretrain(alignment, [pairs] if listed else pairs, PretrainingSettings(**QUICK))
        weights.append(alignment.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("graph", ["core", "full"])
def test_the_loss_of_a_graph_is_the_mean_over_its_edges(graph):
    samples = grey(coloured(8))
    pairs = PairedDataset(three(samples), samples, graph=graph)
    expected = ((0, 1), (0, 2)) if graph == "core" else ((0, 1), (0, 2), (1, 2))
    assert pairs.edges == expected and pairs.keys.shape == (3, 8)
    generator = torch.Generator().manual_seed(0)
    sides = [F.normalize(torch.randn(8, 16, generator=generator), dim=1) for _ in range(3)]
    contrast = ContrastiveLoss()
    by_hand = [contrast(sides[i], sides[j], matches(pairs.keys[[i, j]])) for i, j in expected]
    torch.testing.assert_close(over_graph(contrast, sides, pairs.keys, pairs.edges), sum(by_hand) / len(by_hand))


@pytest.mark.parametrize("micro_batch", [0, 5])
def test_three_sides_have_the_gradients_of_the_whole_batch(micro_batch):
    samples = grey(coloured(16))
    vectors = {}
    for size in (0, micro_batch):
        alignment = three(samples, small_backbone().trainable_copy())
        settings = PretrainingSettings(**{**QUICK, "epochs": 1}, micro_batch=size)
        pretrain(alignment, PairedDataset(alignment, samples, graph="full"), settings)
        vectors[size] = [alignment.embed(modality, side) for modality, side in samples.items()]
    for first, second in zip(vectors[0], vectors[micro_batch], strict=True):
        np.testing.assert_allclose(first, second, atol=1e-4)


def turns(samples, out=None, resume=False, **settings):
    alignment = three(samples)
    samples = grey(samples)
    words = PairedDataset(alignment, {name: samples[name] for name in ("image", "text")}, augment=True)
    greys = {name: samples[name][:24] for name in ("image", "infrared")}
    sets = [words, PairedDataset(alignment, greys, augment=True)]
    chosen = PretrainingSettings(**{**QUICK, "batch_size": 8, **settings})
    return alignment, pretrain(alignment, sets, chosen, out=out, resume=resume)


def test_a_run_over_two_sets_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    samples = coloured(48)
    settings = {"checkpoint_seconds": 0.0, "pair_weights": (2, 1), "feature_dropout": 0.3}
    whole, expected = turns(samples, **settings)
    real = torch.optim.AdamW.step
    steps = iter(range(100))

    def stopping(self, *given):
        if next(steps) == 13:
            raise KeyboardInterrupt
        return real(self, *given)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(torch.optim.AdamW, "step", stopping)
        turns(samples, out=tmp_path / "run", **settings)
    resumed, history = turns(samples, out=tmp_path / "run", resume=True, **settings)
    assert [row["train_loss"] for row in history] == [row["train_loss"] for row in expected]
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())
    with pytest.raises(ValueError, match=r"pair_weights \[2, 1\] -> \[1, 1\]"):
        turns(samples, out=tmp_path / "run", resume=True, **{**settings, "pair_weights": (1, 1)})


def test_modalities_bound_by_pictures_find_one_another():
    """Grey pictures and captions never meet in training: pictures bind them (ImageBind's emergent alignment)."""
    samples, unseen = coloured(192), grey(coloured(60, seed=1))
    alignment, _ = turns(samples, epochs=8, pair_weights=(1, 1))
    untrained = three(samples)
    recalled = []
    for each in (alignment, untrained):
        vectors = {name: each.embed(name, unseen[name]) for name in ("infrared", "text")}
        recalled.append(recalls(vectors, unseen["text"])["infrared_to_text_recall@1"])
    assert recalled[0] > recalled[1] + 0.15 and recalled[0] > 0.35, "some colours are equally bright"


def test_sets_that_cannot_be_used_are_said():
    samples = coloured(24)
    alignment = colour_alignment(small_backbone(), samples)
    pairs = PairedDataset(alignment, samples)
    small = PairedDataset(alignment, {name: side[:5] for name, side in samples.items()})
    with pytest.raises(ValueError, match="batch of 16 needs as many pairs; there are 5"):
        pretrain(alignment, [pairs, small], PretrainingSettings(**QUICK))
    with pytest.raises(ValueError, match="There are no pairs"):
        pretrain(alignment, [], PretrainingSettings(**QUICK))
    for weights in ((1.0,), (1.0, 0.0)):
        with pytest.raises(ValueError, match="for 2 sets of pairs; give a positive number for each"):
            pretrain(alignment, [pairs, pairs], PretrainingSettings(**QUICK, pair_weights=weights))
    with pytest.raises(ValueError, match="graph is 'ring'; choose core or full"):
        PairedDataset(alignment, samples, graph="ring")
