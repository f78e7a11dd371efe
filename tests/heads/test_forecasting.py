from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metatx.encoding.collate import collate
from metatx.errors import SampleError
from metatx.registry import create
from tests.heads.series import DIM, HORIZON, LOOKBACK, Model, frame, table

BOTH = pytest.mark.parametrize("channels", ["separate", "mixed"])


# From a table to windows


def test_windows_are_those_of_the_ett_protocol():
    lookback, rows = 336, np.arange(14400.0)
    tokenizer = create("tokenizers", "time_series", DIM, lookback=lookback)
    head = create("heads", "forecasting", DIM, horizon=96)
    read = {}
    for split, (first, end) in {"train": (0, 8640), "test": (11520 - lookback, 14400)}.items():
        data = table(pd.DataFrame({"OT": rows[first:end]}))
        read[split] = head.examples(data, ["OT"], None, tokenizer, split)
    train, test = read["train"], read["test"]
    assert (len(train), len(test)) == (8209, 2785)
    for i in (0, 1000, 2784):
        np.testing.assert_array_equal(test.inputs[i], rows[None, 11520 - lookback + i : 11520 + i])
        np.testing.assert_array_equal(test.targets[i], rows[None, 11520 + i : 11616 + i])
    assert test.targets[-1][0, -1] == 14399
    assert train.targets[-1][0, -1] == 8639
    head.learn(train.targets)
    assert head.centre.item() == pytest.approx(rows[:8640].mean())
    assert head.scale.item() == pytest.approx(rows[:8640].std())
    with pytest.raises(IndexError):
        test.inputs[2785]


@given(rows=st.integers(30, 80), stride=st.integers(1, 9))
@settings(max_examples=10, deadline=None)
def test_windows_with_a_stride_cover_the_table(rows, stride):
    model = Model(frame(rows), stride=stride)
    inputs, targets = model.examples.inputs, model.examples.targets
    assert len(inputs) == len(range(0, rows - LOOKBACK - HORIZON + 1, stride))
    values = frame(rows)[["load", "oil"]].to_numpy().T
    for i, (past, future) in enumerate(zip(inputs, targets, strict=True)):
        both = values[:, i * stride : i * stride + LOOKBACK + HORIZON]
        np.testing.assert_array_equal(np.concatenate([past, future], axis=1), both)


def test_windows_follow_the_time_axis_of_the_tokenizer():
    tokenizer = create("tokenizers", "time_series", DIM, lookback=LOOKBACK, time_axis=0)
    head = create("heads", "forecasting", DIM, horizon=HORIZON)
    examples = head.examples(table(frame()), ["load", "oil"], None, tokenizer, "the table")
    assert examples.inputs[0].shape == (LOOKBACK, 2)
    assert examples.targets[0].shape == (2, HORIZON)
    assert tokenizer.learn(examples.inputs).num_channels == 2
    described = head.learn(examples.targets).baseline_features(tokenizer, examples.inputs[3])
    np.testing.assert_allclose(described[0], (examples.inputs[3][:, 0] - head.centre[0].item()) / head.scale[0].item())


def test_split_holds_out_the_end_with_what_its_first_window_reads():
    model = Model(frame())
    first, second = model.head.split(table(frame()), None, model.tokenizer, 0.1, seed=3)
    assert first.tolist() == list(range(180))
    assert second.tolist() == list(range(180 - LOOKBACK, 200))
    held = model.head.examples(table(frame()).select(second), ["load"], None, model.tokenizer, "held")
    assert len(held) == 20 - HORIZON + 1
    assert held.targets[0][0, 0] == frame()["load"][180]


@pytest.mark.parametrize("fraction", [0.02, 0.9])
def test_split_refuses_parts_too_short_for_a_window(fraction):
    model = Model(frame())
    with pytest.raises(ValueError, match=r"lookback of 24 and a horizon of 6 need 30 and 6"):
        model.head.split(table(frame()), None, model.tokenizer, fraction, seed=0)


def test_a_query_is_the_end_of_the_table():
    model = Model(frame())
    (query,) = model.head.queries(table(frame()), ["load", "oil"], model.tokenizer)
    np.testing.assert_array_equal(query, frame()[["load", "oil"]].to_numpy().T[:, -LOOKBACK:])
    with pytest.raises(ValueError, match="23 rows; a forecast reads the last 24"):
        model.head.queries(table(frame(23)), ["load", "oil"], model.tokenizer)


