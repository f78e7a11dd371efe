"""A high level costs no digits: targets, answers, measures, and what tokenizers standardise."""

import json
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

import metatx
from metatx.encoding.collate import to_device
from metatx.errors import SampleError
from metatx.evaluation.baselines import baselines
from metatx.exact import uncast
from metatx.examples import Examples
from metatx.registry import create

levels = st.floats(-1e12, 1e12)
NAMES = ("rmse", "mae", "r2")


def of(head, output, targets):
    """Measures of outputs by a head."""
    scored = head.metric_inputs(output, torch.stack([head.encode(target) for target in targets]))
    metrics = head.metrics()
    for metric in metrics.values():
        metric.update(*scored)
    return {name: metric.compute().item() for name, metric in metrics.items()}


def by_scikit_learn(predicted, targets):
    measures = (root_mean_squared_error, mean_absolute_error, r2_score)
    return {name: measure(targets, predicted) for name, measure in zip(NAMES, measures, strict=True)}


@settings(deadline=None, max_examples=200)
@given(levels, st.floats(-3, 6), st.integers(2, 50), st.integers(0, 2**32 - 1))
@example(1.6e9, 1, 100, 0)
@example(1e12, 0, 50, 1)
def test_answers_and_measures_do_not_depend_on_the_level(level, power, count, seed):
    rng = np.random.default_rng(seed)
    swing = max(10.0**power, 1e-4 * abs(level) ** 0.5)
    targets = level + swing * rng.normal(size=count)
    head = create("heads", "regression", 4).learn(targets)
    output = torch.tensor((targets - targets.mean()) / targets.std() + 0.3 * rng.normal(size=count)).float()
    predicted = head.decode(output)
    assert predicted.dtype == np.float64
    wanted = output.double().numpy() * targets.std() + targets.mean()
    np.testing.assert_allclose(predicted, wanted, rtol=1e-15, atol=1e-15 * abs(level))
    assert of(head, output, targets) == pytest.approx(by_scikit_learn(predicted, targets), rel=1e-6, nan_ok=True)
    plain = create("heads", "regression", 4).learn(targets - level)
    loss = head.loss(output, torch.tensor(targets)).item()
    assert loss == pytest.approx(plain.loss(output, torch.tensor(targets - level)).item(), rel=1e-2)
    assert json.loads(json.dumps(head.records(output))) == [{"prediction": value} for value in predicted.tolist()]


