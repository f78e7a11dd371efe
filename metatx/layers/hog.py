"""Histograms of oriented gradients, the features of classical baselines for images."""

import numpy as np

__all__ = ["gradient_histograms"]


def gradient_histograms(pixels: np.ndarray, cell: int = 4, orientations: int = 9) -> np.ndarray:
    """Histograms of oriented gradients (Dalal and Triggs 2005) of an image (H, W, C), in blocks of 2 x 2 cells.

    At each pixel, the channel with the steepest gradient counts; its magnitude is divided between the two nearest
    orientations.

    Args:
        pixels: Image (H, W, C).
        cell: Side of a cell in pixels.
        orientations: Number of orientations.
    """
    down, right = np.gradient(pixels, axis=(0, 1))
    steepness = np.hypot(down, right)
    steepest = steepness.argmax(2)[..., None]
    magnitude = np.take_along_axis(steepness, steepest, 2)[..., 0]
    angle = np.take_along_axis(np.arctan2(down, right), steepest, 2)[..., 0] % np.pi * orientations / np.pi
    rows, columns = (side // cell for side in magnitude.shape)
    y, x = np.indices(magnitude.shape) // cell
    lower = np.floor(angle).astype(int)
    histograms = np.zeros(rows * columns * orientations)
    for bins, share in ((lower, 1 - angle + lower), (lower + 1, angle - lower)):
        index = (y * columns + x) * orientations + bins % orientations
        histograms += np.bincount(index.ravel(), (magnitude * share).ravel(), len(histograms))
    cells = histograms.reshape(rows, columns, orientations)
    blocks = np.concatenate([cells[:-1, :-1], cells[:-1, 1:], cells[1:, :-1], cells[1:, 1:]], axis=2)
    unit = np.minimum(blocks / (np.linalg.norm(blocks, axis=2, keepdims=True) + 1e-3), 0.2)
    features: np.ndarray = unit / (np.linalg.norm(unit, axis=2, keepdims=True) + 1e-3)
    return features.ravel()
