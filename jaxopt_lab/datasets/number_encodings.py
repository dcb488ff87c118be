"""How the numbers of a table are encoded: by bins, or as they are where bins would drown it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.datasets.encoders import fit_encoder
from jaxopt_lab.datasets.several_targets import fit_target
from jaxopt_lab.datasets.splits import table_folds

if TYPE_CHECKING:
    from jaxopt_lab.datasets.encoders import Encoder
    from jaxopt_lab.datasets.tables import Table

BINS, PLAIN = "piecewise_linear", "standard"
#: Fewer rows say too little about either.
LEAST_ROWS = 50
#: Of a ridge regression on plain columns, as a share of the squared error of one on bins.
MOST_ERROR = 0.6
#: Of a logistic regression, as a share of the log loss.
MOST_LOG_LOSS = 0.75
_NUM_FOLDS = 5
_PENALTIES = np.logspace(-4, 4, 17)
#: Inverse penalties of logistic regression.
_INVERSES = (0.1, 1.0, 10.0)
#: A class is given at least this, also one that training rows of a fold lack.
_LEAST_CHANCE = 1e-3
#: Logistic regressions learn from a part of longer tables.
_MOST_ROWS = 1000


def find_encoding(table: Table) -> str:
    """Take numbers as they are where bins make more columns than there are rows, and tell less.

    A hundred channels of a spectrum become thousands of columns of bins, of which a few hundred
    rows teach little: a sum over the channels is what says something there. Where bins make fewer
    columns than there are rows nothing is asked.

    Args:
      table: training rows.

    Returns:
      "standard" where a ridge regression on standardised columns has at most 0.6 of the squared
      out-of-fold error of one on piecewise-linear bins, and of classes a logistic regression at
      most 0.75 of the log loss, the best of a few penalties each; else "piecewise_linear".
    """
    if len(table) < LEAST_ROWS or _fit(table, BINS).num_features <= len(table):
        return BINS
    is_regression = table.task == "regression"
    if not is_regression and len(table) > _MOST_ROWS:
        some = np.random.default_rng(0).permutation(len(table))[:_MOST_ROWS]
        table = table.take(np.sort(some))
    try:
        pairs = table_folds(table, _NUM_FOLDS, 0)
        error = _error if is_regression else _log_loss
        with threadpool_limits(1):  # products so small are slower on several
            bins, plain = (error(table, numeric, pairs) for numeric in (BINS, PLAIN))
    except (UserError, ValueError):  # too few groups, times or rows of a class
        return BINS
    return PLAIN if plain <= (MOST_ERROR if is_regression else MOST_LOG_LOSS) * bins else BINS


def _fit(table: Table, numeric: str) -> Encoder:
    return fit_encoder(
        table.frame,
        table.kinds,
        numeric=numeric,
        date_formats=table.date_formats,
        readings=table.readings,
    )


def _error(table: Table, numeric: str, pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Mean squared out-of-fold error of ridge regression, in variances of training rows."""
    from sklearn.linear_model import RidgeCV

    errors = []
    for train, valid in pairs:
        inputs, held = _encoded(table, numeric, train, valid)
        outputs = fit_target(table.take(train)).forward(table.target).astype(np.float64)
        model = RidgeCV(alphas=_PENALTIES).fit(inputs, outputs[train])
        errors.append((model.predict(held) - outputs[valid]) ** 2)
    return float(np.mean(np.concatenate(errors)))


def _log_loss(table: Table, numeric: str, pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Mean out-of-fold log loss of the best of some logistic regressions.

    Raises:
      ValueError: if the training rows of a fold are of one class.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    losses: list[list[np.ndarray]] = [[] for _ in _INVERSES]
    for train, valid in pairs:
        inputs, held = _encoded(table, numeric, train, valid)
        for inverse, found in zip(_INVERSES, losses, strict=True):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model = LogisticRegression(C=inverse).fit(inputs, table.target[train])
            chance = np.zeros((len(valid), table.num_classes))
            chance[:, model.classes_] = model.predict_proba(held)
            picked = chance[np.arange(len(valid)), table.target[valid]]
            found.append(-np.log(np.maximum(picked, _LEAST_CHANCE)))
    return min(float(np.mean(np.concatenate(found))) for found in losses)


def _encoded(
    table: Table, numeric: str, train: np.ndarray, valid: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Both sides of a split as an encoder of its training rows gives them."""
    encoder = _fit(table.take(train), numeric)
    inputs, held = (
        encoder.transform(table.take(rows).frame).astype(np.float64) for rows in (train, valid)
    )
    return inputs, held
