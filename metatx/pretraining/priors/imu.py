"""Signals of a sensor on a body that moves in simulated, repeated motions, each a class."""

import numpy as np

from metatx.pretraining.prior import Drawn, balanced, class_names

__all__ = ["draw"]

RATE = 50.0  # steps a second
STEPS = (100, 200)  # least and most, as all pairs here
CLASSES = (2, 6)
HARMONICS = 3
GRAVITY = 9.81


def draw(seed: int, size: int) -> Drawn:
    """Draw windows (6, steps) of acceleration in m/s2 and turning rate in rad/s, and the motion of each.

    A motion is a periodic path and a periodic turning. Speed, strength and phase of a window, the way that the sensor
    is worn, its offset and its noise are its own.
    """
    rng = np.random.default_rng(seed)
    classes = min(int(rng.integers(CLASSES[0], CLASSES[1] + 1)), size)
    time = np.arange(int(rng.integers(STEPS[0], STEPS[1] + 1))) / RATE
    # Motions of a task are alike: about as quick and as strong, along paths of which a part is shared.
    pace = 10 ** rng.uniform(-0.5, 0.5) * rng.lognormal(0, 0.15, classes)  # repetitions a second
    strength = 10 ** rng.uniform(-1, 0.3, 2) * rng.lognormal(0, 0.15, (classes, 2))
    paths = rng.normal(size=(2, 6, HARMONICS)) + rng.uniform(0.3, 0.8) * rng.normal(size=(classes, 2, 6, HARMONICS))
    paths *= 0.5 ** np.arange(HARMONICS)
    tilt = rng.uniform(20, 70)
    numbers = balanced(rng, size, classes)
    windows = []
    for number in numbers:
        phase = 2 * np.pi * (rng.random() + pace[number] * rng.lognormal(0, 0.2) * time)
        waves = np.stack([np.sin((1 + k) * phase) for k in range(HARMONICS)])
        turned = np.stack([np.cos((1 + k) * phase) for k in range(HARMONICS)])
        moved = paths[number, 0] @ waves + paths[number, 1] @ turned
        force = strength[number] * rng.lognormal(0, 0.4, 2)
        angles = force[1] * moved[3:] / 2
        rotation = _rotations(angles)
        path = 3 * force[0] * moved[:3].T + [0, 0, GRAVITY]
        acceleration = np.einsum("tij,ti->tj", rotation, path).T  # as seen by the body
        turning = np.gradient(angles, 1 / RATE, axis=1)
        worn = _rotations(np.radians(tilt) * rng.normal(size=(3, 1)))[0]
        window = np.concatenate([worn @ acceleration, worn @ turning])
        window += 0.1 * rng.normal(size=(6, 1)) + 0.3 * rng.normal(size=window.shape)
        windows.append(window)
    return windows, class_names(numbers)


def _rotations(angles: np.ndarray) -> np.ndarray:
    """Rotation matrices (T, 3, 3) about the three axes in turn, by angles (3, T) in radians."""
    made = np.broadcast_to(np.eye(3), (angles.shape[1], 3, 3))
    for axis, of_axis in enumerate(angles):
        first = (axis + 1) % 3
        second = (axis + 2) % 3
        turn = np.zeros((len(of_axis), 3, 3))
        turn[:, axis, axis] = 1
        turn[:, [first, second], [first, second]] = np.cos(of_axis)[:, None]
        turn[:, second, first] = np.sin(of_axis)
        turn[:, first, second] = -np.sin(of_axis)
        made = made @ turn
    return made
