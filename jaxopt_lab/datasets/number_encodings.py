"""How the numbers of a table are encoded: by bins, or as they are where bins would drown it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.datasets.encoders import default_num_bins, fit_encoder
from jaxopt_lab.datasets.several_targets import fit_target
from jaxopt_lab.datasets.splits import table_folds

if TYPE_CHECKING:
    from jaxopt_lab.datasets.encoders import Encoder
    from jaxopt_lab.datasets.tables import Table

BINS, PLAIN = "piecewise_linear", "standard"
#: Fewer rows say too little about either.
LEAST_ROWS = 50
#: Bins that are tried beside the usual number.
FEWER_BINS = (24, 12, 6)
#: Where the usual number of bins is asked for: fewer rows say too little, more are enough for it.
_ROWS_FOR_BINS = (400, 12_000)
#: Of a regression on fewer bins, as a share of the squared error or the log loss.
MOST_OF_FEWER = 0.995
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
#: Numbers of bins that make more columns are not tried: regressions on them would take minutes.
_MOST_COLUMNS = 1500
#: Folds by which the number of bins is decided.
_FOLDS_FOR_BINS = 3


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
        with threadpool_limits(1):  # products so small are slower on several
            bins, plain = (_error(table, numeric, pairs) for numeric in (BINS, PLAIN))
    except (UserError, ValueError):  # too few groups, times or rows of a class
        return BINS
    return PLAIN if plain <= (MOST_ERROR if is_regression else MOST_LOG_LOSS) * bins else BINS


def find_num_bins(table: Table) -> int | None:
    """Take fewer bins where the usual number tells less of rows that are held out.

    What bins a sum over columns is best told with has been what networks do best with, too, or
    nearly so: how many depends on how steep the columns' effects are, and not on rows and columns
    alone.

    Args:
      table: training rows.

    Returns:
      One of `FEWER_BINS` where a ridge regression on so many has the least squared out-of-fold
      error, at most 0.995 of that with the usual bins, or of classes a logistic regression the
      least log loss, the best of a few penalties each. Where the usual bins make 1,500 columns or
      more, the best of the fewer ones. None leaves `default_num_bins`: also below 400 rows and
      above 12,000.
    """
    low, high = _ROWS_FOR_BINS
    if not low <= len(table) <= high:
        return None
    usual = default_num_bins(len(table))
    widths = {n: _fit(table, BINS, n).num_features for n in (*FEWER_BINS, usual)}
    fewer = [n for n in FEWER_BINS if widths[n] < min(widths[usual], _MOST_COLUMNS)]
    if not fewer:
        return None
    tried = [*fewer, usual] if widths[usual] < _MOST_COLUMNS else fewer
    try:
        pairs = table_folds(table, _FOLDS_FOR_BINS, 0)
        with threadpool_limits(1):
            errors = {n: _error(table, BINS, pairs, n) for n in tried}
    except (UserError, ValueError):  # too few groups, times or rows of a class
        return None
    best = min(errors, key=lambda number: errors[number])
    worth = errors[best] <= MOST_OF_FEWER * errors.get(usual, np.inf)
    return best if worth and best != usual else None


def _fit(table: Table, numeric: str, num_bins: int | None = None) -> Encoder:
    return fit_encoder(
        table.frame,
        table.kinds,
        numeric=numeric,
        num_bins=num_bins,
        date_formats=table.date_formats,
        readings=table.readings,
    )


def _error(
    table: Table,
    numeric: str,
    pairs: list[tuple[np.ndarray, np.ndarray]],
    num_bins: int | None = None,
) -> float:
    """Mean out-of-fold error of a regression, the best of a few penalties: of numbers the squared
    error of ridge regression, in variances of training rows; of classes log loss.

    Raises:
      ValueError: if the training rows of a fold are of one class.
    """
    errors_of = _squared_errors if table.task == "regression" else _log_losses
    found = [
        errors_of(table, train, valid, *_encoded(table, numeric, train, valid, num_bins))
        for train, valid in pairs
    ]
    return float(np.concatenate(found, axis=1).mean(axis=1).min())


def _squared_errors(
    table: Table, train: np.ndarray, valid: np.ndarray, inputs: np.ndarray, held: np.ndarray
) -> np.ndarray:
    """Of the rows that are held out [1, n], of several targets the mean; the penalty is decided on
    the training rows."""
    from sklearn.linear_model import RidgeCV

    outputs = fit_target(table.take(train)).forward(table.target).astype(np.float64)
    model = RidgeCV(alphas=_PENALTIES).fit(inputs, outputs[train])
    errors = (model.predict(held) - outputs[valid]) ** 2
    return errors.reshape(len(valid), -1).mean(axis=1)[None]


def _log_losses(
    table: Table, train: np.ndarray, valid: np.ndarray, inputs: np.ndarray, held: np.ndarray
) -> np.ndarray:
    """Of the rows that are held out [p, n] by each of `_INVERSES`."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    found = []
    for inverse in _INVERSES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = LogisticRegression(C=inverse).fit(inputs, table.target[train])
        chance = np.zeros((len(valid), table.num_classes))
        chance[:, model.classes_] = model.predict_proba(held)
        picked = chance[np.arange(len(valid)), table.target[valid]]
        found.append(-np.log(np.maximum(picked, _LEAST_CHANCE)))
    return np.stack(found)


def _encoded(
    table: Table, numeric: str, train: np.ndarray, valid: np.ndarray, num_bins: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Both sides of a split as an encoder of its training rows gives them."""
    encoder = _fit(table.take(train), numeric, num_bins)
    inputs, held = (
        encoder.transform(table.take(rows).frame).astype(np.float64) for rows in (train, valid)
    )
    return inputs, held
