"""Inertial windows to statistics, spectra and patches, and refusal of what is none."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metatx import SampleError, create
from metatx.cli import main
from metatx.encoding.collate import collate

DIM = 48
COLUMNS = [f"{sensor}_{axis}" for sensor in ("acc", "gyro") for axis in "xyz"]


def window(steps=100, rate=100.0, seed=0, channels=6):
    """Gravity, a movement at 3 Hz and its harmonics, noise below 10 Hz."""
    rng = np.random.default_rng(seed)
    at = np.arange(steps) / rate
    phases, loud = rng.uniform(0, 6, (channels, 4, 1)), rng.normal(size=(channels, 4, 1))
    level = 9.8 * rng.dirichlet(np.ones(3)).repeat(-(-channels // 3))[:channels, None] ** 0.5
    waves = np.sin(2 * np.pi * 3 * np.arange(1, 5)[:, None] * at + phases)  # (C, 4, L)
    return (level + (loud * waves).sum(1)).astype(np.float32)


def fitted(**options):
    torch.manual_seed(0)
    channels = options.pop("channels", 6)
    tokenizer = create("tokenizers", "imu", DIM, **options)
    return tokenizer.learn([window(seed=seed, channels=channels) for seed in range(20)]).eval()


@torch.no_grad()
def tokens(tokenizer, *samples):
    return tokenizer(collate([tokenizer.encode(sample) for sample in samples]))


def row(values):
    return dict(zip(COLUMNS, values.tolist(), strict=True))


# Reading


def test_arrays_rows_and_grouped_columns_are_the_same_window():
    values = window()
    by_array = fitted().encode(values)["signal"]
    by_row = create("tokenizers", "imu", DIM).learn([row(window(seed=seed)) for seed in range(3)])
    assert by_row.columns == COLUMNS
    grouped = create("tokenizers", "imu", DIM).learn([{"acc": values[:3].tolist(), "gyro": values[3:].tolist()}])
    single = create("tokenizers", "imu", DIM).learn([{"signal": values.tolist()}])
    assert torch.equal(by_array, torch.tensor(values))
    shuffled = dict(sorted(row(values).items(), reverse=True))  # columns are found by name
    assert torch.equal(by_row.encode(shuffled)["signal"], by_array)
    assert torch.equal(grouped.encode({"acc": values[:3].tolist(), "gyro": values[3:]})["signal"], by_array)
    assert torch.equal(single.encode({"signal": values.tolist()})["signal"], by_array)
    assert torch.equal(single.encode(values.tolist())["signal"], by_array)


@pytest.mark.parametrize("rate", [50.0, 128.0, 200.0])
def test_a_window_of_another_rate_gives_nearly_the_same_tokens(rate):
    tokenizer = fitted()
    here = tokens(tokenizer, window(200)).embeddings
    sample = {"signal": window(round(2 * rate), rate), "sampling_rate": rate}
    there = tokens(tokenizer, sample).embeddings
    assert there.shape == here.shape
    compared = [*range(8), *range(20, 38)]  # without spectra, whose empty bins show what resampling leaves there
    assert (there - here)[compared].square().mean() < 0.01 * here[compared].square().mean()
    wrong = tokens(tokenizer, sample["signal"]).embeddings
    assert len(wrong) != len(here)  # the rate is what makes them alike


def test_columns_of_lists_are_inputs_and_numbers_are_not():
    accepts = type(fitted()).accepts
    assert accepts([0.5, 1.0]) and accepts([[1, 2], [3, 4]]) and accepts(np.zeros((2, 9)))
    assert accepts([[1.0, 2.0], [3.0]])  # bad, but named as such when it is encoded
    assert not any(accepts(value) for value in (3, 0.5, "walking", ["a"], [], None, {"a": [1]}))


# Features


def test_statistics_are_numpys():
    values = window(seed=3)
    found = fitted().features(torch.tensor(values)[None])["statistics"][0, :, 0].numpy()
    whole = np.concatenate([values, np.linalg.norm(values.reshape(2, 3, -1), axis=1)])
    assert found.shape == (8, 15)
    np.testing.assert_allclose(found[:, 0], whole.mean(1), rtol=1e-5)
    np.testing.assert_allclose(found[:, 1], whole.std(1), rtol=1e-4)
    expected = np.quantile(whole, [0, 0.1, 0.25, 0.5, 0.75, 0.9, 1], axis=1).T
    np.testing.assert_allclose(found[:, 2:9], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found[:, 9], np.abs(np.diff(whole)).mean(1), rtol=1e-4)
    crossings = np.abs(np.diff((whole > whole.mean(1, keepdims=True)).astype(float))).mean(1)
    np.testing.assert_allclose(found[:, 12], crossings, atol=0.011)  # a value at the mean may fall on either side
    np.testing.assert_allclose(found[:, 11], whole[:, 50:].mean(1) - whole[:, :50].mean(1), atol=1e-4)


def test_a_tone_stands_in_its_bin_of_the_spectrum():
    at = np.arange(96)
    tone = np.sin(2 * np.pi * 5 / 32 * at)[None].repeat(6, 0).astype(np.float32)
    found = fitted().features(torch.tensor(tone)[None])["spectrum"]
    assert found.shape == (1, 8, 5, 16)
    assert (found[0, :6].argmax(2) == 4).all()  # the mean's bin is left out: bin 5 comes fifth


def test_features_of_the_training_split_are_standard():
    tokenizer = fitted()
    seen = [tokenizer.features(torch.tensor(window(seed=seed))[None]) for seed in range(20)]
    for name in ("signal", "statistics", "spectrum"):
        values = torch.cat([features[name][0] for features in seen], dim=1)
        values = (values - tokenizer.get_buffer(f"{name}_centre")[:, None]) / tokenizer.get_buffer(f"{name}_spread")[
            :, None
        ]
        torch.testing.assert_close(values.mean(1), torch.zeros_like(values[:, 0]), atol=1e-3, rtol=0)
        deviation = values.std(1, correction=0)
        assert ((deviation - 1).abs() < 1e-2).float().mean() > 0.95  # but for those that never vary


def test_tokens_come_as_statistics_spectra_patches():
    tokenizer = fitted(patch_size=20, frame=40)
    found = tokens(tokenizer, window(100), window(140))
    assert found.lengths == (8 + 4 + 5, 8 + 6 + 7)
    level = window(100) + 1.0  # spectra know no level
    first, second = tokens(tokenizer, window(100)).embeddings, tokens(tokenizer, level).embeddings
    assert (first[:8] - second[:8]).abs().max() > 0.1
    other = fitted(channels=4)
    assert tokens(other, window(channels=4)).lengths == (4 + 5 + 10,)


# Rotation


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_a_turned_device_measures_the_same_magnitudes_and_angles(seed):
    tokenizer = fitted(rotation=60.0)
    encoded = tokenizer.encode(window(seed=1))
    torch.manual_seed(seed)
    before, after = (x["signal"].view(2, 3, -1) for x in (encoded, tokenizer.augment(encoded)))
    torch.testing.assert_close(after.norm(dim=1), before.norm(dim=1), atol=1e-3, rtol=1e-4)
    # Both sensors turn together: the angle between them stays.
    torch.testing.assert_close((after[0] * after[1]).sum(0), (before[0] * before[1]).sum(0), atol=5e-3, rtol=1e-3)
    volume = torch.linalg.det(torch.stack([before[0, :, :3], after[0, :, :3]]))
    torch.testing.assert_close(volume[0], volume[1], atol=1e-2, rtol=1e-2)  # turned, not mirrored


def test_rotation_is_by_the_angle_asked_for():
    tokenizer = fitted(rotation=10.0)
    up = torch.zeros(6, 100)
    up[2] = 1
    angles = []
    for seed in range(200):
        torch.manual_seed(seed)
        turned = tokenizer.augment({"signal": up})["signal"][:3, 0]
        angles.append(torch.rad2deg(torch.acos(turned[2].clamp(-1, 1))))
    # Of a turn by a about a random axis, a vector sees sqrt(2/3) in the mean square.
    assert 6.5 < torch.stack(angles).square().mean().sqrt() < 9.8


# What cannot be used


def broken(value):
    values = window()
    values[1, 4] = value
    return values


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (window(20), r"20 steps at 100 Hz; expected at least 32 \(patch_size and frame\)"),
        ({"signal": window(40), "sampling_rate": 200.0}, "20 steps at 100 Hz"),
        (np.zeros((6, 0)), "0 steps at 100 Hz"),
        (np.zeros((6, 20_001)), "20001 steps; expected at most 20000: cut it"),
        ({"signal": window(), "sampling_rate": 1e-6}, "10000000000 steps at 100 Hz; expected at most 20000: cut it"),
        (window(channels=5), "5 channels x 100 steps; expected 6 channels"),
        (broken(np.nan), "NaN or infinite in channel 2, step 5"),
        (broken(np.inf), "NaN or infinite in channel 2, step 5"),
        (broken(1e8), r"reaches 1e\+08; expected at most 1e\+06: check its unit"),
        ([[1, 2], [1]], "no array; expected numbers .*of equal length"),
        ("walking", "signal is a str"),
        (np.zeros((2, 3, 4)), "signal has 3 axes"),
        ({"signal": window(), "sampling_rate": -1}, "sampling_rate is -1; expected a positive number"),
        ({"signal": window(), "sampling_rate": 1e9}, "sampling_rate is 1000000000.0; expected .* at most 100000"),
        ({"signal": window(), "sampling_rate": "fast"}, "sampling_rate is 'fast'"),
        ({"acc": window()[:3], "gyro": window(90)[3:]}, "columns have 90 to 100 steps"),
        (None, "expected"),
    ],
)
def test_bad_samples_are_named(sample, message):
    with pytest.raises(SampleError, match=message):
        fitted().encode(sample)


def test_a_missing_column_is_named():
    tokenizer = create("tokenizers", "imu", DIM).learn([row(window())])
    with pytest.raises(SampleError, match="column gyro_z is missing; found acc_x"):
        tokenizer.encode({name: values for name, values in row(window()).items() if name != "gyro_z"})


def test_bad_samples_do_not_spoil_the_statistics():
    good = [window(seed=seed) for seed in range(20)]
    tokenizer = create("tokenizers", "imu", DIM).learn([window(channels=5), *good, "text", broken(np.nan)])
    assert torch.equal(tokenizer.statistics_centre, fitted().statistics_centre)
    with pytest.raises(ValueError, match="No sample can be used; the first: signal has 3 steps"):
        create("tokenizers", "imu", DIM).learn([window(3), "text"])


def test_a_device_at_rest_is_finite():
    still = np.tile(np.float32([[0], [0], [9.8], [0], [0], [0]]), (1, 100))
    assert tokens(fitted(), still).embeddings.isfinite().all()
    tokenizer = create("tokenizers", "imu", DIM).learn([still] * 3)
    assert tokens(tokenizer, still, window()).embeddings.isfinite().all()


@pytest.mark.parametrize(
    "options", [{"sampling_rate": 0.0}, {"patch_size": 0}, {"width": 0}, {"frame": 2}, {"rotation": -1.0}]
)
def test_options_are_checked(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} is "):
        create("tokenizers", "imu", DIM, **options)


def test_rotation_needs_three_axes():
    with pytest.raises(ValueError, match="x, y and z of each sensor; there are 4 channels"):
        fitted(rotation=5.0, channels=4)


# On disk


def test_a_table_of_list_columns_is_trained_on_and_predicted(tmp_path, capsys):
    rows = [
        {**row(window(seed=i) * (1 + 3 * (i % 2))), "subject": i, "label": ["calm", "wild"][i % 2]} for i in range(48)
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "windows.parquet")
    out = tmp_path / "out"
    main(f"train {tmp_path / 'windows.parquet'} --modality imu --epochs 2 --batch_size 8 --out {out}".split())
    capsys.readouterr()
    main(["predict", str(out / "task"), str(tmp_path / "windows.parquet")])
    lines = capsys.readouterr().out.splitlines()[1:]
    right = [line.split(",")[1] == entry["label"] for line, entry in zip(lines, rows, strict=True)]
    assert sum(right) > 40
