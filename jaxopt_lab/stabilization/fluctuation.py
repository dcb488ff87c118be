"""How much a validation loss fluctuates: one number per curve, and what it is made of.

The number is the spread of the late curve around its own smooth trend, on a log scale: 0.05 means
that the loss typically stands 5 % off its trend. It does not depend on the loss's unit, and a
steady descent or rise is no fluctuation.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

#: The late curve is this share of it.
LATE = 0.5
#: The trend at a point is a straight line fitted to this share of the late curve around it.
SPAN = 0.5
#: A curve that left the finite numbers, or moves by more, counts as this (a factor of 20,000).
MAX_FLUCTUATION = 10.0
#: Least number of points of a late curve.
MIN_POINTS = 8
#: Distance between the 5 % and the 95 % quantile of a standard normal.
_RANGE = 3.29
#: A spike rises above the trend by this factor, and by so many usual spreads.
SPIKE_FACTOR, _SPIKE_SPREADS = 1.2, 5.0


class Fluctuation(NamedTuple):
    """What one curve comes to.

    Attributes:
      spread: (95 % - 5 % quantile) / 3.29 of log loss - trend: a standard deviation of the
        logarithm if it were normal, whatever the remaining tenth of the points does.
      num_spikes: rises above the trend by more than a factor 1.2 and 5 usual spreads (1.48 x the
        median distance from the trend); neighbouring points are one spike.
      peak: the highest rise above the trend, log scale.
      drift: rise of the trend over the late curve, log scale; negative while learning.
    """

    spread: float
    num_spikes: int
    peak: float
    drift: float


def late(curve: Float[np.ndarray, "t ..."]) -> Float[np.ndarray, "u ..."]:
    """The part of a curve that the fluctuation is measured on."""
    return curve[-max(round(LATE * len(curve)), MIN_POINTS) :]


def measure(curve: Float[np.ndarray, " t"]) -> Fluctuation:
    """Measure one validation curve.

    Args:
      curve: losses at even distances; at least `MIN_POINTS`.

    Returns:
      Its fluctuation; `MAX_FLUCTUATION` and no spikes if it is not finite at its end.

    Raises:
      ValueError: if it is too short, or a loss is not positive.
    """
    if len(curve) < MIN_POINTS:
        raise ValueError(f"a curve of {len(curve)} losses is too short, give {MIN_POINTS} or more")
    values = late(np.asarray(curve, np.float64))
    if not np.isfinite(values).all():
        return Fluctuation(MAX_FLUCTUATION, 0, MAX_FLUCTUATION, 0.0)
    if (values <= 0).any():
        raise ValueError(f"a loss must be above 0 to be seen on a log scale, got {values.min():g}")
    logs = np.log(values)
    smooth = trend(logs)
    residual = logs - smooth
    low, high = np.quantile(residual, [0.05, 0.95])
    num_spikes = len(_spikes(residual))
    spread = min(float(high - low) / _RANGE, MAX_FLUCTUATION)
    return Fluctuation(spread, num_spikes, float(residual.max()), float(smooth[-1] - smooth[0]))


def spikes(curve: Float[np.ndarray, " t"]) -> list[tuple[int, float]]:
    """Where a curve rises far above its trend, as `Fluctuation.num_spikes` counts it.

    Args:
      curve: losses above 0.

    Returns:
      Index of the highest point and factor above the trend, of each spike.
    """
    logs = np.log(np.asarray(curve, np.float64))
    residual = logs - trend(logs)
    found = []
    for points in _spikes(residual):
        highest = int(points[np.argmax(residual[points])])
        found.append((highest, float(np.exp(residual[highest]))))
    return found


def _spikes(residual: Float[np.ndarray, " t"]) -> list[np.ndarray]:
    """Indices of the points of each spike."""
    usual = 1.4826 * np.median(np.abs(residual - np.median(residual)))
    above = np.flatnonzero(residual > max(_SPIKE_SPREADS * usual, np.log(SPIKE_FACTOR)))
    return np.split(above, np.flatnonzero(np.diff(above) > 1) + 1) if len(above) else []


def rise(curve: Float[np.ndarray, " t"]) -> float:
    """How far the end of a curve's trend stands above the trend's lowest point, log scale."""
    values = np.asarray(curve, np.float64)
    if not np.isfinite(values).all() or (values <= 0).any():
        return MAX_FLUCTUATION
    smooth = trend(np.log(values))
    return float(smooth[-1] - smooth.min())


def noise_floor(resampled: Float[np.ndarray, "t r"]) -> float:
    """The part of the fluctuation that other validation rows of the same number would not share.

    Weights that move change the loss of each row; on few rows these changes do not average out.
    That part shrinks with the root of the number of rows, whatever the training does.

    Args:
      resampled: the curve on each of r resamples of the validation rows.

    Returns:
      The standard error over resamples of the detrended late log curve, root mean square over
      time; 0 if the curve is not finite.
    """
    values = late(np.asarray(resampled, np.float64))
    if not np.isfinite(values).all() or (values <= 0).any():
        return 0.0
    logs = np.log(values)
    residual = logs - smoother(len(logs), np.ones(len(logs))) @ logs
    return float(np.sqrt(np.mean(np.var(residual, axis=1, ddof=1))))


def best_losses(
    loss: Float[np.ndarray, " t"], resampled: Float[np.ndarray, "t r"]
) -> Float[np.ndarray, " r"]:
    """The loss of the best checkpoint, without the luck of having chosen it on the same rows.

    Each resample chooses the checkpoint that is best on its rows (a random half, with weight 2);
    the other half scores it.

    Args:
      loss: the curve on all rows.
      resampled: the same on each resample.

    Returns:
      One per resample: their mean is the loss, their spread what other rows would change.
    """
    rest = 2.0 * loss[:, None] - resampled
    chosen = np.argmin(np.where(np.isfinite(resampled), resampled, np.inf), axis=0)
    return rest[chosen, np.arange(rest.shape[1])]


def trend(values: Float[np.ndarray, " t"], num_passes: int = 3) -> Float[np.ndarray, " t"]:
    """A smooth trend that outliers hardly move: locally weighted robust regression.

    Source: Cleveland 1979, Journal of the American Statistical Association 74(368).
    """
    weights = np.ones(len(values))
    smooth = values
    for _ in range(num_passes):
        smooth = smoother(len(values), weights) @ values
        distance = np.abs(values - smooth)
        scale = 6.0 * np.median(distance)
        if scale <= 1e-12:
            break
        weights = np.maximum(1.0 - (distance / scale) ** 2, 0.0) ** 2 + 1e-9
    return smooth


def smoother(num: int, weights: Float[np.ndarray, " t"]) -> Float[np.ndarray, "t t"]:
    """Matrix that fits a line around each point, with tricube weights over `SPAN` of the points."""
    position = np.arange(num, dtype=np.float64)
    offset = position[None, :] - position[:, None]
    reach = np.sort(np.abs(offset), axis=1)[:, min(max(round(SPAN * num), 3), num) - 1] + 1.0
    kernel = np.maximum(1.0 - (np.abs(offset) / reach[:, None]) ** 3, 0.0) ** 3 * weights
    s0, s1 = kernel.sum(1), (kernel * offset).sum(1)
    s2 = (kernel * offset**2).sum(1)
    line = kernel * (s2[:, None] - s1[:, None] * offset)
    return line / np.maximum(s0 * s2 - s1**2, 1e-300)[:, None]