@pytest.mark.parametrize("time", ["time", "when", "ds"])
def test_inputs_are_the_columns_of_numbers(time):
    data = frame().rename(columns={"time": time}).assign(site="A", flag=True, whole=3)
    data[time] = {"time": data[time], "when": data[time].astype(str), "ds": range(len(data))}[time]
    model = Model(frame())
    assert model.head.inputs(table(data), None, model.tokenizer) == ["load", "oil", "whole"]
    with pytest.raises(ValueError, match="No column holds numbers to forecast; columns: site"):
        model.head.inputs(table(data[["site"]]), None, model.tokenizer)


def test_a_table_too_short_for_a_window_is_refused():
    with pytest.raises(ValueError, match="29 rows; a window takes 30: a lookback of 24 and a horizon of 6"):
        Model(frame(29))


def test_a_target_column_or_a_missing_lookback_is_refused():
    model = Model(frame())
    with pytest.raises(ValueError, match="name oil with --inputs"):
        model.head.examples(table(frame()), ["load"], "oil", model.tokenizer, "the table")
    whole = create("tokenizers", "time_series", DIM)
    with pytest.raises(ValueError, match="lookback"):
        model.head.examples(table(frame()), ["load"], None, whole, "the table")


# The model


@BOTH
@given(shift=st.floats(-1e3, 1e3), factor=st.floats(1e-2, 1e2))
@settings(max_examples=10, deadline=None)
def test_forecast_follows_shift_and_scale_of_the_input(channels, shift, factor):
    model = Model(frame(), channels)
    with torch.no_grad():
        model.tokenizer.statistics.weight.zero_()  # else the level itself tells something, as it should
    past = model.examples.inputs[5]
    plain, moved = model.predict(past), model.predict(past * factor + shift)
    # float32 holds seven digits of the level
    atol = 1e-4 * (factor * 30 + 1e-2 * abs(shift) + 1)
    np.testing.assert_allclose(moved, plain * factor + shift, rtol=1e-4, atol=atol)
    assert np.ptp(plain, axis=-1).min() > 1e-3


@BOTH
def test_forecast_in_another_unit_is_the_forecast(channels):
    def other(data: pd.DataFrame) -> pd.DataFrame:
        return data.assign(load=data["load"] * 1.8 + 32, oil=data["oil"] * 40)

    plain, changed = Model(frame(), channels), Model(other(frame()), channels)
    first, second = plain.predict(plain.examples.inputs[5]), changed.predict(changed.examples.inputs[5])
    np.testing.assert_allclose(second[:, 0], first[:, 0] * 1.8 + 32, rtol=1e-4)
    np.testing.assert_allclose(second[:, 1], first[:, 1] * 40, rtol=1e-4)
    assert not np.allclose(plain.head.centre, changed.head.centre)


@BOTH
@given(
    lengths=st.lists(st.integers(1, LOOKBACK), min_size=2, max_size=5),
    gaps=st.floats(0, 0.8),
    seed=st.integers(0, 99),
)
@settings(max_examples=10, deadline=None)
def test_forecast_does_not_depend_on_neighbours(channels, lengths, gaps, seed):
    model, random = Model(frame(), channels), np.random.default_rng(seed)
    samples = []
    for length in lengths:
        sample = model.examples.inputs[random.integers(100)][:, -length:].copy()
        sample[:, :-1][random.random(sample[:, :-1].shape) < gaps] = np.nan
        samples.append(sample)
    alone = np.concatenate([model.predict(sample) for sample in samples])
    np.testing.assert_allclose(model.predict(*samples), alone, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model.predict(*samples[::-1])[::-1], alone, rtol=1e-5, atol=1e-5)
    assert np.isfinite(alone).all()


def test_tokens_stand_in_the_slot_they_came_from():
    model = Model(frame(), linear=0)
    past = model.examples.inputs[0].copy()
    past[:, 8:20] = np.nan  # the patch at 8 is gone, and that at 12
    batch = collate([model.tokenizer.encode(past)])
    sequence = model.tokenizer(batch)
    assert sequence.context["mask"][0, 0].tolist() == [True, True, False, False, True, True]
    # The head reads the last four slots: patches at 8, 12 and 16, and the statistics.
    changed = sequence.embeddings.clone()
    changed[:2] += 1  # patches at 0 and 4
    first, second = model.head(sequence), model.head(sequence.with_embeddings(changed))
    assert torch.equal(first, second)
    weight = model.head.output.weight.view(HORIZON, 4, DIM)
    wanted = model.head.output.bias + weight[:, 2] @ sequence.embeddings[2] + weight[:, 3] @ sequence.embeddings[3]
    loc, scale = sequence.context["loc"][0, 0], sequence.context["scale"][0, 0]
    wanted = (loc + scale * wanted - model.head.centre[0]) / model.head.scale[0]
    torch.testing.assert_close(first[0, 0], wanted, rtol=0, atol=1e-5)  # of float32 products


