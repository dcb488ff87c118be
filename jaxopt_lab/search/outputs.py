"""Make observed values fit for a Gaussian process: warped, winsorised, standardised."""

import numpy as np
from jaxtyping import Float

#: Offsets tried by `log_offset`, in units of the distance from the best value to the median.
_OFFSETS = np.geomspace(1e-2, 1e3, 26)
#: Values worse than this many robust standard deviations above the median are moved down to it.
WINSOR = 3.0


def log_offset(values: Float[np.ndarray, " n"]) -> float:
    """Choose c so that log(value - best + c) is nearest to normal; large c means hardly any warp.

    The profile likelihood of the three-parameter log-normal distribution over a list of offsets.
    Losses of diverging networks lie orders of magnitude above the good ones; the logarithm lets
    the process tell the good ones apart.

    Source: Box & Cox 1964, An analysis of transformations, section 8 (shifted logarithm).
    """
    above = values - values.min()
    unit = float(np.median(above)) or float(above.mean()) or 1.0
    offsets = unit * _OFFSETS
    logs = np.log(above[:, None] + offsets)
    likelihood = -0.5 * len(values) * np.log(np.maximum(logs.var(0), 1e-300)) - logs.sum(0)
    return float(offsets[int(np.argmax(likelihood))])


def standardise(
    values: Float[np.ndarray, " n"], noise: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Map values and their standard errors to the scale of the model.

    Args:
      values: [n] finite, n >= 1.
      noise: [n] standard errors, 0 where unknown.

    Returns:
      [n] values of mean 0 and deviation 1, and [n] their noise variances by the delta method.
    """
    scale = np.max(np.abs(values)) or 1.0
    values, noise = values / scale, noise / scale
    if np.ptp(values) == 0:
        return np.zeros(len(values)), np.minimum((noise / (abs(values[0]) or 1.0)) ** 2, 1.0)
    offset = log_offset(values)
    shifted = values - values.min() + offset
    warped, slope = np.log(shifted), 1.0 / shifted
    median = np.median(warped)
    spread = 1.4826 * np.median(np.abs(warped - median)) or warped.std()
    warped = np.minimum(warped, median + WINSOR * spread)
    deviation = warped.std() or 1.0
    return (warped - warped.mean()) / deviation, np.minimum((noise * slope / deviation) ** 2, 1e4)
