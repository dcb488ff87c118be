"""Where a search is a part of a wider one: both spaces' coordinates, and what lies outside."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from jaxopt_lab.search.base import Frame, History
from jaxopt_lab.search.encoding import Features, active_mask, features, snap
from jaxopt_lab.spaces.distributions import Choice, Distribution, IntUniform, Range
from jaxopt_lab.spaces.space import SearchSpace


def is_real(dist: Distribution) -> bool:
    """Whether a parameter takes every value between two ends."""
    return not np.isfinite(dist.cardinality)


def hull(outer: SearchSpace, inner: SearchSpace) -> SearchSpace | None:
    """The least space like `outer` that holds every configuration of both.

    Returns:
      None where there is no such space: a parameter has another kind of distribution or another
      condition in the two, or stands in one of them only.
    """
    wide: dict[str, Any] = {**outer.parameters, **outer.fixed}
    for name, value in inner.fixed.items():
        if name not in wide:
            return None
        mine = wide[name]
        if not (mine.contains(value) if isinstance(mine, Distribution) else mine == value):
            return None
    for name, dist in inner.parameters.items():
        joined = _joined(wide.get(name), dist)
        if joined is None:
            return None
        wide[name] = joined
    return SearchSpace(**wide)


def _joined(outer: Any, inner: Distribution) -> Distribution | None:
    """The distribution over the values of two."""
    if not isinstance(outer, Distribution) or outer.condition != inner.condition:
        return None
    if isinstance(outer, Choice) and isinstance(inner, Choice):
        more = [value for value in inner.values if not outer.contains(value)]
        return outer.with_values([*outer.values, *more]) if more else outer
    if isinstance(outer, IntUniform) and isinstance(inner, Choice):
        return outer if all(outer.contains(value) for value in inner.values) else None
    if type(outer) is not type(inner) or not isinstance(outer, Range):
        return None
    (low, high), (inner_low, inner_high) = outer.extremes, inner.extremes
    return outer.with_ends(min(low, inner_low), max(high, inner_high))


def frame_of(
    outer: SearchSpace,
    inner: SearchSpace,
    configs: Sequence[Mapping[str, Any]],
    values: Any,
    infeasible: Any,
    noise: Any,
) -> Frame | None:
    """What is known outside of a space, as `History` takes it.

    Args:
      outer: the space of the whole study.
      inner: the part that is searched now.
      configs: n configurations that do not lie in `inner`; those that do not lie in the hull of
        both spaces either are left out.
      values: n numbers, lower is better; NaN where unknown.
      infeasible: n booleans.
      noise: n standard errors, 0 where unknown.

    Returns:
      None where the spaces are the same, or have no hull.
    """
    wide = None if outer == inner else hull(outer, inner)
    if wide is None:
        return None
    inside = [i for i, config in enumerate(configs) if wide.why_outside(config) is None]
    history = History.from_configs(
        wide,
        [configs[i] for i in inside],
        [values[i] for i in inside],
        infeasible=[infeasible[i] for i in inside],
        noise=[noise[i] for i in inside],
    )
    return Frame(wide, history)


class Region:
    """The points of a space, in the coordinates in which the model sees them.

    Args:
      space: what is searched.
      frame: a wider space and what is known there; None: the space is all there is.
    """

    def __init__(self, space: SearchSpace, frame: Frame | None) -> None:
        self.space = space
        #: The space whose coordinates the model sees.
        self.model_space = space if frame is None else frame.space
        self._frame = frame
        names = list(space.names)
        #: The axis of the space behind each axis of the model's space; -1 where it is fixed.
        self.axis = np.array(
            [names.index(n) if n in names else -1 for n in self.model_space.names], np.int64
        )

    def to_model(self, points: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m D"]:
        """Snapped points of the space in the coordinates of the model's, snapped."""
        if self._frame is None:
            return points
        out = np.empty((len(points), self.model_space.num_dims))
        for k, (name, wide) in enumerate(self.model_space.parameters.items()):
            if self.axis[k] < 0:
                out[:, k] = wide.to_unit(self.space.fixed[name]) if name in self.space.fixed else 0
                continue
            mine, column = self.space.parameters[name], points[:, self.axis[k]]
            if is_real(mine):
                low, high = self._ends(name)
                out[:, k] = low + column * (high - low)
            else:
                levels, inverse = np.unique(column, return_inverse=True)
                to = [wide.to_unit(mine.from_unit(float(u))) for u in levels]
                out[:, k] = np.array(to, np.float64)[inverse]
        return snap(self.model_space, np.clip(out, 0.0, 1.0))

    def history(self, points: Float[np.ndarray, "n d"], history: History) -> History:
        """Everything known, in the model's coordinates: what lies outside, then the history."""
        if self._frame is None:
            return history.at(points)
        return self._frame.history.followed_by(history.at(self.to_model(points)))

    def features(self, points: Float[np.ndarray, "m d"]) -> Features:
        """What a kernel sees of snapped points of the space."""
        return features(self.model_space, self.to_model(points))

    def movable(self, points: Float[np.ndarray, "m d"]) -> Bool[np.ndarray, "m d"]:
        """[m, d] which coordinates of snapped points are real numbers in use."""
        real = np.array([is_real(d) for d in self.space.parameters.values()], bool)
        return active_mask(self.space, points) & real

    def _ends(self, name: str) -> tuple[float, float]:
        """Where a real range ends on its axis of the model's space."""
        low, high = self.space.parameters[name].extremes
        wide = self.model_space.parameters[name]
        return wide.to_unit(low), wide.to_unit(high)

    def bounds(self) -> tuple[Float[np.ndarray, " D"], Float[np.ndarray, " D"]]:
        """The ends of every axis of the model's space within the space that is searched."""
        ends = [
            self._ends(name)
            if name in self.space.parameters and is_real(self.space.parameters[name])
            else (0.0, 1.0)
            for name in self.model_space.names
        ]
        low, high = np.reshape(np.array(ends, np.float64), (-1, 2)).T
        return low, high

    def from_model(
        self, points: Float[np.ndarray, "k d"], moved: Float[np.ndarray, "k D"]
    ) -> Float[np.ndarray, "k d"]:
        """Points of the space, with the real coordinates of points of the model's space."""
        out, (lows, highs) = points.copy(), self.bounds()
        for k, name in enumerate(self.model_space.names):
            j = self.axis[k]
            if j >= 0 and is_real(self.space.parameters[name]):
                share = (moved[:, k] - lows[k]) / (highs[k] - lows[k])
                out[:, j] = np.clip(share, 0.0, 1.0)
        return out
