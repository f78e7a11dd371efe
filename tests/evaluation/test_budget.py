"""Passes and samples that fit into a time: the arithmetic of costs, and that a probe leaves no trace."""

import pytest
import torch

import metatx
from metatx.evaluation.budget import Costs, Plan, plan_for
from metatx.examples import Examples
from tests.conftest import waves


# 100 samples and 20 to validate: 11 s an epoch; where the path is frozen, 24 s for the features.
@pytest.mark.parametrize(
    ("frozen", "seconds", "plan"),
    [
        (False, 1000.0, Plan(8, 100, 100)),
        (False, 60.0, Plan(5, 100, 100)),
        (False, 11.0, Plan(1, 100, 100)),
        (False, 5.5, Plan(1, 50, 100)),
        (True, 1000.0, Plan(8, 100, 100)),
        (True, 79.0, Plan(5, 100, 100)),
        (True, 28.5, Plan(3, 50, 100)),  # three passes take as long as the features, and are not given up
    ],
)
def test_epochs_go_first_then_samples(frozen, seconds, plan):
    costs = Costs(train=0.1, measure=0.05, features=0.2 if frozen else 0.0)
    assert costs.plan(100, 20, metatx.TrainingSettings(epochs=8, batch_size=10), seconds) == plan


@pytest.mark.parametrize("frozen", [False, True])
def test_a_probe_leaves_the_task_and_the_generator_as_they_were(nano, frozen):
    task = metatx.Task.from_data(nano, "waves", waves(40))
    task.tokenizer.requires_grad_(not frozen)
    before = {name: tensor.clone() for name, tensor in task.state_dict().items()}
    state = torch.get_rng_state()
    settings = metatx.TrainingSettings(epochs=3, batch_size=8, lr=0.1)
    examples = {"train": Examples(*waves(40)), "test": Examples(*waves(8))}
    assert plan_for(task, examples, settings, 1e6) == Plan(3, 40, 40)
    assert plan_for(task, examples, settings, 1e-9).samples == 8
    assert all(torch.equal(before[name], tensor) for name, tensor in task.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    with pytest.raises(ValueError, match="must be more than 0"):
        plan_for(task, examples, settings, 0)


def test_a_cut_takes_the_same_share_of_training_and_validation_by_the_seed():
    examples = {split: Examples(list(range(n))) for split, n in (("train", 100), ("validation", 20), ("test", 30))}
    plan = Plan(1, 25, 100)
    first, again, other = (plan.cut(examples, seed) for seed in (0, 0, 1))
    assert [len(first[split]) for split in examples] == [25, 5, 30]
    assert list(first["train"].inputs) == list(again["train"].inputs) != list(other["train"].inputs)
    assert len(set(first["train"].inputs)) == 25
    assert Plan(1, 100, 100).cut(examples, 0) == examples


def test_a_run_learns_its_classes_from_all_samples(nano):
    inputs, labels = waves(60)
    labels[0] = "rare"
    data = {"train": (inputs, labels), "test": (inputs[:10], labels[:10])}
    options = {"backbone": nano, "settings": metatx.TrainingSettings(batch_size=8), "validation_share": 0}
    report = metatx.run(data, "waves", budget=Plan(2, 5, 60), **options)
    assert report.task.head.classes == ["loud", "quiet", "rare"]
    assert len(report.task.history) == 2 and report.plan == Plan(2, 5, 60)
    assert str(report.plan) == "2 epochs of 5 of 60 samples" and report.baselines["classical"]


def test_a_trial_for_a_budget_tells_of_no_epochs(nano, table, caplog):
    caplog.set_level("INFO", "metatx")
    report = metatx.run(table, "tabular", backbone=nano, target="kind", budget=0.5, baseline=False)
    told = [record.message for record in caplog.records if record.message.startswith("epoch ")]
    assert len(told) == report.plan.epochs


def test_features_of_values_that_come_again_cost_nothing(monkeypatch, nano):
    """Of forty samples with four texts a plan counts the features of four."""
    texts = [f"question {number % 4}" for number in range(40)]
    data = Examples([{"words": text, "more": text} for text in texts], ["yes", "no"] * 20)
    inputs = [metatx.Input(name=name, modality="text", frozen=True) for name in ("words", "more")]
    task = metatx.Task.from_data(nano, inputs, data)
    planned = []
    monkeypatch.setattr("metatx.evaluation.budget._measured", lambda *given: Costs(1.0, 1.0, features=10.0))
    monkeypatch.setattr(Costs, "plan", lambda costs, *given: planned.append(costs.features) or Plan(1, 40, 40))
    plan_for(task, {"train": data}, metatx.TrainingSettings(epochs=1), 10.0)
    assert planned == [pytest.approx(10.0 * 4 / 40)]
