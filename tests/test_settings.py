"""How many steps a run takes where nobody said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import metatx
from metatx.settings import EPOCHS, SMALLEST_BATCH, TrainingSettings


@given(st.integers(1, 10**7), st.integers(1, 5_000), st.integers(SMALLEST_BATCH, 512))
def test_steps_are_those_asked_for_within_the_bounds_of_epochs(count, steps, batch_size):
    planned = TrainingSettings(steps=steps, batch_size=batch_size).for_samples(count)
    an_epoch = -(-count // planned.batch_size)
    assert EPOCHS[0] <= planned.epochs <= EPOCHS[1]
    assert SMALLEST_BATCH <= planned.batch_size <= batch_size
    assert planned.epochs * an_epoch >= steps or planned.epochs == EPOCHS[1]
    assert (planned.epochs - 1) * an_epoch < steps or planned.epochs == EPOCHS[0]


def test_epochs_that_were_asked_for_stay_with_their_batch():
    settings = TrainingSettings(epochs=7, batch_size=64)
    assert settings.for_samples(10) is settings


def test_small_data_are_read_in_small_batches():
    assert [TrainingSettings().for_samples(count).batch_size for count in (5, 128, 500, 5_000)] == [8, 8, 16, 64]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": "3"}, "epochs is '3'; expected a whole number or null."),
        ({"lr": "fast"}, "lr is 'fast'; expected a number."),
        ({"precision": "fp8"}, "precision is 'fp8'; expected one of 'auto', 'fp32', 'bf16'."),
    ],
)
def test_settings_of_a_wrong_type_are_refused(values, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        metatx.TrainingSettings(**values)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"modality": None}, "modality is None; expected a TaskSpec, inputs by name .*, or one of audio, .*"),
        (
            {"modality": ["image", "text"]},
            r"modality is \['image', 'text'\]; expected .* a sequence of metatx.Input, .*",
        ),
        ({"modality": {"a": "text"}, "fusion_options": 3}, "fusion_options is 3; expected options by name, .*"),
        ({"modality": {"a": "text"}, "main": 3}, "main is 3; expected a text or null."),
        (
            {"modality": "tabular", "tokenizer_options": "bins=3"},
            "tokenizer_options is 'bins=3'; expected options .*",
        ),
        ({"modality": "tabular", "tune": 3}, "tune is 3; expected a text."),
    ],
)
def test_choices_of_a_wrong_type_are_refused(choices, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        metatx.TaskSpec(**choices)
