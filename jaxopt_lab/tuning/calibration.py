"""Whether class probabilities get a temperature, decided on rows that networks did not see.

The temperature is fitted to all out-of-fold rows by their log loss. Whether it is kept, and what
the log loss is said to be after it, is decided with temperatures of which none was fitted to the
rows that it is applied to: those of a fold get the temperature of all other folds.

An ensemble is published with the networks of all folds, whose mean is less sure than the one
network of each trial that an out-of-fold row has. So its temperature is kept only below 1 unless
there is one split: above, it would make the ensemble less sure a second time (measured on
`hpc_data`, 3 folds: 1.15 raised the log loss of test rows from 0.412 to 0.420, where 0.93 would
have been best).
"""

from typing import Any, NamedTuple

import numpy as np

from jaxopt_lab.problems.tabular.temperatures import HIGHEST, LEAST, LOWEST, tempered

#: The log loss must fall by more than so many standard errors of its fall over rows, so that
#: probabilities which are right already stay as they are.
STANDARD_ERRORS = 2.0
#: Parts of the rows of one hold-out split, which stand for folds.
NUM_PARTS = 5
#: Bins of `calibration_error`, as in Guo et al. 2017.
NUM_BINS = 15


class Calibration(NamedTuple):
    """What was found for a model.

    Attributes:
      temperature: to be applied; 1 where the fitted one is not kept.
      fitted: the temperature with the least log loss.
      log_loss: out-of-fold, without a temperature and with those of the other folds.
      gain_standard_error: of the difference of these, over rows.
      calibration_error: likewise without and with.
    """

    temperature: float
    fitted: float
    log_loss: tuple[float, float]
    gain_standard_error: float
    calibration_error: tuple[float, float]

    def told(self) -> dict[str, Any]:
        """The same for `best.json`."""
        names = ("before", "after")
        return {
            "temperature": self.temperature,
            "fitted": self.fitted,
            "log_loss": dict(zip(names, self.log_loss, strict=True)),
            "gain_standard_error": self.gain_standard_error,
            "expected_calibration_error": dict(zip(names, self.calibration_error, strict=True)),
        }


def calibrate(
    chance: np.ndarray,
    truth: np.ndarray,
    fold: np.ndarray,
    weights: np.ndarray | None = None,
    averaged: bool = False,
) -> Calibration:
    """Fit a temperature, and keep it where it lowers the log loss for certain.

    Args:
      chance: out-of-fold probabilities [n, c].
      truth: class indices int [n].
      fold: [n], which one a row was held out in; all the same for one hold-out split, whose rows
        are taken apart here.
      weights: [n] of rows.
      averaged: whether new rows get the mean of several networks for each one here, which makes
        them less sure by itself: then no temperature above 1 is kept.
    """
    counts = np.ones(len(truth)) if weights is None else np.asarray(weights, np.float64)
    parts = fold if len(np.unique(fold)) > 1 else np.arange(len(truth)) % NUM_PARTS
    fitted, crossed = fit(chance, truth, counts), chance.copy()
    for part in np.unique(parts):
        mine = parts == part
        if counts[~mine].any():
            found = fit(chance[~mine], truth[~mine], counts[~mine])
            crossed[mine] = tempered(chance[mine], found)
    before, after = _losses(chance, truth), _losses(crossed, truth)
    gains = before - after
    gain = float(np.average(gains, weights=counts))
    error = float(np.sqrt(np.sum((counts * (gains - gain)) ** 2)) / counts.sum())
    is_kept = gain > STANDARD_ERRORS * error and not (averaged and fitted > 1.0)
    return Calibration(
        fitted if is_kept else 1.0,
        fitted,
        (float(np.average(before, weights=counts)), float(np.average(after, weights=counts))),
        error,
        (calibration_error(chance, truth, counts), calibration_error(crossed, truth, counts)),
    )


def fit(chance: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> float:
    """The temperature between `LOWEST` and `HIGHEST` with the least mean log loss.

    Args:
      chance: probabilities [n, c].
      truth: class indices int [n].
      weights: [n] of rows.
    """
    from scipy.optimize import minimize_scalar

    def loss(logarithm: float) -> float:
        losses = _losses(tempered(chance, float(np.exp(logarithm))), truth)
        return float(np.average(losses, weights=weights))

    # In 1 / temperature the loss is convex, so in its logarithm there is one minimum, too.
    bounds = np.log(LOWEST), np.log(HIGHEST)
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-5})
    return float(np.clip(np.exp(found.x), LOWEST, HIGHEST))


def calibration_error(
    chance: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Expected calibration error: how far confidence lies from accuracy, over bins of confidence.

    Args:
      chance: probabilities [n, c].
      truth: class indices int [n].
      weights: [n] of rows.

    Returns:
      The mean over rows of |accuracy - mean confidence| of their bin; 15 equal bins of the
      probability of the likeliest class.

    Source: Naeini, Cooper & Hauskrecht 2015, "Obtaining well calibrated probabilities using
    Bayesian binning", AAAI, doi:10.1609/aaai.v29i1.9602.
    """
    counts = np.ones(len(truth)) if weights is None else np.asarray(weights, np.float64)
    sure = chance.max(axis=1)
    bins = np.minimum((sure * NUM_BINS).astype(int), NUM_BINS - 1)
    off = counts * ((chance.argmax(axis=1) == truth) - sure)
    return float(np.abs(np.bincount(bins, off, NUM_BINS)).sum() / counts.sum())


def _losses(chance: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Log loss [n] of each row, in nats."""
    return np.asarray(-np.log(np.maximum(chance[np.arange(len(truth)), truth], LEAST)))
