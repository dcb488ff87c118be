"""Means of the target over the nearest training rows, by two columns that say where a row is.

Networks and trees see one coordinate at a time and need many rows to learn a neighbourhood. What
its rows cost is next to all that a place says, and nearest neighbours have it at once (Cover & Hart
1967, doi:10.1109/TIT.1967.1053964; of a network's own inputs: Gorishniy et al. 2023, "TabR",
arXiv:2307.14338).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.datasets.column_codes import CLIP
from jaxopt_lab.datasets.columns import FloatArray
from jaxopt_lab.datasets.spread import mean_and_deviation

COUNTS = (5, 20)
"""Over how many of the nearest rows means are taken: the street, and the quarter."""
MOST_POINTS = 50_000
"""Training rows that are remembered; of more, evenly many."""
MOST_TWINS = 64
"""Rows with the same features that are passed over; of more, some count."""

_FARTHEST = 1e6  # a distance that is still finite when it is squared


@dataclass(frozen=True)
class NearCode:
    """What rows are near which, and their targets.

    Args:
      columns: the two columns that say where a row is.
      centre: mean of each, in its units.
      spread: standard deviation of each: distances are measured in these.
      first: first coordinate of the remembered rows [m], standardised.
      second: the second one.
      targets: for each output their standardised targets, or shares of a class [m].
      mean: of each encoded column on training rows.
      scale: standard deviation of the same.
      kin: a number for each remembered row, the same for rows that must not tell of each other;
        None in a model that was stored, which is trained no more.

    Raises:
      ValueError: if a number is not finite, a scale is not positive, or the parts do not fit.
    """

    columns: tuple[str, str]
    centre: tuple[float, float]
    spread: tuple[float, float]
    first: tuple[float, ...]
    second: tuple[float, ...]
    targets: tuple[tuple[float, ...], ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    kin: tuple[int, ...] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        places = (self.centre, self.spread, self.first, self.second)
        for values in (*places, *self.targets, self.mean, self.scale):
            if not all(type(value) is float and math.isfinite(value) for value in values):
                raise ValueError("neighbours: learned numbers must be finite")
        if not all(value > 0.0 for value in (*self.spread, *self.scale)):
            raise ValueError("neighbours: scales must be positive")
        sizes = {len(values) for values in (self.first, self.second, *self.targets)}
        if len(self.columns) != 2 or len(self.centre) != 2 or len(self.spread) != 2:
            raise ValueError("neighbours: two columns say where a row is")
        if not all(isinstance(name, str) for name in self.columns) or not self.targets:
            raise ValueError("neighbours: columns have names, and rows a target")
        if len(sizes) != 1 or min(sizes) <= max(COUNTS):
            raise ValueError(f"neighbours: {sizes} rows do not fit, or are too few")
        if not len(self.mean) == len(self.scale) == len(self.names):
            raise ValueError(f"neighbours: {len(self.mean)} means of {len(self.names)} columns")

    @property
    def names(self) -> list[str]:
        """Names of the encoded columns."""
        where = f"near({self.columns[0]},{self.columns[1]})"
        several = len(self.targets) > 1
        return [
            f"{where}:{count}" + (f":{output}" if several else "")
            for output in range(len(self.targets))
            for count in COUNTS
        ]

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(np.stack([self.first, self.second], axis=1))

    def raw(self, places: FloatArray, kin: NDArray[np.intp] | None = None) -> FloatArray:
        """Mean targets of the nearest rows.

        Args:
          places: [n, 2] of both columns in their units, NaN where missing.
          kin: of each row that is a training row, whose kin are passed over; -1 of others.

        Returns:
          Float64 [n, c], a column for each of `names`; NaN where a place is not known.
        """
        found = np.full((len(places), len(self.names)), np.nan)
        known = np.flatnonzero(np.isfinite(places).all(axis=1))
        if not known.size:
            return found
        points = _standardised(places[known], self.centre, self.spread)
        near = self._nearest(points, None if kin is None else kin[known])
        for output, targets in enumerate(self.targets):
            values = np.asarray(targets)[near]
            for i, count in enumerate(COUNTS):
                # Added up in one order, whatever rows come together.
                total = np.add.accumulate(values[:, :count], axis=1)[:, -1]
                found[known, output * len(COUNTS) + i] = total / count
        return found

    def encode(self, places: FloatArray, kin: NDArray[np.intp] | None = None) -> FloatArray:
        """The same, standardised; 0, the mean, where a place is not known."""
        scaled = (self.raw(places, kin) - self.mean) / self.scale
        return np.clip(np.nan_to_num(scaled), -CLIP, CLIP)

    def _nearest(self, points: FloatArray, kin: NDArray[np.intp] | None) -> NDArray[np.intp]:
        """The nearest remembered rows [n, max(COUNTS)] of standardised points, nearest first."""
        most = max(COUNTS)
        if kin is None or self.kin is None:
            return np.asarray(self._tree.query(points, k=most)[1], np.intp)
        mine = np.asarray(self.kin)
        twins = min(int(np.unique(mine, return_counts=True)[1].max()), MOST_TWINS)
        wanted = min(most + twins, len(mine))
        near = np.asarray(self._tree.query(points, k=wanted)[1], np.intp)
        order = np.argsort(mine[near] == kin[:, None], axis=1, kind="stable")
        return np.take_along_axis(near, order[:, :most], axis=1)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` rebuilds it exactly, without kin."""
        values = {k: v for k, v in asdict(self).items() if k != "kin"}
        return {
            key: [list(v) if isinstance(v, tuple) else v for v in value]
            for key, value in values.items()
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> NearCode:
        """Rebuild a code from `to_dict`."""
        values: dict[str, Any] = {
            k: tuple(tuple(v) if isinstance(v, list) else v for v in x) for k, x in data.items()
        }
        return cls(**values)


def fit_near(
    columns: tuple[str, str],
    places: FloatArray,
    targets: FloatArray,
    kin: NDArray[np.intp],
) -> NearCode:
    """Remember training rows.

    Args:
      columns: names of the two columns.
      places: [n, 2], in their units, NaN where missing.
      targets: [n, t], standardised, or shares of t classes.
      kin: [n], the same number for rows that must not tell of each other.

    Raises:
      UserError: if fewer rows than `COUNTS` needs have a place.
    """
    known = np.flatnonzero(np.isfinite(places).all(axis=1))
    if known.size > MOST_POINTS:
        known = known[np.linspace(0, known.size - 1, MOST_POINTS).round().astype(np.intp)]
    if known.size <= max(COUNTS) + 1:
        raise UserError(
            f"near {columns[0]},{columns[1]}: {known.size} training rows have both; at least "
            f"{max(COUNTS) + 2} are needed"
        )
    moments = [mean_and_deviation(places[known, i]) for i in range(2)]
    centre = (float(moments[0][0]), float(moments[1][0]))
    spread = (float(moments[0][1]) or 1.0, float(moments[1][1]) or 1.0)
    points = _standardised(places[known], centre, spread)
    width = targets.shape[1] * len(COUNTS)
    code = NearCode(
        columns=columns,
        centre=centre,
        spread=spread,
        first=tuple(points[:, 0].tolist()),
        second=tuple(points[:, 1].tolist()),
        targets=tuple(tuple(column.tolist()) for column in targets[known].T.astype(np.float64)),
        mean=(0.0,) * width,
        scale=(1.0,) * width,
        kin=tuple(kin[known].tolist()),
    )
    seen = code.raw(places[known], kin[known])
    moments = [mean_and_deviation(column) for column in seen.T]
    return replace(
        code,
        mean=tuple(float(m) for m, _ in moments),
        scale=tuple(float(s) or 1.0 for _, s in moments),
    )


def _standardised(
    places: FloatArray, centre: tuple[float, float], spread: tuple[float, float]
) -> FloatArray:
    with np.errstate(over="ignore"):
        return np.clip((places - centre) / spread, -_FARTHEST, _FARTHEST)
