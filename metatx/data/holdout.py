"""Rows held out for test and validation, so that of each class one stays to train on."""

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Any

import numpy as np

__all__ = ["by_class", "with_each_class"]

Parts = tuple[np.ndarray, np.ndarray]


def by_class(labels: np.ndarray, fraction: float, seed: int) -> Parts:
    """Row numbers in two parts with equal class shares, the second ``fraction`` of them.

    Classes too small for scikit-learn's stratified split have their share all the same, rounded by largest remainder,
    but for the last row of each, which stays in the first part.

    Args:
        labels: Of each row (N,).
        fraction: Held out.
        seed: Of the choice.

    Raises:
        ValueError: If no class has a second row.
    """
    from sklearn.model_selection import train_test_split

    rows = np.arange(len(labels))
    classes, members, counts = np.unique(labels, return_inverse=True, return_counts=True)
    wanted = int(np.ceil(fraction * len(labels)))
    if counts.min() > 1 and fraction * len(labels) >= len(classes) <= len(labels) - wanted:
        kept, held = train_test_split(rows, test_size=fraction, random_state=seed, stratify=labels)
        if len(np.unique(members[kept])) == len(classes):
            return kept, held
    if counts.max() == 1:
        raise ValueError(
            f"Each of the {len(labels)} samples has a label of its own, so none can be held out for a test; give more "
            "samples of each, or the other splits with --validation and --test. Numbers need --head regression."
        )
    rng = np.random.default_rng(seed)
    sizes = _shares(counts, fraction, wanted, rng)
    order = rng.permutation(rows)
    ranks = np.empty_like(rows)
    for code in range(len(classes)):
        own = order[members[order] == code]
        ranks[own] = np.arange(len(own))
    held_out: np.ndarray = ranks[order] < sizes[members[order]]
    return order[~held_out], order[held_out]


def _shares(counts: np.ndarray, fraction: float, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """How many of each class are held out: ``wanted`` in all where classes have so many beside their last one."""
    exact = counts * fraction
    sizes: np.ndarray = np.floor(exact).astype(int)
    ties = rng.permutation(len(counts))
    while sizes.sum() < wanted and (sizes < counts - 1).any():
        left = np.where(sizes < counts - 1, exact - sizes, -np.inf)
        sizes[np.lexsort((ties, -left))[0]] += 1
    return sizes


def with_each_class(
    kept: np.ndarray, held: np.ndarray, targets: Sequence[Any], labels: Callable[[Any], Collection[Hashable]]
) -> Parts:
    """The same two parts where the first has every class; else with as few rows exchanged as that needs.

    Args:
        kept: Rows to train on.
        held: Rows held out.
        targets: Raw targets, which rows are positions in; none: nothing is exchanged.
        labels: The classes that a target names.
    """
    if not len(targets):
        return kept, held
    named = {row: set(labels(targets[row])) for row in (*kept.tolist(), *held.tolist())}
    counts = Counter(label for row in kept.tolist() for label in named[row])
    needed = []
    for row in held.tolist():
        if any(not counts[label] for label in named[row]):
            needed.append(row)
            counts.update(named[row])
    given: list[int] = []
    for row in kept.tolist():
        if len(given) < len(needed) and all(counts[label] > 1 for label in named[row]):
            given.append(row)
            counts.subtract(named[row])
    if not needed or len(needed) == len(held) + len(given):
        return kept, held
    stay = np.concatenate([kept[~np.isin(kept, given)], needed]).astype(kept.dtype)
    return stay, np.concatenate([held[~np.isin(held, needed)], given]).astype(kept.dtype)
