"""Committees of boosted trees: settings are tried on folds, and a weighted mean of some is kept.

Networks are searched and averaged, so trees beside them are, too, if by a handful of settings:
shallow and deep trees, many and few rows in a leaf, all rows and columns or a part of them,
thresholds that are the best or drawn, labels as sets or as numbers; and the number of trees. What
is averaged are outputs, numbers or logits, so that a committee is one model of more trees.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxopt_lab.datasets import TargetLoss
from jaxopt_lab.problems.tabular.trees import Trees, places_of, weighted
from jaxopt_lab.tuning.boosting import DEFAULT, FITS, Boosting, Fitted, Rows, classes_of, of_classes
from jaxopt_lab.tuning.ensemble import combine, greedy

#: Settings and their weights, which sum to 1.
Committee = tuple[tuple[Boosting, float], ...]
#: Of one member, as libraries have it unasked.
PLAIN: Committee = ((DEFAULT, 1.0),)
_PART = Boosting(learning_rate=0.05, rows=0.7, columns=0.6, l2=1.0)
_DRAWN = _PART._replace(learning_rate=0.1, extra=True, leaf_rows=5)
#: Kind -> what is tried of it, its number of rounds apart.
TRIED: dict[str, tuple[Boosting, ...]] = {
    "lightgbm": (
        DEFAULT,
        _PART._replace(leaves=8, depth=3, leaf_rows=10),
        _PART._replace(leaves=16, depth=4, leaf_rows=5),
        _PART._replace(leaf_rows=5),
        _PART._replace(leaves=63),
        _DRAWN._replace(leaves=16, depth=4),
        _DRAWN,
        _PART._replace(leaf_rows=5, as_numbers=True),
        _DRAWN._replace(as_numbers=True),
        Boosting(learning_rate=0.04, leaves=128, depth=8, leaf_rows=5, l2=3.0, as_numbers=True),
    ),
    "hist_gradient_boosting": (
        DEFAULT,
        _PART._replace(leaves=8, depth=3, leaf_rows=10, learning_rate=0.1),
        _PART._replace(leaves=16, depth=4, leaf_rows=5, learning_rate=0.1),
    ),
}
#: Members of a committee, repetitions counted.
_MAX_STEPS = 20
#: More members must lower the loss by more than this share of it.
_TOLERANCE = 1e-3


class Searched(NamedTuple):
    """The best committee of what was tried.

    Attributes:
      committee: settings, each with its number of rounds, and weights.
      predicted: outputs [n, o] for the watched rows of each fold.
    """

    committee: Committee
    predicted: list[np.ndarray]


def search(
    name: str,
    folds: Sequence[tuple[Rows, Rows]],
    labels: Sequence[list[int]],
    num_outputs: int,
    is_regression: bool,
    seed: int,
    loss: TargetLoss,
) -> Searched:
    """Try settings on folds, and weigh them by forward selection on the watched rows of all.

    All folds have one number of rounds of each setting, the mean of the best of each. On these rows
    a committee is never worse than the best setting alone.

    Args:
      name: of `FITS`.
      folds: training and watched rows.
      labels: of each fold, which columns are of labels.
      num_outputs: o.
      is_regression: whether targets are numbers.
      seed: `random_state`.
      loss: of a regression; a committee has the lowest mean of it, or of log loss.

    Raises:
      ValueError: if the rows are too few or too odd.
    """
    classes = [None if is_regression else classes_of(train.target) for train, _ in folds]
    watched = [of_classes(rows, known) for (_, rows), known in zip(folds, classes, strict=True)]
    tried, fitted, outputs = [], [], []
    for settings in _different(TRIED[name], any(labels)):
        models = []
        for (train, _), rows, columns, known in zip(folds, watched, labels, classes, strict=True):
            columns = [] if settings.as_numbers else columns
            models.append(FITS[name](settings, train, columns, known, seed, loss, rows))
        rounds = max(round(float(np.mean([model.best_round for model in models]))), 1)
        tried.append(settings._replace(rounds=rounds))
        fitted.append(models)
        parts = [
            _placed(model.outputs(rows.inputs, rounds), known, num_outputs)
            for model, (_, rows), known in zip(models, folds, classes, strict=True)
        ]
        outputs.append(np.concatenate(parts))
    weights = _weigh(np.stack(outputs), [rows for _, rows in folds], loss, is_regression)
    chosen = np.flatnonzero(weights)
    predicted = [
        combine(
            np.stack([_read(fitted[i][k], num_outputs, tried[i], rows.inputs) for i in chosen]),
            weights[chosen],
        )
        for k, (_, rows) in enumerate(folds)
    ]
    return Searched(tuple((tried[i], float(weights[i])) for i in chosen), predicted)


def fit_committee(
    name: str,
    committee: Committee,
    train: Rows,
    labels: list[int],
    classes: np.ndarray | None,
    num_outputs: int,
    seed: int,
    loss: TargetLoss,
) -> Trees:
    """Fit each setting to all rows; one model, whose outputs are the weighted mean.

    Args:
      name: of `FITS`.
      committee: settings and weights.
      train: the rows.
      labels: which columns are of labels.
      classes: indices of the classes in `train`; None for regression.
      num_outputs: o.
      seed: `random_state`.
      loss: of a regression.

    Raises:
      ValueError: if the rows are too few or too odd.
    """
    parts = []
    for settings, weight in committee:
        columns = [] if settings.as_numbers else labels
        model = FITS[name](settings, train, columns, classes, seed, loss)
        parts.append((model.trees(num_outputs, settings.rounds), weight))
    return weighted(parts)


def _different(tried: Sequence[Boosting], has_labels: bool) -> list[Boosting]:
    """Settings that differ on a table with labels, or without."""
    if has_labels:
        return list(tried)
    return list(dict.fromkeys(settings._replace(as_numbers=False) for settings in tried))


def _weigh(
    outputs: np.ndarray, rows: Sequence[Rows], loss: TargetLoss, is_regression: bool
) -> np.ndarray:
    """Weights [m] of settings by their outputs [m, n, o] for the watched rows."""
    target = np.concatenate([r.target for r in rows])
    known = [r.weights for r in rows if r.weights is not None]
    shares = np.concatenate(known) if known else None

    def mean_loss(predicted: np.ndarray, target: np.ndarray) -> float:
        return _mean_loss(predicted, target, shares, loss, is_regression)

    return greedy(outputs, target, mean_loss, max_steps=_MAX_STEPS, tolerance=_TOLERANCE)


def _read(model: Fitted, num_outputs: int, settings: Boosting, inputs: np.ndarray) -> np.ndarray:
    """What a model's trees predict, as they are stored."""
    return model.trees(num_outputs, settings.rounds).predict(inputs)


def _placed(outputs: np.ndarray, classes: np.ndarray | None, num_outputs: int) -> np.ndarray:
    """A library's outputs as [n, o]."""
    places, start = places_of(classes, num_outputs)
    found = np.repeat(start[None], len(outputs), axis=0)
    found[:, places] = outputs.reshape(len(outputs), len(places))
    return found


def _mean_loss(
    outputs: np.ndarray,
    target: np.ndarray,
    weights: np.ndarray | None,
    loss: TargetLoss,
    is_regression: bool,
) -> float:
    """Mean over rows of a loss of outputs [n, o], or of log loss."""
    if is_regression:
        each = loss.of(target - outputs[:, 0])
    else:
        picked = outputs[np.arange(len(target)), target]
        each = np.logaddexp.reduce(outputs, axis=1) - picked
    return float(np.average(each, weights=weights))
