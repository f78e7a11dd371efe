"""Series from Gaussian processes with random kernels, after KernelSynth of Chronos (Ansari et al. 2024, 2403.07815)."""

import numpy as np

from metatx.pretraining.prior import Drawn, balanced, class_names

__all__ = ["draw"]

STEPS = (64, 192)  # least and most, as all pairs here
CHANNELS = (1, 3)
CLASSES = (2, 5)
TERMS = (1, 4)  # kernels that are added or multiplied
AHEAD = (1, 12)  # steps between a series and the value to foresee
NOISE = 0.1


def draw(seed: int, size: int) -> Drawn:
    """Draw series (channels, steps), and the kernel that each is from, or a value that follows.

    The value to foresee is the first channel's, as its distance from the last value in units of the series' standard
    deviation. Level and scale of a series say nothing of its class.
    """
    rng = np.random.default_rng(seed)
    steps = int(rng.integers(STEPS[0], STEPS[1] + 1))
    channels = int(rng.integers(CHANNELS[0], CHANNELS[1] + 1))
    foresee = rng.random() < 0.3
    ahead = int(rng.integers(AHEAD[0], AHEAD[1] + 1)) if foresee else 0
    classes = 1 if foresee else min(int(rng.integers(CLASSES[0], CLASSES[1] + 1)), size)
    numbers = balanced(rng, size, classes)
    mixing = np.eye(channels) + 0.5 * rng.normal(size=(channels, channels))
    factors = [_factor(_kernel(rng, steps + ahead)) for _ in range(classes)]
    drawn = np.stack([rng.normal(size=(channels, steps + ahead)) @ factors[number].T for number in numbers])
    drawn = mixing @ drawn
    drawn += NOISE * rng.normal(size=drawn.shape)
    drawn = drawn * 10 ** rng.uniform(-1, 2, (size, 1, 1)) + 10 * rng.normal(size=(size, channels, 1))
    series = drawn[:, :, :steps]
    if not foresee:
        return list(series), class_names(numbers)
    change = (drawn[:, 0, -1] - series[:, 0, -1]) / series[:, 0].std(1)
    return list(series), change.tolist()


def _kernel(rng: np.random.Generator, steps: int) -> np.ndarray:
    """Covariance (steps, steps) of a random composition of kernels, with a mean variance of 1."""
    time = np.arange(steps) / steps
    made = _term(rng, time)
    for _ in range(int(rng.integers(TERMS[0], TERMS[1] + 1)) - 1):
        other = _term(rng, time)
        made = made + other if rng.random() < 0.6 else made * other
    return np.asarray(made / np.trace(made) * steps)


def _term(rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """Covariance of one kernel at these times, which run from 0 to 1."""
    apart = np.abs(time[:, None] - time[None])
    length = 10 ** rng.uniform(-1.7, 0)
    kind = rng.integers(5)
    origin = rng.uniform(0, 1)
    turns = rng.integers(2, 25)
    kernels = (
        lambda: np.exp(-((apart / length) ** 2) / 2),
        lambda: np.exp(-2 * np.sin(np.pi * apart * turns) ** 2 / rng.uniform(0.3, 2) ** 2),
        lambda: (1 + (apart / length) ** 2 / rng.uniform(0.2, 4)) ** -1.0,
        lambda: np.exp(-apart / length),
        lambda: 0.3 + 3 * (time[:, None] - origin) * (time[None] - origin),
    )
    return np.asarray(kernels[kind]())


def _factor(kernel: np.ndarray) -> np.ndarray:
    """Square root of a covariance, which has eigenvalues of 0 up to rounding."""
    values, vectors = np.linalg.eigh(kernel)
    root: np.ndarray = vectors * np.sqrt(np.maximum(values, 0))
    return root
