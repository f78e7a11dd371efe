"""Division of rows into those to train on and those held out; one row of each class stays to train on."""

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Any

import numpy as np

__all__ = ["by_class", "with_each_class"]

Parts = tuple[np.ndarray, np.ndarray]  # numbers of the rows to train on, and of those held out


def by_class(labels: np.ndarray, fraction: float, seed: int) -> Parts:
    """Divide rows so that both parts have the same shares of classes.

    Classes too small for scikit-learn's stratified split are divided too, by largest remainder, but one row of each
    stays in the first part.

    Args:
        labels: Label of each row (N,).
        fraction: Share of rows held out, 0 to 1.
        seed: Seed of the random choice.

    Raises:
        ValueError: If no class has two rows.
    """
    from sklearn.model_selection import train_test_split

    rows = np.arange(len(labels))
    classes, members, counts = np.unique(labels, return_inverse=True, return_counts=True)
    wanted = int(np.ceil(fraction * len(labels)))
    if counts.min() > 1 and fraction * len(labels) >= len(classes) <= len(labels) - wanted:
        kept, held_out_rows = train_test_split(rows, test_size=fraction, random_state=seed, stratify=labels)
        if len(np.unique(members[kept])) == len(classes):
            return kept, held_out_rows
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
        of_class = order[members[order] == code]
        ranks[of_class] = np.arange(len(of_class))
    held_out: np.ndarray = ranks[order] < sizes[members[order]]
    return order[~held_out], order[held_out]


def _shares(counts: np.ndarray, fraction: float, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """Number of rows held out of each class: ``wanted`` in total, or fewer, for each class keeps one row."""
    exact = counts * fraction
    sizes: np.ndarray = np.floor(exact).astype(int)
    ties = rng.permutation(len(counts))
    while sizes.sum() < wanted and (sizes < counts - 1).any():
        left = np.where(sizes < counts - 1, exact - sizes, -np.inf)
        sizes[np.lexsort((ties, -left))[0]] += 1
    return sizes


def with_each_class(
    kept: np.ndarray, held_out: np.ndarray, targets: Sequence[Any], labels: Callable[[Any], Collection[Hashable]]
) -> Parts:
    """Exchange as few rows as needed so that every class has a row to train on.

    Args:
        kept: Numbers of the rows to train on.
        held_out: Numbers of the rows held out.
        targets: Raw targets by row number; if empty, nothing is exchanged.
        labels: Function from a target to its classes.
    """
    if not len(targets):
        return kept, held_out
    named = {row: set(labels(targets[row])) for row in (*kept.tolist(), *held_out.tolist())}
    counts = Counter(label for row in kept.tolist() for label in named[row])
    needed = []
    for row in held_out.tolist():
        if any(not counts[label] for label in named[row]):
            needed.append(row)
            counts.update(named[row])
    given: list[int] = []
    for row in kept.tolist():
        if len(given) < len(needed) and all(counts[label] > 1 for label in named[row]):
            given.append(row)
            counts.subtract(named[row])
    if not needed or len(needed) == len(held_out) + len(given):
        return kept, held_out
    stay = np.concatenate([kept[~np.isin(kept, given)], needed]).astype(kept.dtype)
    return stay, np.concatenate([held_out[~np.isin(held_out, needed)], given]).astype(kept.dtype)
