"""Spectra of mixed materials, each a smooth base with peaks and dips (linear mixing, Keshava and Mustard 2002)."""

import numpy as np

from metatx.pretraining.prior import Drawn, balanced, class_names

__all__ = ["draw"]

BANDS = (40, 160)  # least and most, as all pairs here
CLASSES = (3, 8)
PEAKS = (2, 7)
FOREIGN = 0.45  # largest share of other materials in a pixel


def draw(seed: int, size: int) -> Drawn:
    """Draw spectra (bands,), and the material of which each has most, or the share of one material."""
    rng = np.random.default_rng(seed)
    classes = min(int(rng.integers(CLASSES[0], CLASSES[1] + 1)), size)
    bands = np.linspace(0, 1, int(rng.integers(BANDS[0], BANDS[1] + 1)))
    base = _curve(rng, bands)
    materials = base + rng.uniform(0.08, 0.3) * np.stack([_curve(rng, bands) for _ in range(classes)])
    numbers = balanced(rng, size, classes)
    foreign = rng.uniform(0, FOREIGN, (size, 1))
    shares = foreign * rng.dirichlet(np.full(classes, 0.5), size) + (1 - foreign) * np.eye(classes)[numbers]
    light = rng.lognormal(0, 0.25, (size, 1)) * (1 + 0.3 * rng.normal(size=(size, 1)) * (bands - 0.5))
    spectra = shares @ materials * light
    spectra += 10 ** rng.uniform(-1.7, -0.7) * rng.normal(size=spectra.shape)
    if rng.random() < 0.25:
        return list(spectra), shares[:, 0].tolist()
    return list(spectra), class_names(numbers)


def _curve(rng: np.random.Generator, bands: np.ndarray) -> np.ndarray:
    """Spectrum of a material at bands from 0 to 1."""
    curve = np.polyval(rng.normal(size=3) / 2, bands - 0.5) + 1
    for _ in range(int(rng.integers(PEAKS[0], PEAKS[1] + 1))):
        apart = (bands - rng.uniform(-0.05, 1.05)) / 10 ** rng.uniform(-2, -0.7)
        shape = np.exp(-(apart**2) / 2) if rng.random() < 0.5 else 1 / (1 + apart**2)
        curve = curve + rng.normal(0, 0.5) * shape
    return curve
