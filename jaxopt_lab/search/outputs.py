"""Make observed values fit for a Gaussian process: winsorised, warped, standardised."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

#: Offsets tried by `log_offset`, in units of the distance from the best value to the median.
_OFFSETS = np.geomspace(1e-2, 1e3, 26)
#: Offsets of the warps of `warps`, in the same unit.
WARP_OFFSETS = (0.01, 0.1, 1.0)
#: Values worse than this many robust standard deviations above the median are moved down to it.
WINSOR = 3.0


class Outputs(NamedTuple):
    """Observed values in the scale of the model.

    Attributes:
      y: [..., n] values of mean 0 and deviation 1.
      variances: [..., n] their known noise variances.
      log_slope: [..., n] logarithm of the slope of the warp: its sum is what a log likelihood of
        `y` lacks to be one of the values.
    """

    y: Float[np.ndarray, "... n"]
    variances: Float[np.ndarray, "... n"]
    log_slope: Float[np.ndarray, "... n"]


def log_offset(values: Float[np.ndarray, " n"]) -> float:
    """Choose c so that log(value - best + c) is nearest to normal; large c means hardly any warp.

    The profile likelihood of the three-parameter log-normal distribution over a list of offsets.

    Source: Box & Cox 1964, An analysis of transformations, section 8 (shifted logarithm).
    """
    above = values - values.min()
    offsets = _unit(values) * _OFFSETS
    logs = np.log(above[:, None] + offsets)
    likelihood = -0.5 * len(values) * np.log(np.maximum(logs.var(0), 1e-300)) - logs.sum(0)
    return float(offsets[int(np.argmax(likelihood))])


def _unit(values: Float[np.ndarray, " n"]) -> float:
    """The distance from the best value to the median, or to the mean."""
    above = values - values.min()
    return float(np.median(above)) or float(above.mean()) or 1.0


def _winsorised(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Bring bad outliers down, judged on a logarithmic scale."""
    shift = log_offset(values) - values.min()
    logs = np.log(values + shift)
    median = np.median(logs)
    spread = 1.4826 * np.median(np.abs(logs - median)) or logs.std()
    return np.minimum(values, np.exp(median + WINSOR * spread) - shift)


def warps(values: Float[np.ndarray, " n"], noise: Float[np.ndarray, " n"]) -> Outputs:
    """Map values and their standard errors to the scale of the model, in several ways.

    Losses of diverging networks lie orders of magnitude above the good ones: a logarithm lets the
    process tell the good ones apart. A smooth bowl is smoothest as it is. So the identity and
    logarithms of the distance to the best value are all offered, and the process that explains
    the values best, `log_slope` added to its likelihood, says which to use.

    Args:
      values: [n] finite, n >= 1.
      noise: [n] standard errors, 0 where unknown.

    Returns:
      Arrays with a leading axis of w warps; one if all values are equal.

    Source: Snelson et al. 2003, Warped Gaussian processes, NIPS 16 (warps fitted by likelihood).
    """
    scale = np.max(np.abs(values)) or 1.0
    values, noise = values / scale, noise / scale
    if np.ptp(values) == 0:
        variances = np.minimum((noise / (abs(values[0]) or 1.0)) ** 2, 1.0)
        return Outputs(np.zeros((1, len(values))), variances[None], np.zeros((1, len(values))))
    clipped = _winsorised(values)
    above, unit = clipped - clipped.min(), _unit(clipped)
    shifted = [above / unit + offset for offset in WARP_OFFSETS]
    warped = np.stack([above / unit, *(np.log(s) for s in shifted)])
    slope = np.stack([np.ones_like(above), *(1.0 / s for s in shifted)])
    deviation = warped.std(1, keepdims=True)
    y = (warped - warped.mean(1, keepdims=True)) / deviation
    variances = np.minimum((noise / unit * slope / deviation) ** 2, 1e4)
    return Outputs(y, variances, np.log(slope / deviation))