def test_a_constant_series_goes_on():
    model = Model(frame())
    past = np.stack([np.full(LOOKBACK, 400.25), np.full(LOOKBACK, -2.5)])
    np.testing.assert_allclose(model.predict(past)[0], np.repeat(past[:, :1], HORIZON, 1), rtol=1e-6)


@pytest.mark.parametrize("quantiles", [None, [0.9, 0.1, 0.5]])
@BOTH
def test_learns_the_wave(channels, quantiles):
    model = Model(frame(), channels, quantiles=quantiles)
    parameters = [*model.tokenizer.parameters(), *model.head.parameters()]
    optimizer = torch.optim.Adam(parameters, 3e-3)
    pasts, futures = list(model.examples.inputs), list(model.examples.targets)
    truth = torch.stack([model.head.encode(future) for future in futures])
    for _ in range(100):
        optimizer.zero_grad()
        model.head.loss(model(*pasts[:120]), truth[:120]).backward()
        optimizer.step()
    with torch.no_grad():
        output = model(*pasts[120:])
    mse = model.head.metrics()["mse"]
    mse.update(*model.head.metric_inputs(output, truth[120:]))
    assert mse.compute() < 0.05  # the noise is 0.003; the mean of the window has 1
    if quantiles:
        inside = (output[..., 0] <= truth[120:]) & (truth[120:] <= output[..., 2])
        assert 0.4 < inside.float().mean() < 0.99


def test_pinball_loss_by_hand():
    head = create("heads", "forecasting", DIM, quantiles=[0.9, 0.5]).restore({"channels": ["a"], "horizon": 1})
    output, target = torch.tensor([[[[1.0, 4.0]]]]), torch.tensor([[[2.0]]])  # quantiles 0.5 and 0.9
    assert head.loss(output, target).item() == pytest.approx((0.5 * 1 + 0.1 * 2) / 2)
    crossed = head.decode(torch.tensor([[[[4.0, 1.0]]]]))
    assert crossed.tolist() == [[[[1.0, 4.0]]]]


def test_missing_futures_are_neither_learned_nor_measured():
    model = Model(frame())
    future = model.examples.targets[0].copy()
    output = torch.zeros(1, 2, HORIZON)
    whole = model.head.loss(output, model.head.encode(future)[None])
    future[0, 1] = np.nan
    target = model.head.encode(future)[None]
    known = target.isfinite()
    assert known.sum() == 11
    assert model.head.loss(output, target).item() == pytest.approx((target[known] ** 2).mean().item())
    assert model.head.loss(output, target) != whole
    assert len(model.head.metric_inputs(output, target)[0]) == 11
    assert model.head.loss(output, torch.full_like(target, torch.nan)) == 0


def test_metrics_are_standardised_and_in_the_unit():
    model = Model(frame())
    future = model.examples.targets[0]
    target = model.head.encode(future)[None]
    output = target + torch.tensor([[0.5], [-1.0]])
    values = {}
    for name, metric in model.head.metrics().items():
        metric.update(*model.head.metric_inputs(output, target))
        values[name] = metric.compute().item()
        assert metric.higher_is_better is False
    deviation = frame()[["load", "oil"]].std(ddof=0).to_numpy()
    assert values["mse"] == pytest.approx((0.25 + 1) / 2, rel=1e-5)
    assert values["mae"] == pytest.approx(0.75, rel=1e-5)
    assert values["mae_unscaled"] == pytest.approx((0.5 * deviation[0] + deviation[1]) / 2, rel=1e-4)
    np.testing.assert_allclose(model.head.decode(target)[0], future, rtol=1e-5)


def test_records_name_channels_and_quantiles():
    plain, spread = Model(frame()), Model(frame(), quantiles=[0.1, 0.5, 0.9])
    past = plain.examples.inputs[0]
    with torch.no_grad():
        (row,), (spread_row,) = plain.head.records(plain(past)), spread.head.records(spread(past))
    assert list(row) == ["load", "oil"]
    assert row["oil"] == plain.predict(past)[0, 1].tolist()
    row = spread_row
    assert list(row) == ["load q0.1", "load", "load q0.9", "oil q0.1", "oil", "oil q0.9"]
    assert row["oil q0.9"] == spread.predict(past)[0, 1, :, 2].tolist()
    assert (np.array(row["oil q0.1"]) <= np.array(row["oil q0.9"])).all()


