import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metatx.encoding.collate import collate
from metatx.errors import SampleError
from metatx.registry import create
from metatx.sequence import TokenSequence
from metatx.tokenizers.time_series import TimeSeriesTokenizer

DIM = 32
BOTH = pytest.mark.parametrize("channels", ["separate", "mixed"])


def series(length: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Channels of different level and scale (C, L)."""
    values = np.random.default_rng(seed).normal(size=(channels, length)).cumsum(1)
    return values * 10.0 ** np.arange(channels)[:, None] + 5


def fitted(*, seed: int = 0, **options: object) -> TimeSeriesTokenizer:
    torch.manual_seed(seed)
    options = {"patch_size": 8, "stride": 4, **options}
    tokenizer: TimeSeriesTokenizer = create("tokenizers", "time_series", DIM, **options)
    tokenizer.learn([series(40, seed=i) for i in range(20)])
    with torch.no_grad():
        tokenizer.identity.normal_()
    return tokenizer.eval()


def tokens(tokenizer: TimeSeriesTokenizer, *samples: object) -> TokenSequence:
    with torch.no_grad():
        return tokenizer(collate([tokenizer.encode(sample) for sample in samples]))


def per_sample(sequence: TokenSequence) -> list[torch.Tensor]:
    """The tokens of each sample, all its parts together."""
    parts = sequence.sequences_per_sample or (1,) * len(sequence.lengths)
    ends = np.cumsum(parts)
    sizes = [sum(sequence.lengths[end - n : end]) for end, n in zip(ends, parts, strict=True)]
    return list(sequence.embeddings.split(sizes))


@BOTH
def test_number_of_tokens(channels):
    sequence = tokens(fitted(channels=channels), series(40), series(41), series(3))
    # Statistics, and 1 + ceil((L - 8) / 4) patches.
    each = [10, 11, 2]
    assert sequence.lengths == tuple(np.repeat(each, 3) if channels == "separate" else each)
    assert sequence.sequences_per_sample == ((3, 3, 3) if channels == "separate" else None)
    assert sequence.context["mask"].sum(2).flatten().tolist() == list(sequence.lengths)


@BOTH
@given(
    lengths=st.lists(st.integers(1, 70), min_size=1, max_size=5),
    gaps=st.floats(0, 0.9),
    seed=st.integers(0, 99),
)
@settings(max_examples=10, deadline=None)
def test_tokens_do_not_depend_on_neighbours(channels, lengths, gaps, seed):
    tokenizer = fitted(channels=channels)
    samples = [series(length, seed=seed + i) for i, length in enumerate(lengths)]
    missing = np.random.default_rng(seed)
    for sample in samples:
        sample[:, :-1][missing.random(sample[:, :-1].shape) < gaps] = np.nan
    alone = [tokens(tokenizer, sample).embeddings for sample in samples]
    for order in (range(len(samples)), range(len(samples))[::-1]):
        together = per_sample(tokens(tokenizer, *[samples[i] for i in order]))
        for i, found in zip(order, together, strict=True):
            torch.testing.assert_close(found, alone[i], atol=1e-5, rtol=0)


@BOTH
@given(shift=st.floats(-1e3, 1e3), factor=st.floats(1e-2, 1e3))
@settings(max_examples=10, deadline=None)
def test_patches_forget_level_and_scale_and_the_statistics_keep_them(channels, shift, factor):
    tokenizer = fitted(channels=channels)
    plain, moved = series(40), series(40) * factor + shift
    first, second = tokens(tokenizer, plain), tokens(tokenizer, moved)
    last = torch.tensor(np.cumsum(first.lengths) - 1)
    patches = torch.ones(len(first.embeddings), dtype=torch.bool)
    patches[last] = False
    torch.testing.assert_close(first.embeddings[patches], second.embeddings[patches], atol=1e-3, rtol=0)
    torch.testing.assert_close(second.context["loc"], first.context["loc"] * factor + shift, rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(second.context["scale"], first.context["scale"] * factor, rtol=1e-4, atol=1e-4)
    if factor > 2:
        assert (first.embeddings[last] - second.embeddings[last]).abs().max() > 0.01


def test_statistics_are_those_of_the_observed_values():
    values = series(40)
    values[1, 5:20] = np.nan
    found = tokens(fitted(), values).context
    torch.testing.assert_close(found["loc"][0].double(), torch.tensor(np.nanmean(values, 1)), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found["scale"][0].double(), torch.tensor(np.nanstd(values, 1)), rtol=1e-6, atol=1e-6)
    assert found["series"][0, 1, 5:20].eq(0).all()


def test_the_most_recent_patch_has_the_same_position_whatever_the_length():
    tokenizer = fitted()
    with torch.no_grad():
        tokenizer.patches.weight.zero_()
    short, long = tokens(tokenizer, series(16)), tokens(tokenizer, series(400))
    assert long.lengths[0] > 90  # longer than any in training
    torch.testing.assert_close(short.embeddings[: short.lengths[0]][-4:-1], long.embeddings[: long.lengths[0]][-4:-1])
    last = long.embeddings[: long.lengths[0] - 1]
    assert torch.cdist(last, last).fill_diagonal_(1).min() > 1e-4  # no two alike


@BOTH
def test_a_patch_without_observed_values_gives_no_token(channels):
    tokenizer = fitted(channels=channels)
    values = series(40)
    values[:, 8:20] = np.nan  # patches at 8 and 12
    sequence = tokens(tokenizer, values)
    assert set(sequence.lengths) == {8}
    assert sequence.context["mask"][0, 0].tolist() == [True] * 2 + [False] * 2 + [True] * 6


def test_a_missing_value_is_not_a_zero():
    tokenizer = fitted()
    zero = series(40)
    zero -= zero.mean(1, keepdims=True)
    gap = zero.copy()
    zero[0, 20], gap[0, 20] = 0.0, np.nan
    assert (tokens(tokenizer, zero).embeddings - tokens(tokenizer, gap).embeddings).abs().max() > 0.01


def test_a_channel_without_values_is_read_as_the_training_mean():
    tokenizer = fitted()
    values = series(40)
    values[1] = np.nan
    sequence = tokens(tokenizer, values)
    assert sequence.lengths == (10, 1, 10)
    assert sequence.context["loc"][0, 1] == tokenizer.centre[0, 1]
    assert sequence.embeddings.isfinite().all()


@pytest.mark.parametrize("level", [0.0, 0.1, -3e8, 1e-9])
@BOTH
def test_constant_series_are_finite(channels, level):
    sequence = tokens(fitted(channels=channels), np.full((3, 40), level))
    assert sequence.embeddings.isfinite().all()
    assert sequence.context["scale"].eq(0).all()
    assert sequence.context["series"].eq(0).all()


def test_training_on_constant_or_outlying_series_stays_finite():
    tokenizer = create("tokenizers", "time_series", DIM).learn([np.full((1, 30), 7.0)] * 4)
    assert tokens(tokenizer, np.full((1, 30), 7.0), np.linspace(0, 1e30, 30)[None]).embeddings.isfinite().all()


def test_small_movements_at_a_high_level_survive():
    wave = np.sin(np.arange(40.0))[None]
    tokenizer = create("tokenizers", "time_series", DIM).learn([wave])
    low, high = tokens(tokenizer, wave), tokens(tokenizer, wave * 1e-3 + 1e6)
    torch.testing.assert_close(low.context["series"], high.context["series"], atol=1e-5, rtol=0)


def test_lookback_reads_the_last_steps_alone():
    tokenizer = fitted(lookback=16)
    long = series(60)
    other = long.copy()
    other[:, :44] = -99
    torch.testing.assert_close(tokens(tokenizer, long).embeddings, tokens(tokenizer, other).embeddings)
    other[:, 44] = -99
    assert (tokens(tokenizer, long).embeddings - tokens(tokenizer, other).embeddings).abs().max() > 0.01


def test_orientation_and_one_dimension():
    by_row, by_column = (
        fitted(),
        create("tokenizers", "time_series", DIM, patch_size=8, stride=4, time_axis=0),
    )
    by_column.learn([series(40, seed=i).T for i in range(20)])
    # Sums of float64 depend on how an array lies in memory, in their last bit.
    torch.testing.assert_close(by_row.centre, by_column.centre)
    torch.testing.assert_close(by_row.encode(series(9))["series"], by_column.encode(series(9).T.tolist())["series"])
    single = create("tokenizers", "time_series", DIM).learn([[1, 2, None, 4.5], [1, 2]])
    assert single.num_channels == 1
    assert single.encode([1, 2, None, 4.5])["series"].isnan().tolist() == [[False, False, True, False]]


def test_samples_the_other_way_round_are_recognised():
    wrong = [series(length, channels=12).T for length in (7, 20, 29)]
    with pytest.raises(ValueError, match=r"7 to 29 channels and all 12 steps.*time_axis=0"):
        create("tokenizers", "time_series", DIM).learn(wrong)
    assert create("tokenizers", "time_series", DIM, time_axis=0).learn(wrong).num_channels == 12


def test_normalising_by_the_training_split_keeps_levels_in_the_patches():
    tokenizer = fitted(normalize="training", channels="mixed")
    low, high = tokens(tokenizer, series(40)), tokens(tokenizer, series(40) + 50)
    assert (low.embeddings[:-1] - high.embeddings[:-1]).abs().max() > 0.1
    assert torch.equal(low.context["series"], tokens(fitted(), series(40)).context["series"])


@BOTH
def test_rebuilt_from_options_and_weights(channels):
    tokenizer = fitted(channels=channels)
    again = create("tokenizers", "time_series", DIM, **tokenizer.options).restore(tokenizer.fitted)
    again.load_state_dict(tokenizer.state_dict())
    assert torch.equal(tokens(again, series(33)).embeddings, tokens(tokenizer, series(33)).embeddings)


@BOTH
def test_every_parameter_learns(channels):
    tokenizer = fitted(channels=channels)
    values = series(40)
    values[0, 3] = np.nan
    tokenizer(collate([tokenizer.encode(values)])).embeddings.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in tokenizer.parameters())


def infinite() -> np.ndarray:
    values = series(9)
    values[1, 4] = np.inf
    return values


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (series(9, channels=2), "2 channels x 9 steps; expected 3 channels"),
        (np.zeros((3, 0)), "empty"),
        ([], "empty"),
        (np.full((3, 5), np.nan), "no observed value in 5 steps"),
        (infinite(), "infinite in channel 2, step 5"),
        (np.zeros((3, 100_001)), "100,001 steps; expected at most 100,000: cut it, or give a lookback"),
        ("hello", "'hello'; expected numbers"),
        ([[1, 2], [1], [2, 3]], "of equal length"),
        ([["a", "b"]] * 3, "expected numbers"),
        (np.zeros((3, 4, 5)), "3 axes"),
        (None, "axes|observed|expected"),
    ],
)
def test_bad_samples_are_named(sample, message):
    with pytest.raises(SampleError, match=message):
        fitted().encode(sample)


def test_of_a_series_without_end_the_lookback_is_read():
    assert fitted(lookback=16).encode(np.zeros((3, 100_001)))["series"].shape == (3, 16)


def test_missing_throughout_the_lookback_is_named():
    values = series(40)
    values[:, -16:] = np.nan
    with pytest.raises(SampleError, match="last 16 steps"):
        fitted(lookback=16).encode(values)


def test_bad_samples_do_not_spoil_the_statistics():
    good = [series(40, seed=i) for i in range(20)]
    tokenizer = create("tokenizers", "time_series", DIM).learn([series(9, channels=1), *good, "text", infinite()])
    assert torch.equal(tokenizer.centre, fitted().centre)
    with pytest.raises(ValueError, match="No sample can be used; the first: .*'text'"):
        create("tokenizers", "time_series", DIM).learn(["text", []])


def test_a_channel_that_is_never_observed_is_refused():
    values = series(20)
    values[1] = np.nan
    with pytest.raises(ValueError, match="Channel 2 has no observed value"):
        create("tokenizers", "time_series", DIM).learn([values])


@pytest.mark.parametrize(
    "options",
    [{"channels": "both"}, {"normalize": "batch"}, {"time_axis": 2}, {"patch_size": 0}, {"stride": 17}],
)
def test_options_are_checked(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} "):
        create("tokenizers", "time_series", DIM, **options)


def test_description_is_nine_statistics_a_channel():
    found = fitted().baseline_features([[1, 2, 3, None], [5, 5, 5, 5], [0, 0, 0, 8]]).reshape(3, 9)
    np.testing.assert_allclose(found[0], [2, np.sqrt(2 / 3), 0, 1, 1, 1.5, 2, 2.5, 3])
    np.testing.assert_allclose(found[1], [5, 0, 0, 0, 5, 5, 5, 5, 5])
