"""Priors: generators of labelled tasks, by modality, that cost no licence and no download.

A prior draws tasks, not samples: the same seed always gives the same task, another seed another one, with classes or
numbers of its own. Each is a file of ``metatx/pretraining/priors/`` with the name of its modality.
"""

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import numpy as np

from metatx.registry import unknown

__all__ = ["balanced", "class_names", "draw", "prior_names"]

ROOM = "metatx.pretraining.priors"

Drawn = tuple[list[Any], list[str] | list[float]]


def prior_names() -> list[str]:
    """Names of the modalities that have a prior, sorted."""
    return sorted(module.name for module in iter_modules(import_module(ROOM).__path__))


def draw(modality: str, seed: int, size: int) -> Drawn:
    """Draw a task from the prior of a modality.

    Args:
        modality: Name of the modality, one of ``prior_names``.
        seed: Number of the task, at least 0.
        size: Number of samples, at least 2.

    Returns:
        Raw samples as the tokenizer of the modality takes them, and as many targets: names of classes, or numbers.

    Raises:
        ValueError: If the modality has no prior, or seed or size is too small.

    Example:
        >>> from metatx.pretraining.prior import draw
        >>> rows, targets = draw("tabular", seed=3, size=50)
        >>> len(rows), len(targets)
        (50, 50)
    """
    names = prior_names()
    if modality not in names:
        raise ValueError(unknown("prior", modality, names))
    if seed < 0 or size < 2:
        raise ValueError(f"seed is {seed} and size {size}; expected a seed of at least 0 and at least 2 samples.")
    drawn: Drawn = import_module(f"{ROOM}.{modality}").draw(seed, size)
    return drawn


def balanced(rng: np.random.Generator, size: int, classes: int) -> np.ndarray:
    """Numbers of classes (size,) in random order, of each class equally many up to one."""
    return rng.permutation(np.arange(size) % classes)


def class_names(numbers: np.ndarray) -> list[str]:
    """Names of classes from their numbers: ``class 0`` and so on."""
    return [f"class {number}" for number in numbers]
