"""Windows of sensors in one npz file: an array of all of them, and their labels."""

from pathlib import Path

import numpy as np

from metatx.errors import SampleError
from metatx.examples import Examples
from metatx.reading.arrays import as_array, npz_arrays

__all__ = ["read_windows"]

INPUTS, LABELS = ("x", "signals", "windows", "data"), ("y", "label", "labels", "target")
SPLITS = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}


def read_windows(path: Path) -> dict[str, Examples]:
    """Arrays ``X`` (N, channels, time) and ``y`` (N,); or ``X_train``, ``y_train``, ``X_test`` and so on.

    Windows may be (time, channels) as well: which axis is time, the tokenizer's option says.

    Raises:
        ValueError: If it is damaged, or holds something else.
    """
    try:
        arrays = {name.lower(): as_array(array) for name, array in npz_arrays(path).items()}
    except SampleError as error:
        raise ValueError(f"{path} is {error}.") from None
    found = {}
    for ending, split in {"": "all", **{f"_{name}": split for name, split in SPLITS.items()}}.items():
        inputs, labels = (
            next((arrays[name + ending] for name in names if name + ending in arrays), None)
            for names in (INPUTS, LABELS)
        )
        if inputs is not None:
            found[split] = _examples(inputs, labels, str(path), ending)
    if not found:
        held = ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "nothing"
        raise ValueError(f"{path} holds {held}; expected X (N, channels, time) and y (N,), or X_train, y_train, ...")
    if len(found) > 1:
        found.pop("all", None)
    return found


def _examples(inputs: np.ndarray, labels: np.ndarray | None, source: str, ending: str) -> Examples:
    if inputs.ndim not in (2, 3) or inputs.dtype.kind not in "biuf":
        raise ValueError(f"{source}: X{ending} is {inputs.dtype} {inputs.shape}; expected numbers (N, channels, time).")
    if labels is not None and labels.size != len(inputs):
        raise ValueError(
            f"{source}: y{ending} is {labels.shape}; expected one label for each of {len(inputs)} windows."
        )
    windows: list[np.ndarray] = list(inputs)
    return Examples(windows, None if labels is None else labels.ravel().tolist(), source)
