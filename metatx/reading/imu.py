"""Windows of motion sensors from npz files: one array of all windows, and one of their labels."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from metatx.errors import SampleError
from metatx.examples import Examples
from metatx.progress import tell
from metatx.reading.arrays import as_array, npz_arrays, shapes_of
from metatx.reading.bounds import check_bound
from metatx.reading.split_names import splits_of

__all__ = ["read_windows"]

# Names of arrays, in lower case; a split's name may be added: x_train.
INPUTS = ("x", "signals", "windows", "data")
LABELS = ("y", "label", "labels", "target")


def read_windows(path: Path) -> dict[str, Examples]:
    """Read arrays ``X`` (N, channels, time) and ``y`` (N,), or ``X_train``, ``y_train``, ``X_test`` and so on.

    Windows may also be (time, channels): an option of the tokenizer names the axis of time.

    Raises:
        ValueError: If the file is damaged, or holds other arrays.
    """
    try:
        arrays = {name.lower(): as_array(array) for name, array in npz_arrays(path).items()}
    except SampleError as error:
        raise ValueError(f"{path} is {error}.") from None
    inputs = _by_split(path, arrays, INPUTS)
    labels = _by_split(path, arrays, LABELS)
    splits = {
        split: _examples(arrays[name], arrays[labels[split]] if split in labels else None, str(path), name)
        for split, name in inputs.items()
    }
    if not splits:
        raise ValueError(
            f"{path} holds {shapes_of(arrays)}; expected X (N, channels, time) and y (N,), or X_train, y_train, ..."
        )
    if len(splits) > 1:
        splits.pop("all", None)
    return splits


def _by_split(path: Path, names: Iterable[str], stems: tuple[str, ...]) -> dict[str, str]:
    """Name of the array of each split; ``all`` if the name has no word beside a stem. Reports unknown splits.

    Raises:
        ValueError: If two arrays belong to one split.
    """
    split_words: dict[str, str] = {}
    for stem in stems:
        parted = {name: [word for word in name.split("_") if word != stem] for name in names}
        split_words |= {name: "_".join(rest) for name, rest in parted.items() if len(rest) == name.count("_")}
    splits = {"": "all", **splits_of(word for word in split_words.values() if word)}
    by_split: dict[str, str] = {}
    for name, word in split_words.items():
        if word not in splits:
            tell(f"{path}: {name} is of no known split, and left out.")
        elif split_words[other := by_split.setdefault(splits[word], name)] != word:
            raise ValueError(f"{path} has {other} and {name}, both of the {splits[word]} split; leave one of them.")
    return by_split


def _examples(inputs: np.ndarray, labels: np.ndarray | None, source: str, name: str) -> Examples:
    """Windows as examples. Raises ValueError for other shapes or types, or too few labels."""
    if inputs.ndim not in (2, 3) or inputs.dtype.kind not in "biuf":
        raise ValueError(f"{source}: {name} is {inputs.dtype} {inputs.shape}; expected numbers (N, channels, time).")
    check_bound("samples", len(inputs), f"{source}: {name}")
    if labels is not None and labels.size != len(inputs):
        raise ValueError(
            f"{source}: labels of {name} are {labels.shape}; expected one for each of {len(inputs)} windows."
        )
    windows: list[np.ndarray] = list(inputs)
    return Examples(windows, None if labels is None else labels.ravel().tolist(), source)
