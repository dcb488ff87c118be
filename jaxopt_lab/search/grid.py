"""Grid search: every combination of listed values, in a stated order."""

import math
from itertools import islice
from typing import Any

import numpy as np

from jaxopt_lab.core.calls import checked_call
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.types import Config, PRNGKey
from jaxopt_lab.search.base import History, Sampler, check_request
from jaxopt_lab.search.encoding import Enumeration, known_keys, row_keys, snap
from jaxopt_lab.spaces.distributions import Distribution, IntUniform, LogIntUniform, LogUniform
from jaxopt_lab.spaces.space import SearchSpace

#: How many points of a long grid are looked at together.
_CHUNK = 256


def grid_values(dist: Distribution, points_per_range: int) -> list[Any]:
    """The values that a grid tries of one parameter, ends included.

    A choice gives all its values in the order given; a range gives `points_per_range` values at
    equal (logarithmic) distances, or all its whole numbers if they are fewer.

    Examples:
      >>> grid_values(LogUniform(1e-4, 1e-2), 3)
      [0.0001, 0.001, 0.01]
      >>> grid_values(IntUniform(2, 4), 5)
      [2, 3, 4]
    """
    if not hasattr(dist, "low"):
        return list(dist.extremes)
    low, high = dist.extremes
    if isinstance(dist, LogUniform | LogIntUniform):
        middle = np.geomspace(low, high, points_per_range)[1:-1]
    else:
        middle = np.linspace(low, high, points_per_range)[1:-1]
    if isinstance(dist, IntUniform):
        if dist.cardinality <= points_per_range:
            return list(range(low, high + 1))
        return sorted({low, high, *(round(float(x)) for x in middle)})
    return [low, *(float(f"{x:.12g}") for x in middle), high]


def _enumeration(space: SearchSpace, points_per_range: int) -> Enumeration:
    return Enumeration(space, lambda dist: grid_values(dist, points_per_range))


def grid_size(space: SearchSpace, points_per_range: int = 5) -> int:
    """Number of configurations of the grid, those that conditions rule out left out.

    Examples:
      >>> from jaxopt_lab import Choice
      >>> grid_size(SearchSpace(a=Choice([1, 2, 3]), b=LogUniform(0.1, 1)), points_per_range=4)
      12
    """
    return len(_enumeration(space, points_per_range))


@checked_call()
def grid(points_per_range: int = 5) -> Sampler:
    """Grid search: all combinations, the last parameter changing fastest, a parent first.

    A call returns the first n points of the grid that the history does not hold: nothing is
    dropped and nothing comes twice, also when other configurations were tried in between. At the
    end of the grid it returns fewer than n, then none.

    Args:
      points_per_range: values per real range, at least 2 (its ends); `grid_values` says which.

    Raises:
      UserError: if `points_per_range` is below 2.
    """
    if points_per_range < 2:
        raise UserError(f"grid: points_per_range must be at least 2, got {points_per_range}")

    def propose(key: PRNGKey, space: SearchSpace, history: History, n: int) -> list[Config]:
        check_request(space, history, n)
        return propose_many(key, space, history, n)

    def propose_many(key: PRNGKey, space: SearchSpace, history: History, n: int) -> list[Config]:
        check_request(space, history, n, largest=math.inf)
        known = known_keys(space, history.points)
        left: list[Config] = []
        configs = iter(_enumeration(space, points_per_range))
        while len(left) < n and (chunk := list(islice(configs, _CHUNK))):
            keys = row_keys(snap(space, space.to_unit(chunk)))
            left += [c for c, k in zip(chunk, keys, strict=True) if k not in known]
        return left[:n]

    return Sampler("grid", propose, sees_scores=False, propose_many=propose_many)
