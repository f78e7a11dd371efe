"""Pretraining: the same numbers however the batch is cut, spread or interrupted; and what it trains."""

import json
import multiprocessing
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from metatx.pretraining.alignment import Tower
from metatx.pretraining.contrastive import matches
from metatx.pretraining.distillation import Distillation
from metatx.pretraining.loop import Pretraining, PretrainingSettings, pretrain
from metatx.pretraining.paired_data import PairedDataset
from metatx.pretraining.transport import pass_with_transport_cost
from metatx.retrieval.zero_shot import recalls
from metatx.sequence import as_sequence
from tests.launching import on_one_and_two
from tests.pairs import colour_alignment, coloured, small_backbone

ROOT = Path(__file__).parents[2]
QUICK = {"batch_size": 16, "epochs": 2, "lr": 3e-3, "precision": "fp32"}


def run(samples, *, taught=False, out=None, resume=False, frozen=False, **settings):
    backbone = small_backbone() if frozen else small_backbone().trainable_copy()
    alignment = colour_alignment(backbone, samples)
    torch.manual_seed(0)
    distillation = Distillation(backbone, small_backbone(dim=32, num_heads=2)) if taught else None
    history = pretrain(
        alignment,
        PairedDataset(alignment, samples, augment=True),
        PretrainingSettings(**{**QUICK, **settings}),
        distillation=distillation,
        out=out,
        resume=resume,
    )
    return alignment, history


def weights(alignment):
    return {**alignment.state_dict(), **dict(alignment.backbone.named_weights())}


def same(first, second, tolerance=0.0):
    a, b = weights(first), weights(second)
    return all(torch.allclose(a[name], b[name], atol=tolerance, rtol=0) for name in a)


@pytest.mark.parametrize(("kind", "weight"), [("softmax", 0.3), ("sigmoid", 0.0)])
@pytest.mark.parametrize("micro_batch", [0, 5])
def test_gradients_are_those_of_the_loss_of_the_whole_batch(kind, weight, micro_batch):
    samples = coloured(16)
    backbone = small_backbone().trainable_copy()
    alignment = colour_alignment(backbone, samples)
    alignment.contrast.__init__(kind)
    distillation = Distillation(backbone, small_backbone(dim=32, num_heads=2))
    settings = PretrainingSettings(
        **{**QUICK, "epochs": 1}, micro_batch=micro_batch, clip=1e9, distillation=0.5, transport_weight=weight
    )
    pairs = PairedDataset(alignment, samples)
    training = Pretraining(alignment, pairs, settings, distillation, None, None)
    training.optimizer.step = training.optimizer.zero_grad = lambda: None
    training.run(resume=False)  # a batch, whose gradients nothing takes
    found = [parameter.grad.clone() for parameter in training.trained]

    batches, keys, positions = pairs.batch(range(16))
    sequence, action = pass_with_transport_cost(
        backbone, as_sequence(alignment.tower("image").tokenizer(batches["image"]))
    )
    _, other = pass_with_transport_cost(backbone, as_sequence(alignment.tower("text").tokenizer(batches["text"])))
    vectors = alignment.tower("image").vectors(sequence), alignment("text", batches["text"])
    taught = distillation(sequence, None, None, positions)
    loss = alignment.contrast(*vectors, matches(keys)) + 0.5 * taught + weight * (action + other) / 2
    expected = torch.autograd.grad(loss, training.trained)
    assert any(gradient.abs().max() > 1e-3 for gradient in expected)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def test_both_passes_of_a_micro_batch_drop_the_same(monkeypatch):
    real, seen = Tower.project, {False: [], True: []}

    def recorded(tower, sequence):
        vectors = real(tower, sequence)
        seen[torch.is_grad_enabled()].append(vectors.detach())
        return vectors

    monkeypatch.setattr(Tower, "project", recorded)
    run(coloured(16), micro_batch=5, patch_dropout=0.5, epochs=1)
    assert len(seen[True]) == len(seen[False]) == 4 * 2
    assert all(torch.equal(*pair) for pair in zip(seen[False], seen[True], strict=True))


def test_plain_accumulation_has_fewer_negatives():
    samples = coloured(32)
    (_, cached), (_, plain) = (run(samples, micro_batch=4, negatives=name) for name in ("batch", "micro_batch"))
    assert plain[0]["train_loss"] < cached[0]["train_loss"] - 0.5, "of four, the partner is easier to find than of 16"


TWO = """
import json, os, sys
sys.path.insert(0, os.getcwd())
import torch
from safetensors import safe_open
from tests.pairs import coloured
from tests.pretraining.test_loop import run
torch.set_num_threads(1)
alignment, history = run(coloured(48), taught=True, epochs=2, micro_batch=int(sys.argv[2]), transport_weight=0.3)
if int(os.environ.get("RANK", 0)) == 0:
    found = [[row["train_loss"] for row in history], alignment.contrast.logit_scale.item(),
             alignment.backbone.norm.weight.tolist(), int(os.environ.get("WORLD_SIZE", 1))]
    json.dump(found, open(sys.argv[1], "w"))
"""


