"""Windows of sensors in one npz file: an array of all of them, and their labels."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from metatx.errors import SampleError
from metatx.examples import Examples
from metatx.progress import tell
from metatx.reading.arrays import as_array, npz_arrays
from metatx.reading.bounds import check_bound
from metatx.reading.split_names import splits_of

__all__ = ["read_windows"]

INPUTS, LABELS = ("x", "signals", "windows", "data"), ("y", "label", "labels", "target")


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
    inputs, labels = _by_split(path, arrays, INPUTS), _by_split(path, arrays, LABELS)
    found = {
        split: _examples(arrays[name], arrays[labels[split]] if split in labels else None, str(path), name)
        for split, name in inputs.items()
    }
    if not found:
        there = ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "nothing"
        raise ValueError(f"{path} holds {there}; expected X (N, channels, time) and y (N,), or X_train, y_train, ...")
    if len(found) > 1:
        found.pop("all", None)
    return found


def _by_split(path: Path, names: Iterable[str], stems: tuple[str, ...]) -> dict[str, str]:
    """The array of each split, ``all`` where its name says none, by the first of ``stems`` that there is.

    Those of splits that are not known are told. Raises ValueError if two are of one split.
    """
    endings: dict[str, str] = {}
    for stem in stems:
        parted = {name: [word for word in name.split("_") if word != stem] for name in names}
        endings |= {name: "_".join(rest) for name, rest in parted.items() if len(rest) == name.count("_")}
    known = {"": "all", **splits_of(ending for ending in endings.values() if ending)}
    found: dict[str, str] = {}
    for name, ending in endings.items():
        if ending not in known:
            tell(f"{path}: {name} is of no split that is known, and left out.")
        elif endings[other := found.setdefault(known[ending], name)] != ending:
            raise ValueError(f"{path} has {other} and {name}, both of the {known[ending]} split; leave one of them.")
    return found


def _examples(inputs: np.ndarray, labels: np.ndarray | None, source: str, name: str) -> Examples:
    if inputs.ndim not in (2, 3) or inputs.dtype.kind not in "biuf":
        raise ValueError(f"{source}: {name} is {inputs.dtype} {inputs.shape}; expected numbers (N, channels, time).")
    check_bound("samples", len(inputs), f"{source}: {name}")
    if labels is not None and labels.size != len(inputs):
        raise ValueError(
            f"{source}: labels of {name} are {labels.shape}; expected one for each of {len(inputs)} windows."
        )
    windows: list[np.ndarray] = list(inputs)
    return Examples(windows, None if labels is None else labels.ravel().tolist(), source)
