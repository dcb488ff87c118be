"""Curves of any objective as costs above 0, which the measures of fluctuation can read.

A minimised objective that is above 0 throughout is its own cost: fluctuation is then relative to
the loss, as for tables. Everything else (rewards, shares, losses below 0) enters as the
exponential of its difference to the base's late level, in units of what training gains: from the
level without learning (or of the first unit, where that is worse) to the best late level that any
variant reaches. A fluctuation of 0.04 is then 4 % of that gain, a loss ratio of 1.02 is 2 % of it
worse. A maximised value counts with its sign turned; for a share, that is 1 minus the value, up to
a constant that cancels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxopt_lab.stabilization.fluctuation import late

#: Differences beyond so many gains are cut off.
_MOST = 60.0


class Scale(NamedTuple):
    """How the curves of one diagnosis become costs.

    Attributes:
      relative: whether they are costs as they are.
      sign: 1 where low is good, -1 where high is.
      level: the base's late level, sign turned.
      gain: what training gains; above 0.
    """

    relative: bool
    sign: int
    level: float
    gain: float

    def costs(self, curves: Float[np.ndarray, "s t"]) -> Float[np.ndarray, "s t"]:
        """Costs above 0; NaN and infinite values stay."""
        values = np.asarray(curves, np.float64)
        if self.relative:
            return values
        with np.errstate(invalid="ignore"):
            differences = (self.sign * values - self.level) / self.gain
        found = np.exp(np.clip(differences, -_MOST, _MOST))
        return np.where(np.isfinite(values), found, values)

    @property
    def words(self) -> str:
        """What a fluctuation is relative to."""
        if self.relative:
            return "relative to the objective's own trend"
        return f"in units of what training gains, {self.gain:.3g}"


def scale_of(
    base: Float[np.ndarray, "s t"],
    everyone: Sequence[Float[np.ndarray, "s t"]],
    sign: int,
    untrained: Float[np.ndarray, "s t"] | None = None,
) -> Scale:
    """Choose the scale of a diagnosis.

    Args:
      base: curves of the base.
      everyone: curves of every member, the base among them.
      sign: 1 where the objective is minimised, -1 where it is maximised.
      untrained: curves of a member that does not learn, if there is one.
    """
    signed = [sign * np.asarray(curves, np.float64) for curves in everyone]
    finite = np.concatenate([curves[np.isfinite(curves)] for curves in signed])
    if sign > 0 and finite.size and finite.min() > 0:
        return Scale(True, sign, 0.0, 1.0)
    level = _level(sign * np.asarray(base, np.float64))
    levels = [found for curves in signed if np.isfinite(found := _level(curves))]
    starts = np.concatenate([curves[:, 0] for curves in signed])
    starts = starts[np.isfinite(starts)]
    best = min(levels, default=0.0)
    start = float(np.median(starts)) if starts.size else best
    idle = best if untrained is None else _level(sign * np.asarray(untrained, np.float64))
    gain = max(start, idle if np.isfinite(idle) else start) - best
    # Where nothing learns, what the curves span is all that there is to compare with.
    span = float(np.subtract(*np.quantile(finite, [0.95, 0.05]))) if finite.size else 0.0
    gain = gain if gain > 1e-9 * max(abs(best), 1e-30) else span
    return Scale(False, sign, level if np.isfinite(level) else best, gain or 1.0)


def _level(curves: Float[np.ndarray, "s t"]) -> float:
    """Median over seeds of the late median."""
    return float(np.median([np.median(late(curve)) for curve in curves]))