def test_two_processes_give_the_loss_and_weights_of_one(tmp_path):
    one, two = on_one_and_two(TWO, tmp_path)
    assert (one.pop(), two.pop()) == (1, 2), "the number of processes"
    for first, second in zip(one, two, strict=True):
        assert second == pytest.approx(first, abs=1e-5)


def _killed(folder):
    torch.set_num_threads(1)
    real, steps = torch.optim.AdamW.zero_grad, iter(range(1, 9))

    def killing(optimizer):
        real(optimizer)
        if next(steps) == 5:
            os._exit(9)

    torch.optim.AdamW.zero_grad = killing
    run(coloured(48), out=folder, taught=True, **INTERRUPTED)


INTERRUPTED = {"epochs": 3, "patch_dropout": 0.5, "whole_epochs": 1, "checkpoint_seconds": 0.0, "transport_weight": 1.0}


def test_killed_and_resumed_is_as_not_killed(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=_killed, args=(tmp_path / "killed",))
    process.start()
    process.join()
    assert process.exitcode == 9
    with safe_open(tmp_path / "killed" / "checkpoint.safetensors", "pt") as file:
        state = json.loads(file.metadata()["state"])
    assert (state["epoch"], state["step"]) == (1, 1), "the fifth step was lost"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    resumed, history = run(coloured(48), out=tmp_path / "killed", resume=True, taught=True, **INTERRUPTED)
    whole, expected = run(coloured(48), out=tmp_path / "whole", taught=True, **INTERRUPTED)
    torch.set_num_threads(threads)
    assert same(resumed, whole)
    assert [row["train_loss"] for row in history] == [row["train_loss"] for row in expected]
    assert not list((tmp_path / "whole" / "teacher").iterdir()), "the targets are of no use any more"


def test_both_modalities_find_each_other_in_a_trained_backbone():
    samples, held = coloured(192), coloured(60, seed=1)
    alignment, history = run(samples, epochs=6, patch_dropout=0.25)
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    vectors = {modality: alignment.embed(modality, side) for modality, side in held.items()}
    assert recalls(vectors, held["text"])["image_to_text_recall@1"] > 0.8
    assert alignment.backbone.fingerprint != small_backbone().fingerprint


def test_on_a_frozen_backbone_only_new_towers_change():
    samples = coloured(64)
    backbone = small_backbone()
    alignment = colour_alignment(backbone, samples)
    alignment.towers["text"].requires_grad_(False)
    before = {name: value.clone() for name, value in weights(alignment).items()}
    pretrain(alignment, PairedDataset(alignment, samples), PretrainingSettings(**QUICK))
    changed = {name for name, value in weights(alignment).items() if not torch.equal(value, before[name])}
    assert changed == {"towers.image.proj.weight", "contrast.logit_scale"}


def test_what_cannot_run_is_said_first():
    samples = coloured(8)
    alignment = colour_alignment(small_backbone(), samples)
    with pytest.raises(ValueError, match="batch of 16 needs as many pairs; there are 8"):
        pretrain(alignment, PairedDataset(alignment, samples), PretrainingSettings(**QUICK))
    for wrong, message in (
        ({"patch_dropout": 1.0}, "patch_dropout is 1"),
        ({"whole_epochs": -1}, "whole_epochs is -1"),
        ({"negatives": "all"}, "negatives is 'all'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"epochs": 0}, "epochs is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            PretrainingSettings(**wrong)
    for option in ("layer_decay", "token_warmup_steps", "patience", "sampling", "cache", "shard", "steps", "metric"):
        with pytest.raises(TypeError, match=option):  # options of a task's training, which would do nothing here
            PretrainingSettings(**{option: 1})
    with pytest.raises(ValueError, match="transport_weight changes the backbone, which is frozen here"):
        run(coloured(16), frozen=True, transport_weight=1.0)
    with pytest.raises(ValueError, match="The loss became nan"):
        run(coloured(32), lr=1e30)


def test_a_teacher_needs_pictures_and_their_views():
    samples = coloured(16)
    backbone = small_backbone().trainable_copy()
    alignment = colour_alignment(backbone, samples)
    alignment.add("tabular", [{"red": float(i)} for i in range(16)])
    distillation = Distillation(backbone, small_backbone(dim=32, num_heads=2))
    sides = {"tabular": [{"red": float(i)} for i in range(16)], "text": samples["text"]}
    with pytest.raises(ValueError, match="tabular and text are none"):
        pretrain(alignment, PairedDataset(alignment, sides), PretrainingSettings(**QUICK), distillation=distillation)
    alignment.tower("image").tokenizer.level = 3  # RandAugment turns pictures
    alignment.tower("image").tokenizer.augments = True
    with pytest.raises(ValueError, match="choose a weaker one"):
        pretrain(
            alignment,
            PairedDataset(alignment, samples, augment=True),
            PretrainingSettings(**QUICK),
            distillation=distillation,
        )