@BOTH
def test_rebuilt_from_options_and_weights(channels):
    model = Model(frame(), channels, quantiles=[0.5, 0.9], season=24)
    past = model.examples.inputs[0]
    before = model.predict(past)
    again = create("heads", "forecasting", DIM, **model.head.options).restore(model.head.fitted)
    again.load_state_dict(model.head.state_dict())
    model.head = again.eval()
    np.testing.assert_array_equal(model.predict(past), before)
    assert again.channels == ["load", "oil"]


def test_the_linear_path_spans_the_lookback_unless_told():
    assert Model(frame(), linear=None).head.fitted["linear"] == LOOKBACK
    assert Model(frame(), linear=None).head.skip.in_features == LOOKBACK
    assert Model(frame(), linear=0).head.skip is None


def test_pairs_of_arrays_do_without_a_table():
    random = np.random.default_rng(0)
    futures = [random.normal(3, 2, size=(2, HORIZON)) for _ in range(50)]
    head = create("heads", "forecasting", DIM, horizon=HORIZON).learn(futures)
    values = np.concatenate(futures, axis=1)
    np.testing.assert_allclose(head.centre[:, 0], values.mean(1), rtol=1e-5)
    np.testing.assert_allclose(head.scale[:, 0], values.std(1), rtol=1e-5)
    assert head.channels == ["channel 1", "channel 2"]
    with pytest.raises(ValueError, match=r"A future is \(2, 5\); expected \(channels, 6\)"):
        head.learn([futures[0], futures[1][:, :5]])
    with pytest.raises(SampleError, match=r"\(1, 6\); expected .* \(2, 6\)"):
        head.encode(futures[0][:1])
    with pytest.raises(SampleError, match="no array of numbers"):
        head.encode("text")
    with pytest.raises(SampleError, match="infinite"):
        head.encode(futures[0] + np.inf)


def test_a_tokenizer_that_does_not_fit_is_named():
    model = Model(frame())
    sequence = model.tokenizer(collate([model.tokenizer.encode(model.examples.inputs[0])]))
    with pytest.raises(ValueError, match="a series of 2 channels, from the time_series tokenizer"):
        model.head(replace(sequence, context={}))
    mixed = Model(frame(), "mixed")
    with pytest.raises(ValueError, match="per_sequence is 2; expected 1"):
        mixed.head(sequence)


@pytest.mark.parametrize("options", [{"horizon": 0}, {"tokens": 0}, {"quantiles": [0.1, 0.9]}, {"quantiles": [0.5, 1]}])
def test_options_are_checked(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} "):
        create("heads", "forecasting", DIM, **options)


# Baselines


def windows(model: Model) -> tuple[np.ndarray, np.ndarray]:
    features = np.stack([model.head.baseline_features(model.tokenizer, sample) for sample in model.examples.inputs])
    return features, np.stack([model.head.encode(target).numpy() for target in model.examples.targets])


@pytest.mark.parametrize("season", [None, 4])
def test_baselines_are_in_the_unit_of_the_model(season):
    model = Model(frame(), season=season)
    features, answers = windows(model)
    name, estimator = model.head.trivial()
    assert name == ("last value" if season is None else "last 4 steps")
    output = model.head.baseline_predict(estimator.fit(features, answers), features)
    at = [-1] * 6 if season is None else [-4, -3, -2, -1, -4, -3]
    np.testing.assert_allclose(model.head.decode(output[:1])[0], model.examples.inputs[0][:, at], rtol=1e-5)
    names = ["ridge on the window", "Holt-Winters"][: 1 if season is None else 2]
    assert [list(model.head.classical("linear", count)) for count in (2500, 2501)] == [names, names[:1]]  # slow
    ridge = model.head.classical("linear")["ridge on the window"].fit(features, answers)
    found = model.head.decode(model.head.baseline_predict(ridge, features))
    errors = (found - np.stack(list(model.examples.targets))) / frame()[["load", "oil"]].std().to_numpy()[:, None]
    assert (errors**2).mean() < 0.05


def test_estimates_serve_every_quantile():
    model = Model(frame(), quantiles=[0.1, 0.5, 0.9])
    features, answers = windows(model)
    output = model.head.baseline_predict(model.head.trivial()[1].fit(features, answers), features)
    assert output.shape == (len(answers), 2, HORIZON, 3)
    mse = model.head.metrics()["mse"]
    mse.update(*model.head.metric_inputs(output, torch.as_tensor(answers)))
    assert mse.compute().item() == pytest.approx(((features[..., -1:] - answers) ** 2).mean(), rel=1e-5)
