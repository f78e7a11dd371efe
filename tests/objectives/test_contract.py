"""Contract of all objectives: exact however a batch is cut, spread or interrupted; and kept out of what is saved."""

import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import metatx
from metatx.cli import main
from metatx.pretraining.alignment import Alignment
from metatx.pretraining.batch import Batch
from metatx.pretraining.contrastive import matches
from metatx.pretraining.negatives import Compared
from tests.adapters.trained import scramble
from tests.launching import on_one_and_two
from tests.objectives.menu import OTHERS, equal, gradients, record_tokens, state, training
from tests.pairs import coloured, small_backbone

ROOT = Path(__file__).parents[2]


def test_the_menu_is_listed(capsys):
    main(["list", "objectives"])
    shown = capsys.readouterr().out
    assert shown.startswith("objectives:\n") and all(f"\n  {name} " in shown for name in metatx.names("objectives"))
    assert set(metatx.names("objectives")) == {"contrastive", *OTHERS}
    assert all(issubclass(metatx.registry.lookup("objectives", name), metatx.Objective) for name in OTHERS)


def test_contrastive_alone_is_the_run_without_objectives():
    """The reference is the loss as it stood in the loop: that of the alignment, with the same gradients to the bit."""
    named = training(())
    plain = training(())
    plain.objectives.compare = lambda alignment, left, right, same: alignment.contrast(left, right, same)
    rows = [{**row, "seconds": 0} for row in named.run(resume=False)]
    assert [{**row, "seconds": 0} for row in plain.run(resume=False)] == rows
    assert equal(state(named), state(plain))
    assert not list(named.objectives.parameters()), "nothing more is trained or kept"


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_do_not_depend_on_micro_batches(name, frozen):
    whole, loss = gradients([name], frozen=frozen)
    cut, other = gradients([name], frozen=frozen, micro_batch=5)
    assert loss == pytest.approx(other, abs=1e-5)
    alone, _ = gradients([], frozen=frozen)
    assert any(not torch.allclose(whole[key], alone[key], atol=1e-4) for key in alone), "the objective adds to them"
    for key in whole:
        torch.testing.assert_close(whole[key], cut[key], atol=2e-6, rtol=1e-4)
    trained = [key for key in whole if key.startswith("objectives.")]
    assert trained and all(whole[key].abs().max() > 0 for key in trained), "all that an objective trains takes part"


@pytest.mark.parametrize("name", OTHERS)
def test_both_sides_are_read(name, monkeypatch):
    """The tokens of both sides decide the loss: its gradient reaches them."""
    made = training([name], frozen=True)
    objective = made.objectives.others[name]
    scramble(made.objectives)
    entered = record_tokens(monkeypatch)
    sides, keys, positions = made.pairs.batch(range(6))
    batch = Batch(sides, keys, positions, 0, 0.0)
    compared = Compared.of([batch], positions, torch.zeros(6, 6), matches(keys), samples=True)
    objective(made.alignment, batch, compared).backward()
    reached = {tower for tower, tokens in entered if tokens.grad is not None and tokens.grad.abs().sum() > 0}
    towers = {made.alignment.tower(modality) for modality in sides}
    words_apart = name in ("captioning", "masked_text")  # words enter another way
    expected = {made.alignment.tower("image")} if words_apart else towers
    assert reached == expected


def test_a_run_goes_on_as_if_it_had_not_stopped(tmp_path, monkeypatch):
    class KilledError(Exception):
        pass

    options = {"samples": coloured(48), "epochs": 3, "patch_dropout": 0.5, "checkpoint_seconds": 0.0}
    whole = training(OTHERS, **options)
    rows = whole.run(resume=False)
    real = torch.optim.AdamW.zero_grad
    steps = iter(range(1, 9))

    def killing(optimizer):
        real(optimizer)
        if next(steps) == 5:
            raise KilledError

    monkeypatch.setattr(torch.optim.AdamW, "zero_grad", killing)
    with pytest.raises(KilledError):
        training(OTHERS, out=tmp_path, **options).run(resume=False)
    monkeypatch.setattr(torch.optim.AdamW, "zero_grad", real)
    with safe_open(tmp_path / "checkpoint.safetensors", "pt") as file:
        kept = set(file.keys())
    assert any(key.startswith("task.objectives.others.matching.classifier") for key in kept)
    resumed = training(OTHERS, out=tmp_path, **options)
    again = resumed.run(resume=True)
    assert [row["train_loss"] for row in again] == [row["train_loss"] for row in rows]
    assert equal(state(resumed), state(whole))


def test_another_start_or_menu_is_another_run(tmp_path):
    training(["masked_tokens"], out=tmp_path).run(resume=False)
    with pytest.raises(ValueError, match="objectives"):
        training(["matching"], out=tmp_path).run(resume=True)
    other = small_backbone().scale_residuals(0.5)
    with pytest.raises(ValueError, match="the start of masked_tokens"):
        training(["masked_tokens"], out=tmp_path, start=other).run(resume=True)


TWO = """
import json, os, sys
sys.path.insert(0, os.getcwd())
import torch
from tests.objectives.menu import OTHERS, training
from tests.pairs import coloured
torch.set_num_threads(1)
made = training(OTHERS, coloured(32), epochs=2, lr=1e-3, micro_batch=int(sys.argv[2]))
history = made.run(resume=False)
if int(os.environ.get("RANK", 0)) == 0:
    found = [[row["train_loss"] for row in history], made.alignment.backbone.norm.weight.tolist()]
    json.dump([int(os.environ.get("WORLD_SIZE", 1)), found], open(sys.argv[1], "w"))
"""


def test_two_processes_give_the_losses_of_one(tmp_path):
    (count, one), (processes, two) = on_one_and_two(TWO, tmp_path)
    assert (count, processes) == (1, 2)
    assert two[0] == pytest.approx(one[0], abs=1e-4)
    assert two[1] == pytest.approx(one[1], abs=1e-4)


def test_a_saved_alignment_holds_nothing_of_the_objectives(tmp_path):
    made = training(OTHERS, epochs=1)
    made.run(resume=False)
    made.alignment.save_pretrained(tmp_path / "a", about="tests")
    with safe_open(tmp_path / "a" / "alignment.safetensors", "pt") as file:
        assert set(file.keys()) == set(training(()).alignment.state_dict())
    again = Alignment.from_pretrained(tmp_path / "a")
    assert again.embed("text", ["red"]) == pytest.approx(made.alignment.embed("text", ["red"]), abs=1e-6)


def test_a_users_objective_joins_the_sum():
    @metatx.register_objective("near")
    class NearObjective(metatx.Objective):
        """Partners are near."""

        compares = True

        def compare(self, alignment, left, right, same):
            return (left - right).square().sum(1).mean()

    try:
        both = training(["near"], epochs=1).run(resume=False)
        alone = training([], epochs=1).run(resume=False)
        assert both[0]["train_loss"] > alone[0]["train_loss"] + 0.1
        assert math.isfinite(both[0]["train_loss"])
    finally:
        metatx.registry.REGISTERED.pop(("objectives", "near"))
