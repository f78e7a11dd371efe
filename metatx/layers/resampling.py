"""Signals at another sampling rate."""

from fractions import Fraction

import numpy as np

__all__ = ["LARGEST_RATIO", "resample"]

LARGEST_RATIO = 1000  # the ratio of two rates is rounded to a fraction of such numbers, at most 1e-6 away


def resample(signal: np.ndarray, rate: float, wanted: float) -> np.ndarray:
    """A signal (..., L) measured at ``rate`` as if measured at ``wanted``: (..., about L wanted / rate).

    Polyphase filtering, without aliases; the line through its ends is left out of the filtering, so that a signal
    that does not start and end at zero does not ring there.
    """
    ratio = Fraction(wanted / rate).limit_denominator(LARGEST_RATIO)
    if ratio == 1:
        return signal
    from scipy.signal import resample_poly

    up, down = max(ratio.numerator, 1), ratio.denominator
    resampled: np.ndarray = resample_poly(signal, up, down, axis=-1, padtype="line")
    return resampled
