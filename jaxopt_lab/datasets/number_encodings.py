"""How the numbers of a table are encoded: by bins, or as they are where bins would drown it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

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
_NUM_FOLDS = 5
_PENALTIES = np.logspace(-4, 4, 17)


def find_encoding(table: Table) -> str:
    """Take numbers as they are where bins make more columns than there are rows, and tell less.

    A hundred channels of a spectrum become thousands of columns of bins, of which a few hundred
    rows teach little: a sum over the channels is what says something there. Where bins make fewer
    columns than there are rows nothing is asked, and neither for classes, where shares say little.

    Args:
      table: training rows.

    Returns:
      "standard" where a ridge regression on standardised columns has at most 0.6 of the squared
      out-of-fold error of one on piecewise-linear bins; else "piecewise_linear".
    """
    if table.task != "regression" or len(table) < LEAST_ROWS:
        return BINS
    if _fit(table, BINS).num_features <= len(table):
        return BINS
    try:
        pairs = table_folds(table, _NUM_FOLDS, 0)
    except UserError:  # too few groups or times
        return BINS
    bins, plain = (_error(table, numeric, pairs) for numeric in (BINS, PLAIN))
    return PLAIN if plain <= MOST_ERROR * bins else BINS


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
        learnt = table.take(train)
        encoder = _fit(learnt, numeric)
        inputs, held = (
            encoder.transform(rows.frame).astype(np.float64) for rows in (learnt, table.take(valid))
        )
        outputs = fit_target(learnt).forward(table.target).astype(np.float64)
        model = RidgeCV(alphas=_PENALTIES).fit(inputs, outputs[train])
        errors.append((model.predict(held) - outputs[valid]) ** 2)
    return float(np.mean(np.concatenate(errors)))
