"""Make observed values fit for a Gaussian process: winsorised, warped, standardised."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

#: Offsets of the logarithms, in units of the distance from the best value to the median.
WARP_OFFSETS = (0.01, 0.1, 1.0)
#: Values further than this from the best, in the same unit, are moved down to it. No less: clusters
#: of good points, which searches end in, make the unit small, and a clipped bowl is no bowl.
WINSOR = 1e4


class Outputs(NamedTuple):
    """Observed values in the scale of the model, in w ways.

    Attributes:
      y: [w, n] values of mean 0 and deviation 1.
      variances: [w, n] their known noise variances.
    """

    y: Float[np.ndarray, "w n"]
    variances: Float[np.ndarray, "w n"]


def warps(values: Float[np.ndarray, " n"], noise: Float[np.ndarray, " n"]) -> Outputs:
    """Map values and their standard errors to the scale of the model, in several ways.

    Losses of diverging networks lie orders of magnitude above the good ones: a logarithm lets the
    process tell the good ones apart. A smooth bowl is smoothest as it is. So the identity and
    logarithms of the distance to the best value are all offered; `choose_warp` takes one.

    Args:
      values: [n] finite, n >= 1.
      noise: [n] standard errors, 0 where unknown; they become variances by the delta method.

    Returns:
      The identity, then a logarithm per offset; only one way if all values are equal.

    Source: Box & Cox 1964, An analysis of transformations, section 8 (shifted logarithm).
    """
    scale = np.max(np.abs(values)) or 1.0
    values, noise = values / scale, noise / scale
    if np.ptp(values) == 0:
        variances = np.minimum((noise / (abs(values[0]) or 1.0)) ** 2, 1.0)
        return Outputs(np.zeros((1, len(values))), variances[None])
    above = values - values.min()
    unit = float(np.median(above)) or float(above.mean())
    with np.errstate(over="ignore"):
        above, noise = np.minimum(above / unit, WINSOR), np.minimum(noise / unit, WINSOR)
    shifted = [above + offset for offset in WARP_OFFSETS]
    warped = np.stack([above, *(np.log(s) for s in shifted)])
    slope = np.stack([np.ones_like(above), *(1.0 / s for s in shifted)])
    deviation = warped.std(1, keepdims=True)
    y = (warped - warped.mean(1, keepdims=True)) / deviation
    return Outputs(y, np.minimum((noise * slope / deviation) ** 2, 1e4))
