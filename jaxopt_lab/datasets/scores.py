"""Scores of predictions in the target's own units."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import accuracy_score, f1_score, log_loss

from jaxopt_lab.datasets.spread import magnitude, mean_and_deviation, root_mean_square

_FLOOR = 1e-3


def regression_scores(truth: ArrayLike, predicted: ArrayLike) -> dict[str, float]:
    """Score predicted numbers.

    Args:
      truth: [n], in the target's units.
      predicted: [n], in the same units.

    Returns:
      `rmse` and `mae` in the target's units, `r2` (nan for a constant truth), and `log_rmse`
      (natural logarithm) where every true value is positive. There a prediction counts as at
      least a thousandth of the smallest true value.

    Raises:
      ValueError: if the shapes differ or are empty.
    """
    true, guess = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    if true.shape != guess.shape or true.ndim != 1 or true.size == 0:
        raise ValueError(f"truth has shape {true.shape}, predicted {guess.shape}")
    with np.errstate(over="ignore"):
        error = guess - true
    rmse, deviation = root_mean_square(error), mean_and_deviation(true)[1]
    unit = magnitude(error) if np.isfinite(error).all() else 1.0
    scores = {
        "rmse": rmse,
        "mae": float(np.mean(np.abs(error / unit))) * unit,
        "r2": 1.0 - (rmse / deviation) ** 2 if deviation > 0.0 else float("nan"),
    }
    if true.min() > 0.0:
        log_error = np.log(np.maximum(guess, _FLOOR * true.min())) - np.log(true)
        scores["log_rmse"] = float(np.sqrt(np.mean(log_error**2)))
    return scores


def classification_scores(truth: ArrayLike, probabilities: ArrayLike) -> dict[str, float]:
    """Score predicted class probabilities.

    Args:
      truth: class indices int [n].
      probabilities: [n, C], rows that sum to 1; normalised and kept above 1e-15 here.

    Returns:
      `accuracy`, `log_loss` in nats per row, and `macro_f1` over the classes that occur in
      the truth or the predictions.

    Raises:
      ValueError: if the shapes do not fit.
    """
    true, chance = np.asarray(truth), np.asarray(probabilities, np.float64)
    if chance.ndim != 2 or true.shape != chance.shape[:1] or true.size == 0:
        raise ValueError(f"truth has shape {true.shape}, probabilities {chance.shape}")
    chosen = chance.argmax(axis=1)
    chance = np.clip(chance / chance.sum(axis=1, keepdims=True), 1e-15, 1.0)
    return {
        "accuracy": float(accuracy_score(true, chosen)),
        "log_loss": float(log_loss(true, chance, labels=np.arange(chance.shape[1]))),
        "macro_f1": float(f1_score(true, chosen, average="macro", zero_division=0.0)),
    }
