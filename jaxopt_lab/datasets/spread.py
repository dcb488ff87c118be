"""Mean and standard deviation that neither overflow nor vanish, whatever the magnitude."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def magnitude(values: FloatArray) -> float:
    """A power of two near the largest magnitude of [n] finite values; 1 where all are zero.

    Dividing by it is exact but for subnormal results, so sums of squares cannot overflow.
    """
    largest = float(np.max(np.abs(values), initial=0.0))
    return float(np.ldexp(1.0, max(int(np.frexp(largest)[1]) - 1, -1022))) if largest else 1.0


def mean_and_deviation(values: FloatArray) -> tuple[float, float]:
    """Mean and population standard deviation.

    Args:
      values: float64 [n], finite, n at least 1.

    Returns:
      Both in the units of the values; the deviation is 0 only where all values are equal.

    Examples:
      >>> mean_and_deviation(np.array([1e200, 3e200])) == (2e200, 1e200)
      True
    """
    unit = magnitude(values)
    parts = values / unit
    mean = float(parts.mean())
    if parts.min() == parts.max():
        return float(values[0]), 0.0
    return mean * unit, max(float(parts.std()) * unit, float(np.nextafter(0.0, 1.0)))


def standard_error(values: FloatArray) -> float:
    """Of the mean of float64 [n], finite, n at least 2: from the sample deviation.

    Examples:
      >>> standard_error(np.array([1e200, 3e200]))
      1e+200
    """
    _, deviation = mean_and_deviation(values)
    return deviation / math.sqrt(len(values) - 1)


def root_mean_square(values: FloatArray) -> float:
    """Root of the mean square of float64 [n]; inf or NaN where a value is."""
    if not np.isfinite(values).all():
        return float(np.abs(values).max())
    unit = magnitude(values)
    return float(np.sqrt(np.mean((values / unit) ** 2)) * unit)
