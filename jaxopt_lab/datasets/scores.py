"""Scores of predictions in the target's own units."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import accuracy_score, f1_score, log_loss

from jaxopt_lab.datasets.spread import magnitude, mean_and_deviation, root_mean_square
from jaxopt_lab.datasets.target_losses import TargetLoss

_FLOOR = 1e-3
FloatArray = NDArray[np.float64]


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
        log_error = _log(guess, true) - np.log(true)
        scores["log_rmse"] = float(np.sqrt(np.mean(log_error**2)))
    return scores


def loss_scores(
    truth: ArrayLike, predicted: ArrayLike, loss: TargetLoss, log: bool, scale: float
) -> dict[str, float]:
    """Score predicted numbers as the loss that they were learnt by has it.

    Args:
      truth: [n], in the target's units.
      predicted: [n], in the same units.
      loss: that was minimised.
      log: whether it was of logarithms.
      scale: of the target's standardisation, on the scale that was learnt.

    Returns:
      The loss's own score under its name, and the scores of `regression_scores`; of a quantile
      `pinball` in the target's units and `share_below`, the share of true values that are at most
      the predicted ones, instead.

    Raises:
      ValueError: if the shapes differ or are empty.
    """
    scores = regression_scores(truth, predicted)
    if loss.name == "squared":
        return scores
    true, guess = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    if loss.name == "quantile":
        unit = magnitude(true)
        scores = {
            "pinball": loss.error(true, guess, unit),
            "share_below": float(np.mean(true <= guess)),
        }
    if log:
        return {loss.metric(log): loss.error(np.log(true), _log(guess, true), scale), **scores}
    return {loss.metric(log): loss.error(true, guess, scale), **scores}


def _log(guess: FloatArray, true: FloatArray) -> FloatArray:
    """Logarithms of predictions, which count as at least a thousandth of the least true value."""
    return np.asarray(np.log(np.maximum(guess, _FLOOR * true.min())))


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
