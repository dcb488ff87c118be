"""Exploration: how a copy's values differ from its parent's, in the unit cube of the space.

Each hyperparameter has random numbers of its own. Whatever happens to a value, it stays in its
range: steps are reflected at the ends. A choice stays one of its values, a whole number whole.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from jaxopt_lab.core.calls import checked_call
from jaxopt_lab.core.errors import UserError, did_you_mean
from jaxopt_lab.core.types import PRNGKey
from jaxopt_lab.schedulers.populations import EXPLORES, Axis, Named, Seen, nearest
from jaxopt_lab.search.base import generator


@checked_call()
def perturb(step: Any = 0.1, resample: Any = 0.1) -> Named:
    """Move a little from the parent's values; now and then draw one anew.

    Of a value with few levels at least one level is passed: a whole number moves by `step` of its
    range or by one, an ordered choice to a neighbour. An unordered choice is only ever drawn anew.

    Args:
      step: standard deviation of a move, as a share of the range (of its logarithm where the range
        is logarithmic).
      resample: probability that a value is drawn anew from its whole range instead.

    Raises:
      UserError: for a step below 0 or above 1, or no probability.

    Source: the two strategies of Jaderberg et al. 2017, arXiv:1711.09846, section 4.1.1; there a
    move multiplies a value by 0.8 or 1.2, whatever its range.
    """
    for name, value in (("step", step), ("resample", resample)):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0.0 <= value <= 1.0:
            raise UserError(f"{name} must lie in [0, 1], got {value!r}")

    def explore(key: PRNGKey, seen: Seen, parents: Any) -> Float[np.ndarray, "p d"]:
        points = seen.points[parents]
        for j, axis in enumerate(seen.axes):
            if axis.free:
                rng = generator(key, EXPLORES, j)
                moves = step * rng.normal(size=len(points))
                anew, is_anew = drawn(axis, len(points), rng), rng.random(len(points)) < resample
                points[:, j] = np.where(is_anew, anew, moved(axis, points[:, j], moves))
        return points

    return Named(f"steps of {step:g}, anew with {resample:g}", explore)


@checked_call()
def resample() -> Named:
    """Draw every value of a copy anew from its whole range.

    Source: Jaderberg et al. 2017, arXiv:1711.09846, section 4.1.1.
    """
    return Named("drawn anew", perturb(0.0, 1.0).call)


EXPLORE = {"perturb": perturb, "resample": resample}


def read_explore(given: Any) -> Named:
    """An exploration, also by its name.

    Raises:
      UserError: for anything else.
    """
    if isinstance(given, Named):
        return given
    if isinstance(given, str) and given in EXPLORE:
        return EXPLORE[given]()
    hint = did_you_mean(str(given), EXPLORE)
    raise UserError(
        f"explore must be one of {', '.join(EXPLORE)}, or lab.schedulers.perturb(...), got "
        f"{given!r}.{hint}"
    )


def drawn(axis: Axis, num: int, rng: np.random.Generator) -> Float[np.ndarray, " p"]:
    """Values from the whole of an axis."""
    if len(axis.levels):
        return axis.levels[rng.integers(len(axis.levels), size=num)]
    return rng.random(num)


def moved(
    axis: Axis, points: Float[np.ndarray, " p"], moves: Float[np.ndarray, " p"]
) -> Float[np.ndarray, " p"]:
    """Places after moves along an axis."""
    if not len(axis.levels):
        return reflected(points + moves)
    if not axis.ordered or len(axis.levels) == 1:
        return points
    at = nearest(axis.levels, points)
    to = nearest(axis.levels, reflected(points + moves))
    beside = np.where(moves < 0, at - 1, at + 1)
    last = len(axis.levels) - 1
    beside = np.where(beside < 0, 1, np.where(beside > last, last - 1, beside))
    to = np.where(moves == 0, at, np.where(to == at, beside, to))
    return axis.levels[to]


def reflected(points: Float[np.ndarray, " p"]) -> Float[np.ndarray, " p"]:
    """Numbers of any size, folded into [0, 1] at both ends."""
    inside = np.mod(points, 2.0)
    return np.where(inside > 1.0, 2.0 - inside, inside)
