"""Pictures of fractals, each class an iterated function system (FractalDB, Kataoka et al. 2020, arXiv 2101.08515).

Maps are drawn by their singular values, as Anderson and Farrell (2022, arXiv 2110.03091) do, so that all contract.
"""

import numpy as np

from metatx.pretraining.prior import Drawn, balanced, class_names

__all__ = ["draw"]

SIDE = 64  # pixels
CLASSES = (2, 8)  # least and most, as all pairs here
MAPS = (2, 5)
WALKERS = 400
ITERATIONS = (10, 60)  # before and while points are drawn
FILLED = 0.03  # least share of pixels that a system fills
JITTER = 0.08

Maps = tuple[np.ndarray, np.ndarray]  # linear parts (maps, 2, 2), shifts (maps, 2)


def draw(seed: int, size: int) -> Drawn:
    """Draw pictures uint8 (64, 64, 3), and the system of each.

    The numbers of a system vary a little from picture to picture; colours, turn and place vary much.
    """
    rng = np.random.default_rng(seed)
    classes = min(int(rng.integers(CLASSES[0], CLASSES[1] + 1)), size)
    systems = [_system(rng) for _ in range(classes)]
    numbers = balanced(rng, size, classes)
    pictures = []
    for number in numbers:
        linear, shift = systems[number]
        varied = linear + JITTER * rng.normal(size=linear.shape), shift + JITTER * rng.normal(size=shift.shape)
        pictures.append(_painted(rng, _rendered(rng, varied, rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 1))))
    return pictures, class_names(numbers)


def _system(rng: np.random.Generator) -> Maps:
    """Maps that fill enough of a picture; drawn again until they do."""
    while True:
        count = int(rng.integers(MAPS[0], MAPS[1] + 1))
        first, second = (_rotations(rng.uniform(0, 2 * np.pi, count)) for _ in range(2))
        sizes = np.sort(rng.uniform(0.2, 0.9, (count, 2)))[:, None]
        signs = rng.choice([-1.0, 1.0], (count, 1, 2))
        maps = first * (sizes * signs) @ second, rng.uniform(-1, 1, (count, 2))
        if (_rendered(rng, maps, 0.0, 1.0) > 0).mean() > FILLED:
            return maps


def _rotations(angles: np.ndarray) -> np.ndarray:
    """Rotation matrices (N, 2, 2)."""
    rows = [[np.cos(angles), -np.sin(angles)], [np.sin(angles), np.cos(angles)]]
    return np.moveaxis(np.array(rows), 2, 0)


def _rendered(rng: np.random.Generator, maps: Maps, turn: float, share: float) -> np.ndarray:
    """Density (64, 64) of the points that random maps lead to, 0..1, turned, filling a share of the picture."""
    linear, shift = maps
    # A map is chosen as often as its area is large.
    areas = np.maximum(np.abs(np.linalg.det(linear)), 0.05)
    choice = rng.choice(len(areas), (ITERATIONS[1], WALKERS), p=areas / areas.sum())
    points = np.zeros((WALKERS, 2))
    seen = []
    for step, chosen in enumerate(choice):
        points = np.einsum("nij,nj->ni", linear[chosen], points) + shift[chosen]
        points = points.clip(-1e3, 1e3)  # varied maps may no longer contract
        if step >= ITERATIONS[0]:
            seen.append(points)
    flat = np.concatenate(seen) @ _rotations(np.array([turn]))[0]
    low, high = np.quantile(flat, [0.01, 0.99], axis=0)
    centre = (low + high) / 2
    extent = max(float((high - low).max()), 1e-6) / share
    places = ((flat - centre) / extent + 0.5) * SIDE
    inside = places[((places >= 0) & (places < SIDE)).all(1)].astype(int)
    counts = np.bincount(inside @ [SIDE, 1], minlength=SIDE**2).reshape(SIDE, SIDE)
    density: np.ndarray = np.log1p(counts) / np.log1p(counts.max())
    return density


def _painted(rng: np.random.Generator, density: np.ndarray) -> np.ndarray:
    """Picture uint8 (64, 64, 3) of a density, on a background that changes from corner to corner."""
    ramp = np.linspace(0, 1, SIDE)
    corners = rng.uniform(0, 1, (4, 3))
    across = (1 - ramp)[None, :, None] * corners[0] + ramp[None, :, None] * corners[1]
    down = (1 - ramp)[:, None, None] * corners[2] + ramp[:, None, None] * corners[3]
    ground = (across + down) / 2
    ink = (ground.mean((0, 1)) + rng.choice([-1, 1], 3) * rng.uniform(0.3, 0.6, 3)).clip(0, 1)
    opacity = np.sqrt(density)[..., None]
    picture = (1 - opacity) * ground + opacity * ink + 0.03 * rng.normal(size=(SIDE, SIDE, 3))
    return np.asarray((255 * picture).clip(0, 255).astype(np.uint8))