@pytest.fixture(scope="module")
def trained(nano):
    """A task on targets of 1.6e9 plus tens, trained a little; and rows that it has not seen."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=160)
    rows = pd.DataFrame({"x": x, "z": rng.normal(size=160), "y": 1.6e9 + 10 * x})
    task = metatx.Task.from_data(nano, "tabular", rows[:100], target="y", head="regression")
    return task.fit(rows[:100], epochs=3, lr=1e-2, batch_size=20), rows[100:]


def test_a_task_at_a_high_level_is_measured_by_what_it_predicts(trained):
    task, unseen = trained
    predicted, measured = task.predict(unseen), task.evaluate(unseen)
    assert len(set(predicted.tolist())) == len(unseen) and 0.1 < measured["rmse"] < 20
    assert {name: measured[name] for name in NAMES} == pytest.approx(by_scikit_learn(predicted, unseen.y), rel=1e-6)


def test_casts_moves_and_files_keep_the_digits_of_statistics(trained, tmp_path):
    task, unseen = trained
    head = create("heads", "regression", 4).learn([1.6e9, 1.6e9 + 1])
    for cast in (head.half(), head.bfloat16(), head.to(torch.float16), head.to("cpu", torch.bfloat16), head.float()):
        assert cast.centre.item() == 1.6e9 + 0.5 and cast.scale.item() == 0.5
        assert cast.centre.dtype == torch.float64
    assert head.half().output.weight.dtype == torch.float16
    nested = create("tokenizers", "infrared", 8, stem=None, image_size=32)
    nested.pictures.window.copy_(torch.tensor([1e9, 1e9 + 1], dtype=torch.float64))
    assert nested.half().pictures.window.tolist() == [1e9, 1e9 + 1]
    again = metatx.Task.from_pretrained(task.save_pretrained(tmp_path / "task"), backbone=task.backbone)
    assert (again.predict(unseen) == task.predict(unseen)).all()


def test_statistics_and_targets_stay_where_a_device_knows_no_float64():
    class Elsewhere(torch.Tensor):  # what moving to such a device would give
        device = torch.device("mps")

    head = create("heads", "regression", 4)
    move = uncast(head, lambda tensor: tensor.as_subclass(Elsewhere))
    assert move(head.centre) is head.centre and isinstance(move(head.output.weight), Elsewhere)
    target = head.encode(1e12)
    assert to_device({"target": [target]}, torch.device("mps")) == {"target": [target]}


def test_tasks_saved_with_statistics_of_float32_still_load():
    head = create("heads", "regression", 4).learn([3.0, 4.0])
    old = {name: tensor.float() for name, tensor in head.state_dict().items()}
    again = create("heads", "regression", 4)
    again.load_state_dict(old)
    assert again.centre.dtype == torch.float64 and again.decode(torch.zeros(1)).tolist() == [3.5]


@pytest.mark.parametrize(
    ("target", "value"),
    [
        (Decimal("1e18"), 1e18),
        (10**18 + 64, 1e18),
        (np.float16(2), 2.0),
        ("-7.5e3", -7500.0),
        (np.uint64(2**63), 2.0**63),
    ],
)
def test_numbers_beyond_float32_are_targets(target, value):
    head = create("heads", "regression", 4).learn([target, 0])
    assert head.encode(target).item() == value
    assert head.decode(torch.tensor([1.0, -1.0])).tolist() == pytest.approx(sorted([value, 0.0], reverse=True))


@pytest.mark.parametrize("target", [10**400, Decimal("nan"), Decimal("sNaN"), np.inf, "inf", pd.NA, pd.NaT, 1j, [1, 2]])
def test_what_is_no_finite_number_is_a_bad_sample(target):
    head = create("heads", "regression", 4).learn([1, 2])
    with pytest.raises(SampleError, match="expected a (finite )?number"):
        head.encode(target)
    with pytest.raises(ValueError, match="targets are missing or infinite|expected numbers"):
        head.learn([1, 2, target])


def test_targets_too_large_to_have_a_deviation_are_refused():
    with pytest.raises(ValueError, match=r"-1e\+308 to 1e\+308, have no deviation that float64 holds"):
        create("heads", "regression", 4).learn([1e308, -1e308])


def test_decimals_are_numbers_to_predict():
    from metatx.registry import lookup

    assert lookup("heads", "regression").accepts([Decimal("1.5"), Decimal("2.25")])


def test_baselines_at_a_high_level_are_scikit_learn_s():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 1))
    targets = 1e12 + x[:, 0] + 0.1 * rng.normal(size=60)
    tokenizer = create("tokenizers", "tabular", 8).learn([{"x": value} for value in x[:, 0]])
    head = create("heads", "regression", 8).learn(targets[:40])
    rows = [{"x": value} for value in x[:, 0]]
    found = baselines(tokenizer, head, *(Examples(rows[part], targets[part], "rows") for part in PARTS))
    assert found["trivial"]["mean"]["rmse"] == pytest.approx(
        root_mean_squared_error(targets[40:], np.full(20, targets[:40].mean())), rel=1e-6
    )
    assert found["trivial"]["mean"]["r2"] <= 0
    estimator = head.classical("linear")["ridge regression"].fit(pd.DataFrame(x[:40]), targets[:40])
    answers = head.decode(head.baseline_predict(estimator, pd.DataFrame(x[40:])))
    exact = LinearRegression().fit(x[:40], targets[:40] - 1e12).predict(x[40:]) + 1e12
    np.testing.assert_allclose(answers, exact, rtol=0, atol=0.05)


PARTS = (slice(40), slice(40, 60))


# What tokenizers standardise


def tabular(rng, level):
    tokenizer = create("tokenizers", "tabular", 8).learn([{"x": level + value} for value in rng.normal(size=50)])
    return lambda values: tokenizer.encode({"x": level + values[0, 0]})["numbers"]


def hyperspectral(rng, level):
    tokenizer = create("tokenizers", "hyperspectral", 8).learn(list(level + rng.normal(size=(50, 12))))
    return lambda values: tokenizer.encode(level + values[:, 0])["patch"]


def point_cloud(rng, level):
    clouds = list(np.array([level, -level, level / 7, 0]) + rng.normal(size=(8, 40, 4)))
    tokenizer = create("tokenizers", "point_cloud", 8, points=40, groups=4, neighbours=4).learn(clouds)
    return lambda values: tokenizer.encode(np.array([level, -level, level / 7, 0]) + values[:, :4])["points"]


def infrared(rng, level):
    tokenizer = create("tokenizers", "infrared", 8, stem=None, image_size=32).learn(
        list(level + rng.normal(size=(4, 32, 32)))
    )
    return lambda values: tokenizer.encode(level + np.resize(values, (32, 32)))["image"]


def graph(rng, level):
    def sample(values):
        return {"edge_index": [[0, 1, 2], [1, 2, 0]], "x": level + values[:3]}

    tokenizer = create("tokenizers", "graph", 8).learn([sample(rng.normal(size=(3, 5))) for _ in range(20)])
    return lambda values: tokenizer.encode(sample(values))["nodes"]


@pytest.mark.parametrize("tokenizer", [tabular, hyperspectral, point_cloud, infrared, graph])
@pytest.mark.parametrize("level", [4e6, 1e9, -1e10])
def test_samples_at_a_high_level_are_those_at_none(tokenizer, level):
    values = np.random.default_rng(1).normal(size=(12, 5))
    plain, high = (tokenizer(np.random.default_rng(0), at)(values).double() for at in (0.0, level))
    assert plain.numel() == 1 or plain.std() > 0.1
    np.testing.assert_allclose(high, plain, atol=1e-3)


@pytest.mark.parametrize("constant", [0.1, 1e9 + 0.1])
def test_what_never_varies_is_not_blown_up_by_rounding(constant):
    spectra = np.random.default_rng(0).normal(size=(49, 12))
    spectra[:, 3] = constant
    tokenizer = create("tokenizers", "hyperspectral", 8).learn(list(spectra))
    assert tokenizer.encode(spectra[0] + 0.5)["patch"].abs().max() < 10
    clouds = list(np.random.default_rng(0).normal(size=(7, 41, 4)))
    for cloud in clouds:
        cloud[:, 3] = constant
    tokenizer = create("tokenizers", "point_cloud", 8, points=41, groups=4, neighbours=4).learn(clouds)
    assert tokenizer.encode(clouds[0] + 0.5)["points"].abs().max() < 10
