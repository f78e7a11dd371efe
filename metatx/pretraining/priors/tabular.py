"""Tables from random structural causal models, after TabPFN's prior (Hollmann et al. 2022, arXiv 2207.01848)."""

from typing import Any

import numpy as np

from metatx.pretraining.prior import Drawn, class_names

__all__ = ["draw"]

LAYERS = (1, 4)  # least and most, as all pairs here
WIDTH = (3, 7)
COLUMNS = (4, 14)
CLASSES = (2, 5)
LEVELS = (2, 7)  # categories of a column
ACTIVATIONS = (np.tanh, np.sin, np.abs, np.square, np.sign, lambda x: np.maximum(x, 0), lambda x: x)


def draw(seed: int, size: int) -> Drawn:
    """Draw rows (dicts of numbers, flags and categories, some missing), and classes or numbers.

    Nodes of a layer are functions of a few nodes of the layer before, with noise. Columns and target are nodes of any
    layer, so that columns may be causes of the target, its effects, or neither.
    """
    rng = np.random.default_rng(seed)
    nodes = _nodes(rng, size)
    order = rng.permutation(nodes.shape[1])
    target = nodes[:, order[0]]
    count = min(int(rng.integers(COLUMNS[0], COLUMNS[1] + 1)), len(order) - 1)
    columns = {f"column {number}": _column(rng, nodes[:, at]) for number, at in enumerate(order[1 : count + 1])}
    missing = rng.random((size, count)) < (rng.uniform(0, 0.1) if rng.random() < 0.3 else 0)
    missing[:, 0] = False  # no row is empty
    rows = [
        {name: None if missing[row, at] else values[row] for at, (name, values) in enumerate(columns.items())}
        for row in range(size)
    ]
    if rng.random() < 0.3:
        return rows, target.tolist()
    classes = min(int(rng.integers(CLASSES[0], CLASSES[1] + 1)), size)
    shares = rng.dirichlet(np.full(classes, 20.0))
    return rows, class_names(rng.permutation(classes)[_binned(target, shares)])


def _nodes(rng: np.random.Generator, size: int) -> np.ndarray:
    """Values of all nodes of a random model (size, nodes), each standardised; nodes that hardly vary are left out."""
    width = int(rng.integers(WIDTH[0], WIDTH[1] + 1))
    layer = rng.normal(size=(size, width)) if rng.random() < 0.5 else rng.uniform(-1.7, 1.7, (size, width))
    nodes = [layer]
    noise = 10 ** rng.uniform(-2.3, -0.7)
    for _ in range(int(rng.integers(LAYERS[0], LAYERS[1] + 1))):
        weights = rng.normal(size=(width, width)) * (rng.random((width, width)) < rng.uniform(0.2, 0.8))
        inner = layer @ weights / np.sqrt(np.maximum((weights != 0).sum(0), 1)) + rng.normal(size=width) / 2
        kinds = rng.integers(len(ACTIVATIONS), size=width)
        layer = np.stack([ACTIVATIONS[kind](inner[:, node]) for node, kind in enumerate(kinds)], axis=1)
        layer = _standard(layer + noise * rng.normal(size=layer.shape))
        nodes.append(layer)
    return _standard(np.concatenate(nodes, axis=1))


def _standard(values: np.ndarray) -> np.ndarray:
    centred: np.ndarray = values - values.mean(0)
    return np.asarray(centred / np.maximum(values.std(0), 1e-6))


def _column(rng: np.random.Generator, node: np.ndarray) -> list[Any]:
    """Cells of a column: numbers in a unit of its own, flags or categories."""
    kind = rng.random()
    if kind < 0.6:
        scale = 10 ** rng.uniform(-2, 3)
        return [round(float(value), 6) for value in scale * (node + rng.normal())]
    levels = 2 if kind < 0.7 else int(rng.integers(LEVELS[0], LEVELS[1] + 1))
    codes = rng.permutation(levels)[_binned(node, rng.dirichlet(np.full(levels, 3.0)))]
    return [bool(code) for code in codes] if kind < 0.7 else [f"level {code}" for code in codes]


def _binned(values: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Number of the bin of each value (N,), where bins hold these shares of the values."""
    ranks = values.argsort(kind="stable").argsort(kind="stable")
    bins: np.ndarray = np.searchsorted(np.cumsum(shares)[:-1], (ranks + 0.5) / len(values))
    return bins
