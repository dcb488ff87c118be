"""Learned codes of single columns, fitted and applied by small functions.

A code is plain numbers and text, so that it goes through JSON and back unchanged and needs
no pickle. Tests hold the codes and each `apply_*` function equal to scikit-learn's imputer, scaler
and quantile transform, which take milliseconds a column where a table may have thousands.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri
from sklearn.preprocessing import OneHotEncoder

from jaxopt_lab.datasets.columns import MISSING, FloatArray
from jaxopt_lab.datasets.number_reading import NumberReading
from jaxopt_lab.datasets.spread import mean_and_deviation

CLIP = 10.0
"""Standardised values are clipped to plus and minus this many standard deviations."""
NUM_QUANTILES = 256
"""Quantiles learned per column by the encoding "quantile"."""
_PROBABILITY_MARGIN = 1e-7 - np.spacing(1)  # as in QuantileTransformer


@dataclass(frozen=True)
class NumericCode:
    """How one column of numbers becomes one or more encoded columns.

    Args:
      column: name in the table.
      part: for dates the part used (`year` ...), else "".
      date_format: format of a date column, if it was text.
      median: replaces missing values, in the column's units.
      mean: of the training column after filling, in its units.
      scale: standard deviation of the same, 1 for a constant column.
      marked: also give 1 where missing (training had missing values).
      edges: bounds of the piecewise-linear bins, increasing; () for no bins.
      quantiles: training quantiles for the quantile transform; () to standardise.
      reading: how a text column writes its numbers; None for typed ones and for models of
        earlier versions.
    """

    column: str
    part: str
    date_format: str | None
    median: float
    mean: float
    scale: float
    marked: bool
    edges: tuple[float, ...] = ()
    quantiles: tuple[float, ...] = ()
    reading: NumberReading | None = None

    def __post_init__(self) -> None:
        numbers = (self.median, self.mean, self.scale, *self.edges, *self.quantiles)
        if not all(math.isfinite(number) for number in numbers):
            raise ValueError(f"column {self.column!r}: learned numbers must be finite")
        if self.scale <= 0.0:
            raise ValueError(f"column {self.column!r}: scale must be positive, got {self.scale}")
        if any(low >= high for low, high in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError(f"column {self.column!r}: bin edges must increase")

    @property
    def names(self) -> list[str]:
        """Names of the encoded columns."""
        base = f"{self.column}.{self.part}" if self.part else self.column
        bins = [f"{base}:bin{number}" for number in range(max(len(self.edges) - 1, 0))]
        return [base, *([f"{base}:missing"] if self.marked else []), *bins]


@dataclass(frozen=True)
class CategoryCode:
    """How one column of labels becomes one-hot columns.

    Args:
      column: name in the table.
      categories: the frequent labels, sorted.
      pooled: a last column takes the rare labels, and those never seen in training.
      exact: text is a label as it is written; False, in models of earlier versions, reads words
        such as "NA" as missing.
    """

    column: str
    categories: tuple[str, ...]
    pooled: bool
    exact: bool = False

    @property
    def names(self) -> list[str]:
        """Names of the encoded columns."""
        rare = [f"{self.column}=(rare)"] if self.pooled else []
        return [f"{self.column}={label}" for label in self.categories] + rare


def fit_numeric(
    values: FloatArray,
    column: str,
    numeric: str,
    num_bins: int,
    part: str = "",
    date_format: str | None = None,
    reading: NumberReading | None = None,
) -> NumericCode:
    """Learn the code of one column of numbers, as scikit-learn's transformers would.

    Args:
      values: training column float64 [n], NaN where missing, in its own units.
      column: its name.
      numeric: "standard", "quantile" or "piecewise_linear".
      num_bins: bins for "piecewise_linear".
      part: for dates the part these values are.
      date_format: format of a date column, if it was text.
      reading: how a text column writes its numbers.

    Returns:
      The code.
    """
    known = values[~np.isnan(values)]
    median = float(np.median(known)) if known.size else 0.0
    whole = np.where(np.isnan(values), median, values)
    mean, scale = mean_and_deviation(whole)
    quantiles: tuple[float, ...] = ()
    if numeric == "quantile" and known.size:
        even = np.linspace(0.0, 100.0, min(NUM_QUANTILES, len(values)))
        quantiles = tuple(np.maximum.accumulate(np.percentile(whole, even)).tolist())
    return NumericCode(
        column=column,
        part=part,
        date_format=date_format,
        median=median,
        mean=mean,
        scale=scale or 1.0,
        marked=known.size < values.size,
        edges=bin_edges(known, num_bins) if numeric == "piecewise_linear" else (),
        quantiles=quantiles,
        reading=reading,
    )


def bin_edges(values: FloatArray, num_bins: int) -> tuple[float, ...]:
    """Choose the bounds of piecewise-linear bins.

    Args:
      values: training values [n] without NaN, in the column's units.
      num_bins: at most this many bins.

    Returns:
      Increasing bounds: the distinct values where they are at most `num_bins` + 1, else the
      training quantiles with equal ones merged; () for at most two distinct values, where
      the standardised value already says everything.

    Source: Gorishniy et al. 2022, arXiv:2203.05556, section 3.2.1.
    """
    distinct = np.unique(values)
    if distinct.size <= 2 or num_bins < 1:
        return ()
    if distinct.size <= num_bins + 1:
        return tuple(distinct.tolist())
    edges = np.unique(np.quantile(values, np.linspace(0.0, 1.0, num_bins + 1)))
    return tuple(edges.tolist()) if edges.size > 2 else ()


def fit_categories(
    labels: NDArray[np.object_], column: str, max_categories: int, min_frequency: int
) -> CategoryCode:
    """Learn the code of one column of labels with scikit-learn.

    Args:
      labels: training column, str [n].
      column: its name.
      max_categories: at most this many encoded columns.
      min_frequency: labels of fewer rows are rare.

    Returns:
      The code.
    """
    encoder = OneHotEncoder(
        max_categories=max_categories,
        min_frequency=min_frequency,
        handle_unknown="infrequent_if_exist",
        sparse_output=False,
    ).fit(labels[:, None])
    rare = encoder.infrequent_categories_[0]
    rare = set() if rare is None else set(rare)
    frequent = tuple(str(label) for label in encoder.categories_[0] if label not in rare)
    return CategoryCode(column, frequent, bool(rare), exact=True)


def apply_standard(values: FloatArray, code: NumericCode) -> FloatArray:
    """Standardise, clipped; float64 [n] in standard deviations."""
    with np.errstate(over="ignore"):  # a scale may be subnormal
        return np.clip((values - code.mean) / code.scale, -CLIP, CLIP)


def apply_quantiles(values: FloatArray, quantiles: Sequence[float]) -> FloatArray:
    """Map values to a normal distribution by their training quantiles.

    Args:
      values: float64 [n] without NaN.
      quantiles: the training quantiles at even probabilities.

    Returns:
      Float64 [n], standard normal where values are spread as in training; equal to
      scikit-learn's `QuantileTransformer(output_distribution="normal")`.
    """
    known = np.asarray(quantiles)
    even = np.linspace(0.0, 1.0, known.size)
    upward = _interpolate(values, known, even)
    downward = -_interpolate(-values, -known[::-1], -even[::-1])
    probability = 0.5 * (upward + downward)
    probability[values <= known[0]] = 0.0
    probability[values >= known[-1]] = 1.0
    bound = ndtri(1.0 - _PROBABILITY_MARGIN)
    return np.clip(ndtri(probability), -bound, bound)


def _interpolate(values: FloatArray, known: FloatArray, targets: FloatArray) -> FloatArray:
    """`np.interp`, also where known values lie so close that its slopes overflow."""
    with np.errstate(all="ignore"):
        found = np.interp(values, known, targets)
    broken = np.flatnonzero(~np.isfinite(found) | (np.abs(found) > 1.0))
    if broken.size:
        right = np.clip(np.searchsorted(known, values[broken], side="right"), 1, known.size - 1)
        low, high = known[right - 1], known[right]
        share = (values[broken] - low) / np.where(high > low, high - low, 1.0)
        step = targets[right] - targets[right - 1]
        found[broken] = targets[right - 1] + np.clip(share, 0.0, 1.0) * step
    return found


def apply_bins(values: FloatArray, edges: Sequence[float]) -> FloatArray:
    """Encode values piecewise linearly: a bin is 0 below, 1 above, linear inside.

    The paper lets the first and the last bin go on linearly outside the training range;
    here they stop at 0 and 1, and the standardised column goes on (up to its clip).

    Args:
      values: float64 [n] without NaN, in the column's units.
      edges: increasing bounds [T + 1].

    Returns:
      Float64 [n, T] within [0, 1].

    Examples:
      >>> apply_bins(np.array([-1.0, 0.5, 3.0]), (0.0, 1.0, 5.0)).tolist()
      [[0.0, 0.0], [0.5, 0.0], [1.0, 0.5]]

    Source: Gorishniy et al. 2022, arXiv:2203.05556, equation 1.
    """
    bounds = np.asarray(edges, dtype=np.float64)
    with np.errstate(over="ignore"):
        inside = (values[:, None] - bounds[:-1]) / np.diff(bounds)
    return np.clip(inside, 0.0, 1.0)


def encode_numbers(values: FloatArray, code: NumericCode, out: NDArray[np.float32]) -> None:
    """Write the encoded columns of one column of numbers into `out` float32 [n, width]."""
    missing = np.isnan(values)
    filled = np.where(missing, code.median, values)
    if code.quantiles:
        out[:, 0] = apply_quantiles(filled, code.quantiles)
    else:
        out[:, 0] = apply_standard(filled, code)
    if code.marked:
        out[:, 1] = missing
    if code.edges:
        out[:, 1 + code.marked :] = apply_bins(filled, code.edges)


def encode_labels(
    labels: NDArray[np.object_], code: CategoryCode, out: NDArray[np.float32]
) -> None:
    """Write the one-hot columns of one column of labels into `out` float32 [n, width]."""
    positions = label_positions(labels, code)
    out[:] = 0.0
    rows = np.flatnonzero(positions >= 0)
    out[rows, positions[rows]] = 1.0


def label_positions(labels: NDArray[np.object_], code: CategoryCode) -> NDArray[np.intp]:
    """Place [n] of each label among those of a code, the pooled one last; -1 for none."""
    positions = pd.Index(code.categories, dtype=object).get_indexer(labels)
    return np.where(positions < 0, len(code.categories), positions) if code.pooled else positions


def unseen_labels(labels: NDArray[np.object_], code: CategoryCode) -> list[str]:
    """Distinct present labels that have no column of their own, sorted."""
    return sorted(set(labels.tolist()) - set(code.categories) - {MISSING})


def code_to_dict(code: NumericCode | CategoryCode) -> dict[str, Any]:
    """Give a code as plain JSON values."""
    items = ((field.name, getattr(code, field.name)) for field in fields(code))
    values = {key: list(v) if isinstance(v, tuple) else v for key, v in items}
    if isinstance(code, NumericCode):
        values["reading"] = code.reading and code.reading.to_dict()
    return values


def code_from_dict(data: Mapping[str, Any]) -> NumericCode | CategoryCode:
    """Rebuild a code from `code_to_dict`."""
    values: dict[str, Any] = {
        key: tuple(v) if isinstance(v, list) else v for key, v in data.items()
    }
    if "categories" in values:
        return CategoryCode(**values)
    if values.get("reading") is not None:
        values["reading"] = NumberReading.from_dict(values["reading"])
    return NumericCode(**values)
