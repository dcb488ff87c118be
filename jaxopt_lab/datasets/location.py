"""Which two columns say where a row is: those whose neighbours tell what no column does alone."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from jaxopt_lab.core.errors import UserError, did_you_mean
from jaxopt_lab.datasets.columns import FloatArray, to_numbers
from jaxopt_lab.datasets.encoders import fit_encoder
from jaxopt_lab.datasets.several_targets import TargetTransforms, fit_target
from jaxopt_lab.datasets.targets import TargetTransform

if TYPE_CHECKING:
    from jaxopt_lab.datasets.tables import Table

LEAST_ROWS = 300
"""Fewer rows say too little about neighbourhoods."""
LEAST_GAIN = 0.12
"""Share of the residual variance that neighbours must explain. Coordinates of houses explained 0.20
to 0.22; two pairs of other columns 0.07 to 0.08, where boosted trees then came out worse."""
MOST_CLASSES = 10
_MOST_ROWS = 4000
_MOST_COLUMNS = 20
_LEAST_DISTINCT = 30
_LEAST_KNOWN = 0.8
_NUM_BINS = 16
_PENALTY = 10.0
_NEIGHBOURS = 10
_LEAST_ERRORS = 4.0  # of the gain, in standard errors: many pairs are tried


class Location(NamedTuple):
    """Two columns, and the share of the residual variance that their neighbourhoods explain."""

    columns: tuple[str, str]
    gain: float


def find_location(table: Table) -> Location | None:
    """Look for two numeric columns that are coordinates, whatever they are called.

    A ridge regression of all columns' piecewise-linear encodings leaves residuals that hardly any
    sum of functions of single columns explains. The pair is taken whose nearest ten rows explain
    most of them beyond what the nearest by either column alone do, out of a sample of at most
    4,000 rows, if that is `LEAST_GAIN` or more.

    Args:
      table: training rows. With groups or times nothing is found: neighbours of other groups, or
        of the past alone, are no such neighbours.

    Returns:
      None where there are none.
    """
    if table.groups is not None or table.times is not None or table.num_classes > MOST_CLASSES:
        return None
    table = table.take(_sample(table))
    if len(table) < LEAST_ROWS:
        return None
    coordinates = _coordinates(table)
    if len(coordinates) < 2:
        return None
    residuals = _residuals(table)
    alone = {name: _gain(values[:, None], residuals) for name, values in coordinates.items()}
    best = Location(("", ""), 0.0)
    for first, second in combinations(coordinates, 2):
        places = np.stack([coordinates[first], coordinates[second]], axis=1)
        gain = _gain(places, residuals) - alone[first] - alone[second]
        if gain > best.gain:
            best = Location((first, second), gain)
    return best if best.gain >= LEAST_GAIN else None


def checked_location(columns: Any, table: Table) -> tuple[str, str]:
    """Two columns that somebody says are coordinates.

    Args:
      columns: two names.
      table: that has them.

    Raises:
      UserError: in one line, if they are not two columns of numbers, or rows are split by groups or
        times.
    """
    names = (columns,) if isinstance(columns, str) else tuple(columns)
    if len(names) != 2 or len(set(names)) != 2:
        raise UserError(f"near takes two columns, such as longitude,latitude; got {names}")
    for name in names:
        if name not in table.kinds:
            raise UserError(f"near: no column {name!r}.{did_you_mean(str(name), table.kinds)}")
        if table.kinds[name] != "numeric":
            raise UserError(f"near: the column {name!r} holds no numbers")
    if table.groups is not None or table.times is not None:
        raise UserError("near does not go with groups or times: rows near by would be held out")
    return str(names[0]), str(names[1])


def kin_of(table: Table) -> NDArray[np.intp]:
    """A number for each row, the same for rows with equal features, which no split parts."""
    return np.arange(len(table)) if table.equal is None else np.asarray(table.equal, np.intp)


def outputs_of(table: Table, transform: TargetTransform | TargetTransforms | None) -> FloatArray:
    """What neighbours tell of a row [n, t]: its standardised targets, or shares of classes, of the
    second one alone where there are two."""
    if transform is not None:
        return np.asarray(transform.forward(table.target), np.float64).reshape(len(table), -1)
    shares = np.eye(table.num_classes)[table.target]
    return shares[:, 1:] if table.num_classes == 2 else shares


def _sample(table: Table) -> np.ndarray:
    """Evenly many rows, one of each set of equal ones."""
    if table.equal is None:
        rows = np.arange(len(table))
    else:
        rows = np.sort(np.unique(table.equal, return_index=True)[1])
    if len(rows) <= _MOST_ROWS:
        return rows
    return rows[np.linspace(0, len(rows) - 1, _MOST_ROWS).round().astype(int)]


def _coordinates(table: Table) -> dict[str, FloatArray]:
    """Standardised columns that may say where a row is: those of the most different values."""
    found, distinct = {}, {}
    for name, kind in table.kinds.items():
        if kind != "numeric":
            continue
        values, _ = to_numbers(table.frame[name], table.readings.get(name))
        known = values[np.isfinite(values)]
        number = np.unique(known).size
        if number < _LEAST_DISTINCT or known.size < _LEAST_KNOWN * len(values):
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = (values - known.mean()) / known.std()
        if np.isfinite(scaled).sum() == known.size:
            found[name], distinct[name] = scaled, number
    most = sorted(found, key=lambda name: -distinct[name])[:_MOST_COLUMNS]
    return {name: values for name, values in found.items() if name in most}


def _residuals(table: Table) -> FloatArray:
    """Leave-one-out errors [n, t] of ridge regression on the encoded columns, in closed form."""
    encoder = fit_encoder(
        table.frame,
        table.kinds,
        num_bins=_NUM_BINS,
        date_formats=table.date_formats,
        readings=table.readings,
    )
    inputs = encoder.transform(table.frame).astype(np.float64)
    transform = fit_target(table) if table.task == "regression" else None
    outputs = outputs_of(table, transform)
    inputs -= inputs.mean(axis=0)
    outputs = outputs - outputs.mean(axis=0)
    gram = inputs.T @ inputs + _PENALTY * np.eye(inputs.shape[1])
    half = np.linalg.solve(np.linalg.cholesky(gram), inputs.T)  # its squares sum to leverages
    leverage = (half**2).sum(axis=0) + 1.0 / len(inputs)
    left = outputs - half.T @ (half @ outputs)
    return np.asarray(left / np.maximum(1.0 - leverage, 1e-3)[:, None])


def _gain(places: FloatArray, residuals: FloatArray) -> float:
    """Share of the variance of residuals [n, t] that the nearest others explain; 0 where chance
    may."""
    known = np.isfinite(places).all(axis=1)
    points, mine = places[known], residuals[known]
    near = cKDTree(points).query(points, k=_NEIGHBOURS + 1)[1]
    others = np.where(near == np.arange(len(points))[:, None], -1, near)
    weights = (others >= 0) / (others >= 0).sum(axis=1, keepdims=True)
    means = (mine[others] * weights[:, :, None]).sum(axis=1)
    slope = float((means * mine).sum() / max(float((means**2).sum()), 1e-300))
    before = (mine**2).sum(axis=1)
    gained = before - ((mine - min(max(slope, 0.0), 1.0) * means) ** 2).sum(axis=1)
    error = float(gained.std()) / np.sqrt(len(gained))
    if not gained.mean() > _LEAST_ERRORS * error:
        return 0.0
    return float(gained.sum() / max(float(before.sum()), 1e-300))
