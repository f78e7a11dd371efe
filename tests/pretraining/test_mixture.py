"""Mixture of tasks: pairs alone stay as they were; tasks train the backbone; runs resume; sources are forgotten."""

import numpy as np
import pytest
import torch

import metatx
from metatx.examples import Examples
from metatx.pretraining.alignment import Alignment
from metatx.pretraining.batch import Batch
from metatx.pretraining.loop import Pretraining, PretrainingSettings, pretrain
from metatx.pretraining.mixture import MixtureSettings, Source, TaskMixture
from metatx.pretraining.pair_sets import NoPairs
from metatx.pretraining.paired_data import PairedDataset
from metatx.pretraining.prior import draw
from tests.pairs import colour_alignment, coloured, small_backbone

QUICK = {"batch_size": 8, "epochs": 2, "lr": 3e-3, "precision": "fp32"}
MODALITIES = ("tabular", "time_series", "hyperspectral")


def mixture(backbone, sizes=(24, 40, 24), **settings):
    sources = {
        name: Source(backbone, metatx.TaskSpec(modality=name), Examples(*draw(name, 1, size), "prior"), place)
        for place, (name, size) in enumerate(zip(MODALITIES, sizes, strict=True))
    }
    return TaskMixture(sources, MixtureSettings(**{"tasks": 2, "batch_size": 8, **settings}), seed=0)


def run(pairs=False, out=None, resume=False, epochs=2, **settings):
    backbone = small_backbone().trainable_copy()
    tasks = mixture(backbone, **settings)
    alignment = Alignment(backbone, 16)
    sets = NoPairs(6, 8)
    if pairs:
        samples = coloured(24)
        alignment = colour_alignment(backbone, samples)
        sets = PairedDataset(alignment, samples)
    chosen = PretrainingSettings(**{**QUICK, "epochs": epochs})
    history = pretrain(alignment, sets, chosen, tasks=tasks, out=out, resume=resume)
    return {**tasks.state_dict(), **dict(backbone.named_weights()), **alignment.state_dict()}, history, tasks


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("pairs", [False, True])
def test_tasks_train_the_backbone_and_their_own_parts(pairs):
    before = dict(small_backbone().named_weights())
    weights, history, tasks = run(pairs)
    assert all(not torch.equal(weights[name], before[name]) for name in before if name.startswith("blocks"))
    assert (tasks.scales > 0).all() and len(history) == 2
    assert all(np.isfinite(row["train_loss"]) for row in history)


@pytest.mark.parametrize("pairs", [False, True])
def test_a_run_that_stopped_goes_on_to_the_same_numbers(pairs, tmp_path, monkeypatch):
    """With sources that start anew before and behind the place where it stopped."""
    whole = run(pairs, forget_every=3)[0]
    step, count = Pretraining._step, 0

    def failing(self, batch):
        nonlocal count
        count += 1
        if count == 5:
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr(Pretraining, "_step", failing)
    monkeypatch.setattr("metatx.training.checkpoint.Checkpoint.due", lambda self: True)
    with pytest.raises(KeyboardInterrupt):
        run(pairs, tmp_path, forget_every=3)
    assert same(run(pairs, tmp_path, resume=True, forget_every=3)[0], whole)
    with pytest.raises(ValueError, match="the mixture's tasks 2 -> 1"):
        run(pairs, tmp_path, resume=True, forget_every=3, tasks=1)


def test_the_loss_of_a_step_is_that_of_its_tasks_read_alone():
    """One pass of all tasks gives each its own answers, and every task the weight of its running scale."""
    backbone = small_backbone().trainable_copy()
    tasks = mixture(backbone, tasks=3).eval()
    alone = []
    for name, entering, targets in tasks.enter(4, 0, torch.device("cpu")):
        alone.append(tasks.source(name).loss(backbone(entering), targets))
    tasks.scales += 0.5
    expected = [loss / (0.98 * 0.5 + 0.02 * loss.detach()) for loss in alone]
    training = Pretraining(
        Alignment(backbone, 16), NoPairs(6, 8), PretrainingSettings(**QUICK), None, None, None, tasks
    )
    sides, keys, positions = training.sets.batch([4] * 8)
    batch = Batch(sides, keys, positions, 4, 0.0, ())
    _, loss = training._pass(batch, graph=True)
    torch.testing.assert_close(loss, torch.stack(expected).mean())


def test_sources_start_anew_one_after_the_other_and_facts_stay():
    backbone = small_backbone().trainable_copy()
    tasks = mixture(backbone, forget_every=6)
    optimizer = torch.optim.AdamW(tasks.parameters(), lr=0.1)
    changes: dict[str, list[int]] = {name: [] for name in MODALITIES}
    for number in range(13):
        for parameter in tasks.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        before = {
            name: {key: value.clone() for key, value in tasks.source(name).state_dict().items()} for name in changes
        }
        tasks.forget(number, optimizer)
        for name, steps in changes.items():
            now = tasks.source(name).state_dict()
            learned = now.keys() - dict(tasks.source(name).named_parameters()).keys()
            assert learned and all(torch.equal(before[name][key], now[key]) for key in learned)
            if not same(now, before[name]):
                steps.append(number)
                assert not any(parameter in optimizer.state for parameter in tasks.source(name).parameters())
    assert changes == {"tabular": [6, 12], "time_series": [4, 10], "hyperspectral": [2, 8]}


def test_large_sources_are_drawn_more_often_and_a_temperature_evens_that():
    backbone = small_backbone()
    shares = []
    for temperature in (1.0, 100.0):
        tasks = mixture(backbone, sizes=(8, 64, 8), tasks=1, temperature=temperature)
        drawn = [tasks.drawn(number)[0] for number in range(300)]
        shares.append(drawn.count("time_series") / 300)
    assert shares[0] == pytest.approx(0.8, abs=0.06) and shares[1] == pytest.approx(0.34, abs=0.08)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": 0}, "tasks is 0; it must be at least 1"),
        ({"temperature": 0.0}, "temperature is 0; it must be above 0"),
        ({"momentum": 1.0}, "momentum is 1; it must be at least 0 and below 1"),
        ({"forget_every": -1}, "forget_every is -1"),
    ],
)
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        MixtureSettings(**change)


def test_what_cannot_be_a_mixture_is_said():
    backbone = small_backbone().trainable_copy()
    tasks = mixture(backbone)
    with pytest.raises(ValueError, match="tasks join whole batches only"):
        pretrain(Alignment(backbone, 16), NoPairs(2, 8), PretrainingSettings(**QUICK, micro_batch=2), tasks=tasks)
    with pytest.raises(ValueError, match="neither pairs nor tasks"):
        pretrain(Alignment(backbone, 16), NoPairs(2, 8), PretrainingSettings(**QUICK))
    with pytest.raises(ValueError, match="needs a source"):
        TaskMixture({}, MixtureSettings(), 0)
