"""Clouds of points on solids that are joined, turned and cut; each way to join them is a class."""

import numpy as np

from metatx.pretraining.prior import Drawn, balanced, class_names

__all__ = ["draw"]

POINTS = (256, 768)  # least and most, as all pairs here
CLASSES = (2, 8)
PARTS = (1, 3)
SOLIDS = ("box", "ball", "cylinder", "cone", "torus")
KEPT = (0.6, 1.0)  # share of the surface that is left of a cut
DENSE = 4  # points drawn for each that is kept

Part = tuple[str, np.ndarray, np.ndarray, np.ndarray]  # solid, scale (3,), rotation (3, 3), place (3,)


def draw(seed: int, size: int) -> Drawn:
    """Draw clouds (points, 3), and the class of each.

    A cloud is cut by a plane, stretched a little, turned about the upright axis (in some tasks about any) and noisy.
    """
    rng = np.random.default_rng(seed)
    classes = min(int(rng.integers(CLASSES[0], CLASSES[1] + 1)), size)
    forms = [_form(rng) for _ in range(classes)]
    upright = rng.random() < 0.6
    noise = rng.uniform(0.005, 0.05)
    numbers = balanced(rng, size, classes)
    clouds = []
    for number in numbers:
        count = int(rng.integers(POINTS[0], POINTS[1] + 1))
        points = _surface(rng, forms[number], DENSE * count)
        along = points @ _direction(rng)
        points = points[along.argsort()[: int(len(points) * rng.uniform(*KEPT))]]
        points = points[rng.choice(len(points), count, replace=False)] * rng.lognormal(0, 0.1, 3)
        points = points @ (_about_z(rng) if upright else _rotation(rng))
        clouds.append(points + noise * points.std() * rng.normal(size=points.shape))
    return clouds, class_names(numbers)


def _form(rng: np.random.Generator) -> list[Part]:
    """Solids of a class, each with its scale, rotation and place."""
    return [
        (str(rng.choice(SOLIDS)), rng.lognormal(0, 0.5, 3), _rotation(rng), 0.8 * rng.normal(size=3))
        for _ in range(int(rng.integers(PARTS[0], PARTS[1] + 1)))
    ]


def _surface(rng: np.random.Generator, form: list[Part], count: int) -> np.ndarray:
    """Points (count, 3) on the surfaces of all solids of a form."""
    of_parts = np.array_split(np.arange(count), len(form))
    return np.concatenate(
        [
            _solid(rng, solid, len(part)) * scale @ rotation + place
            for part, (solid, scale, rotation, place) in zip(of_parts, form, strict=True)
        ]
    )


def _solid(rng: np.random.Generator, solid: str, count: int) -> np.ndarray:
    """Points (count, 3) on a solid within -1..1."""
    angle = rng.uniform(0, 2 * np.pi, count)
    round_about = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    height = rng.uniform(-1, 1, count)[:, None]
    if solid == "ball":
        return np.concatenate([np.sqrt(1 - height**2) * round_about, height], axis=1)
    if solid == "cylinder":
        return np.concatenate([round_about, height], axis=1)
    if solid == "cone":
        rise = np.sqrt(rng.random(count))[:, None]
        return np.concatenate([rise * round_about, 1 - 2 * rise], axis=1)
    if solid == "torus":
        turn = rng.uniform(0, 2 * np.pi, count)[:, None]
        return np.concatenate([(0.7 + 0.3 * np.cos(turn)) * round_about, 0.3 * np.sin(turn)], axis=1)
    faces = rng.uniform(-1, 1, (count, 3))
    faces[np.arange(count), rng.integers(3, size=count)] = rng.choice([-1.0, 1.0], count)
    return faces


def _direction(rng: np.random.Generator) -> np.ndarray:
    vector = rng.normal(size=3)
    return np.asarray(vector / np.linalg.norm(vector))


def _rotation(rng: np.random.Generator) -> np.ndarray:
    """Rotation (3, 3), uniform over all, or a reflection of one."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    return np.asarray(q * np.sign(np.diag(r)))


def _about_z(rng: np.random.Generator) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
