"""Prediction intervals from the errors on rows that a network was not trained on.

With one hold-out split these are the residuals of split conformal prediction, with K folds those of
cross-conformal prediction and CV+. They are absolute errors on the scale that is learnt, so that
those of a logarithm are factors.

The interval is centred on the published model (the refitted winner, the ensemble), where CV+ takes
the networks of the folds. The theorems (a coverage of at least c for split conformal, of at least
2c - 1 for CV+) hold for those networks; that the coverage holds for the published model, which saw
more rows, is not proved but measured on the test rows.

Sources: Vovk 2015, "Cross-conformal predictors", arXiv:1208.0806; Barber, Candès, Ramdas &
Tibshirani 2021, "Predictive inference with the jackknife+", arXiv:1905.02928.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.datasets.target_column import LARGEST

#: Coverage of the intervals whose width and share of test rows are reported.
REPORTED_COVERAGE = 0.9


@dataclass(frozen=True, eq=False)
class Residuals:
    """Sorted absolute errors on held-out rows, on the scale that is learnt.

    Attributes:
      single: [n] float64, of the winner's networks; of several targets [n, T], each column sorted.
      ensemble: likewise, of the ensemble.

    Raises:
      ValueError: if they are not that.
    """

    single: np.ndarray
    ensemble: np.ndarray

    def __post_init__(self) -> None:
        for name in ("single", "ensemble"):
            values = getattr(self, name)
            if values.dtype != np.float64 or values.ndim not in (1, 2) or not values.size:
                raise ValueError(f"residuals of the {name} are no row of numbers")
            sinks = (np.diff(values, axis=0) < 0).any()
            if not np.isfinite(values).all() or (values[0] < 0).any() or sinks:
                raise ValueError(f"residuals of the {name} must be finite and sorted, from 0 up")


def conformal_quantile(residuals: np.ndarray, coverage: Any) -> float:
    """The ceil((n + 1) coverage)-th smallest residual.

    With exchangeable rows a further residual is at most as large with that probability or more.

    Args:
      residuals: [n], sorted.
      coverage: between 0 and 1.

    Raises:
      UserError: if the coverage is no such number, or needs more rows.

    Examples:
      >>> conformal_quantile(np.arange(1.0, 20.0), 0.9)
      18.0
    """
    if not isinstance(coverage, int | float) or not 0 < coverage < 1:
        raise UserError(f"coverage must be a number between 0 and 1, got {coverage!r}")
    number = len(residuals)
    rank = math.ceil((number + 1) * coverage - 1e-9)
    if rank > number:
        raise UserError(
            f"{number} held-out rows are too few for intervals of coverage {coverage:g}: at most "
            f"{math.floor(number / (number + 1) * 1000) / 1000:g}; ask for less, or tune on more "
            "rows"
        )
    return float(residuals[rank - 1])


def around(predicted: np.ndarray, distance: float, log: bool) -> np.ndarray:
    """Lower and upper ends [n, 2] about predictions [n]; a factor exp(distance) away if `log`."""
    if not log:
        return np.stack([predicted - distance, predicted + distance], axis=1)
    with np.errstate(over="ignore"):
        upper = np.minimum(predicted * np.exp(distance), LARGEST)
    return np.stack([predicted * np.exp(-distance), upper], axis=1)


def interval_scores(truth: np.ndarray, ends: np.ndarray) -> dict[str, float]:
    """Share of rows whose truth [n] lies within ends [n, 2], and the mean width of these."""
    inside = (ends[:, 0] <= truth) & (truth <= ends[:, 1])
    return {"coverage": float(inside.mean()), "mean_width": float(np.mean(ends[:, 1] - ends[:, 0]))}
