"""What a study optimises: a metric by name, and which way."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxopt_lab.core.errors import UserError, did_you_mean

DIRECTIONS = ("minimize", "maximize")
READINGS = ("last", "best")


def sign_of(direction: str) -> int:
    """1 where a metric is minimised, -1 where it is maximised: a store holds what is minimised."""
    return -1 if direction == "maximize" else 1


@dataclass(frozen=True)
class Objective:
    """A metric, its direction, and which of its values counts.

    Attributes:
      metric: its name.
      direction: "minimize" or "maximize".
      at: "last" takes the value after the last unit, "best" the best of all units.

    Raises:
      UserError: for another direction or reading.
    """

    metric: str
    direction: str = "minimize"
    at: str = "last"

    def __post_init__(self) -> None:
        for what, value, known in (
            ("direction", self.direction, DIRECTIONS),
            ("objective_at", self.at, READINGS),
        ):
            if value not in known:
                hint = did_you_mean(str(value), known)
                raise UserError(f"{what} must be {' or '.join(known)}, got {value!r}.{hint}")

    @property
    def sign(self) -> int:
        """1 where the metric is minimised, -1 where it is maximised."""
        return sign_of(self.direction)

    def best_unit(self, curve: Float[np.ndarray, " units"]) -> int:
        """The index of the value that counts; a value that is not finite never wins.

        Args:
          curve: the metric after each unit.
        """
        return int(self.best_units(np.asarray(curve)[np.newaxis])[0])

    def best_units(self, curves: Float[np.ndarray, "n units"]) -> Int[np.ndarray, " n"]:
        """`best_unit` of each of n curves."""
        if self.at == "last":
            return np.full(len(curves), curves.shape[1] - 1)
        costs = np.where(np.isfinite(curves), self.sign * curves, np.inf)
        return np.argmin(costs, axis=1)


def is_on_front(costs: Float[np.ndarray, "n m"]) -> Bool[np.ndarray, " n"]:
    """Which points no other point dominates: none is at least as good in all and better in one.

    Equal points are on the front together; one with a value that is not finite never is.

    Args:
      costs: lower is better.

    Source: Pareto dominance as in Deb et al. 2002 (NSGA-II, IEEE Transactions on Evolutionary
      Computation 6(2)).

    Examples:
      >>> is_on_front(np.array([[1.0, 3.0], [2.0, 2.0], [2.0, 3.0], [3.0, np.nan]])).tolist()
      [True, True, False, False]
    """
    known = np.isfinite(costs).all(axis=1)
    found, others = known.copy(), costs[known]
    for i in np.flatnonzero(known):
        better = (others <= costs[i]).all(axis=1) & (others < costs[i]).any(axis=1)
        found[i] = not better.any()
    return found
