"""Trials as plain arrays: coordinates in the unit cube, scores, which diverged, which are best."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxopt_lab.spaces.distributions import Choice, Distribution
from jaxopt_lab.spaces.space import SearchSpace


@dataclass(frozen=True, eq=False)
class Seen:
    """What is known of n trials.

    Attributes:
      points: [n, d] in the unit cube; NaN where a parameter is inactive or has a value that the
        space does not know. A value beyond a range lies at its end.
      scores: [n] lower is better; NaN where unknown.
      infeasible: [n] whether the trial diverged.
    """

    points: Float[np.ndarray, "n d"]
    scores: Float[np.ndarray, " n"]
    infeasible: Bool[np.ndarray, " n"]

    @classmethod
    def of(
        cls,
        space: SearchSpace,
        configs: Sequence[Mapping[str, Any]],
        scores: Any,
        infeasible: Any,
    ) -> "Seen":
        """Check and convert; a finite score of an infeasible trial is not read.

        Raises:
          ValueError: if the lengths differ.
        """
        num = len(configs)
        values = np.array([math.nan if s is None else s for s in scores], np.float64)
        diverged = np.array(infeasible, bool).reshape(-1)
        if len(values) != num or len(diverged) != num:
            raise ValueError(
                f"{num} configurations, {len(values)} scores and {len(diverged)} flags: "
                "give one of each per trial"
            )
        values = np.where(diverged | ~np.isfinite(values), np.nan, values)
        return cls(coordinates(space, configs), values, diverged)

    @property
    def scored(self) -> Bool[np.ndarray, " n"]:
        """[n] whether the score is known."""
        return np.isfinite(self.scores)

    def best(self) -> Int[np.ndarray, " m"]:
        """Indices of the best trials, best first; ties go to the lower index.

        The best quarter, at least 3, but no more than 2 sqrt(n): of a thousand trials a quarter
        says little about where the best are.
        """
        order = np.argsort(self.scores, kind="stable")
        num = int(self.scored.sum())
        return order[: min(num, max(3, math.ceil(min(num / 4, 2 * math.sqrt(num)))))]


def coordinates(
    space: SearchSpace, configs: Sequence[Mapping[str, Any]]
) -> Float[np.ndarray, "n d"]:
    """Unit-cube coordinates; NaN where inactive or unknown, clipped where out of range."""
    out = np.full((len(configs), space.num_dims), np.nan)
    for j, (name, dist) in enumerate(space.parameters.items()):
        to_unit = _lookup(dist) if isinstance(dist, Choice) else _clipped(dist)
        conditional = bool(dist.condition)
        for i, config in enumerate(configs):
            if name in config and (not conditional or space.is_active(name, config)):
                out[i, j] = to_unit(config[name])
    return out


def _lookup(dist: Choice) -> Callable[[Any], float]:
    """Value of a choice -> coordinate; NaN for others."""
    known = {value: dist.to_unit(value) for value in dist.values}
    return lambda value: known.get(value, math.nan)


def _clipped(dist: Distribution) -> Callable[[Any], float]:
    """Value of a range -> coordinate, that of the nearest end for a value beyond."""
    low, high = dist.extremes
    return lambda value: dist.to_unit(min(max(value, low), high))


def rounded(value: float | int, digits: int = 2) -> float:
    """Round to significant digits, for text and for bounds a person would write."""
    return float(f"{value:.{digits}g}")
