"""What every test of a recipe with several inputs does: each of them must be read."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import metatx
from metatx.testing import check_inputs


def check_every_input_is_read(task: metatx.Task, samples: Sequence[Mapping[str, Any]]) -> None:
    """Check the task's contract, and that no vector of a trained task stays as it is without one of the inputs."""
    check_inputs(task, samples[:3])
    whole = task.embed(samples)
    for name in task.tokenizer.inputs:
        columns = {name, *task.tokenizer.columns(name)}
        less = task.embed([{key: value for key, value in sample.items() if key not in columns} for sample in samples])
        assert (np.abs(less - whole).max(axis=1) > 1e-4).all(), f"{name} changes nothing"
        exchanged = [
            {**sample, **{key: other[key] for key in columns & set(other)}}
            for sample, other in zip(samples, samples[::-1], strict=True)
        ]
        assert np.abs(task.embed(exchanged) - whole).max() > 1e-4, f"{name} of another sample changes nothing"
