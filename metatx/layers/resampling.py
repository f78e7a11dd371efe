"""Resampling of signals to another sampling rate."""

from fractions import Fraction

import numpy as np

__all__ = ["LARGEST_RATIO", "resample"]

LARGEST_RATIO = 1000  # largest denominator of the fraction to which a ratio of rates is rounded, at most 1e-6 away


def resample(signal: np.ndarray, rate: float, wanted: float) -> np.ndarray:
    """Resample a signal (..., L) from ``rate`` to ``wanted``, both in Hz: (..., about L * wanted / rate).

    Polyphase filtering avoids aliases; the line through the first and last value is subtracted before and added after,
    so that a signal that does not start and end at zero does not ring there.
    """
    ratio = Fraction(wanted / rate).limit_denominator(LARGEST_RATIO)
    if ratio == 1:
        return signal
    from scipy.signal import resample_poly

    up = max(ratio.numerator, 1)
    down = ratio.denominator
    resampled: np.ndarray = resample_poly(signal, up, down, axis=-1, padtype="line")
    return resampled
