"""check_head: what is sound passes, and each way to break the contract is caught by its own check."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from metatx.heads.classification import ClassificationHead
from metatx.heads.multilabel import MultiLabelHead
from metatx.heads.regression import RegressionHead
from metatx.testing import check_head

TARGETS = ["cat", "dog", "eel"] * 4
LISTS = [["cat"], ["dog", "eel"], []] * 4
NUMBERS = (100 + 5 * np.random.default_rng(0).normal(size=12)).tolist()


class FitReturnsNothing(ClassificationHead):
    def fit(self, targets):
        super().fit(targets)


class UnsortedClasses(ClassificationHead):
    turn = itertools.count()

    def fit(self, targets):
        return {"classes": sorted(set(targets), reverse=next(self.turn) % 2 == 1)}


class EncodesWithKeyError(ClassificationHead):
    def encode(self, target):
        return torch.tensor(self.index.exact[target])


class EncodesUnknownAsFirst(ClassificationHead):
    def encode(self, target):
        return torch.tensor(self.index.exact.get(target, 0) if isinstance(target, str) else 0)


class PoolsAtRandom(ClassificationHead):
    pool_options = ()

    def __init__(self, dim):
        super().__init__(dim, dropout=0.5)

    def pool(self, sequence):
        return self.dropout(super().pool(sequence))


class PoolsWithWeights(ClassificationHead):
    def pool(self, sequence):
        return self.norm(super().pool(sequence))

    def forward(self, pooled):
        return self.output(pooled)


class NamesNoOption(ClassificationHead):
    pool_options = ("pool",)


class TransposesOutput(ClassificationHead):
    def forward(self, pooled):
        return super().forward(pooled).T


class GivesNaNs(ClassificationHead):
    def forward(self, pooled):
        return super().forward(pooled) / 0


class LossPerSample(ClassificationHead):
    def loss(self, output, target):
        return F.cross_entropy(output, target, reduction="none")


class HasAnIdleLayer(ClassificationHead):
    pool_options = ()

    def __init__(self, dim):
        super().__init__(dim)
        self.spare = nn.Linear(dim, 2)


class LossWithoutGradient(ClassificationHead):
    def loss(self, output, target):
        return super().loss(output.detach(), target)


class IgnoresTheTarget(ClassificationHead):
    def loss(self, output, target):
        return super().loss(output, torch.zeros_like(target)) * 0 + output.exp().mean()


class IgnoresTheTokens(ClassificationHead):
    def forward(self, pooled):
        return super().forward(torch.linspace(-1, 1, pooled.shape[1]).expand_as(pooled))


class PoolsToAConstant(ClassificationHead):
    def pool(self, sequence):
        return torch.linspace(-1, 1, 2 * self.dim).expand_as(super().pool(sequence))


class NormalisesOutputByTheBatch(RegressionHead):
    def forward(self, pooled):
        return super().forward(pooled - pooled.mean(0))


class KeepsItsScaleForItself(RegressionHead):
    unit = 1.0

    def fit(self, targets):
        learned = super().fit(targets)
        self.unit = float(learned["scale"])
        return learned

    def decode(self, output):
        return super().decode(output) * self.unit


class ForgetsClasses(ClassificationHead):
    def fit(self, targets):
        self.learned = super().fit(targets)["classes"]
        return {}

    def build(self):
        super().build(getattr(self, "learned", []))


class WritesItsOptions(ClassificationHead):
    def fit(self, targets):
        self.options["classes"] = sorted(set(targets))
        return super().fit(targets)


class DecodesOne(ClassificationHead):
    def decode(self, output):
        return super().decode(output)[:1]


class RecordsTensors(RegressionHead):
    def records(self, output):
        return [{"prediction": value} for value in output]


class SharesThatDoNotSum(ClassificationHead):
    def probabilities(self, output):
        return output.sigmoid()


class LabelsWithTooHighShares(MultiLabelHead):
    def probabilities(self, output):
        return 2 * output.sigmoid()


class KeepsItsTemperatureForItself(ClassificationHead):
    heat = 1.0

    def calibrate(self, output, target):
        self.heat = 2.0

    def probabilities(self, output):
        return (output / self.heat).softmax(1)


class NamesNoMetric(ClassificationHead):
    primary_metric = "accurate"


class TurnsTheMetricAround(RegressionHead):
    def metric_inputs(self, output, target):
        return -super().metric_inputs(output, target)[0], target


class KeepsItsMetrics(RegressionHead):
    def metrics(self):
        if not hasattr(self, "kept"):
            self.kept = super().metrics()
        return self.kept


class EstimatesInAnotherForm(ClassificationHead):
    def baseline_predict(self, estimator, features):
        return super().baseline_predict(estimator, features).argmax(1)


@pytest.mark.parametrize(
    ("cls", "check"),
    [
        (FitReturnsNothing, "check_fit"),
        (UnsortedClasses, "check_fit"),
        (WritesItsOptions, "check_fit: options is read-only"),
        (EncodesWithKeyError, "check_bad_targets_raise_sample_error"),
        (EncodesUnknownAsFirst, "check_bad_targets_raise_sample_error"),
        (PoolsAtRandom, "check_pool_can_be_cached: .*other features in training"),
        (PoolsWithWeights, "check_pool_can_be_cached: .*something that trains"),
        (NamesNoOption, "check_pool_can_be_cached: pool_options names pool;"),
        (TransposesOutput, "check_output_has_the_right_form"),
        (GivesNaNs, "check_output_has_the_right_form"),
        (LossPerSample, "check_loss_is_a_finite_scalar"),
        (HasAnIdleLayer, "check_gradients_reach_every_parameter: .*spare"),
        (LossWithoutGradient, "check_gradients_reach_every_parameter: .*output.weight"),
        (IgnoresTheTarget, "check_loss_depends_on_the_target"),
        (IgnoresTheTokens, "check_head_learns"),
        (PoolsToAConstant, "check_head_learns"),
        (NormalisesOutputByTheBatch, "check_batches_do_not_matter"),
        (KeepsItsScaleForItself, "check_rebuilt_is_the_same"),
        (ForgetsClasses, "check_rebuilt_is_the_same"),
        (DecodesOne, "check_answers"),
        (RecordsTensors, "check_answers"),
        (SharesThatDoNotSum, "check_answers"),
        (LabelsWithTooHighShares, "check_answers: .*outside 0 to 1"),
        (KeepsItsTemperatureForItself, "check_calibrate_is_saved"),
        (NamesNoMetric, "check_metrics"),
        (TurnsTheMetricAround, "check_metrics"),
        (KeepsItsMetrics, "check_metrics"),
        (EstimatesInAnotherForm, "check_baselines"),
    ],
)
def test_broken_heads_are_caught(cls, check):
    targets: list[Any] = {RegressionHead: NUMBERS, MultiLabelHead: LISTS}.get(cls.__base__, TARGETS)
    with pytest.raises(AssertionError, match=f"^{cls.__name__} fails {check}"):
        check_head(cls, targets)


def test_a_head_without_cls_is_checked_with_one_prefix():
    options = {"pooling": "cls"}
    check_head(ClassificationHead, TARGETS, options=options, prefixes=(1,))
    with pytest.raises(ValueError, match="no CLS token"):
        check_head(ClassificationHead, TARGETS, options=options)


def test_sound_heads_pass_and_the_generator_is_left_alone():
    before = torch.get_rng_state()
    check_head(ClassificationHead, TARGETS, options={"hidden": 8}, bad_targets=["cow"])
    check_head(RegressionHead, NUMBERS, bad_targets=["many"])
    assert torch.equal(torch.get_rng_state(), before)


def test_too_few_targets_and_accepted_bad_ones():
    with pytest.raises(ValueError, match="four or more targets"):
        check_head(ClassificationHead, TARGETS[:3])
    with pytest.raises(AssertionError, match="encode accepted the bad target 'cat'"):
        check_head(ClassificationHead, TARGETS, bad_targets=["cat"])
