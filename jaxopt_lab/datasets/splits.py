"""Rows for training, validation and test, by scikit-learn's own splitters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.datasets.tables import Table

Rows = NDArray[np.intp]


def test_split(table: Table, fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Hold out test rows: scikit-learn's `train_test_split`, stratified for classes.

    Args:
      table: n rows.
      fraction: share of the rows to hold out, between 0 and 1.
      seed: `random_state`.

    Returns:
      Training rows and test rows, int, in scikit-learn's order.

    Raises:
      UserError: if the fraction is outside its range or leaves too few rows of a class.
    """
    return _hold_out(table.target, fraction, seed, table.task == "classification")


test_split.__test__ = False  # type: ignore[attr-defined]  # no test, whatever its name


def folds(
    target: ArrayLike,
    num_folds: int,
    seed: int,
    stratify: bool,
    holdout_fraction: float = 0.2,
) -> list[tuple[Rows, Rows]]:
    """Split rows for cross-validation, or once for `num_folds` = 1.

    Args:
      target: [n], class indices where `stratify`.
      num_folds: K; 1 is one hold-out split.
      seed: `random_state` of the shuffle.
      stratify: keep the share of each class the same in all folds.
      holdout_fraction: validation share for K = 1.

    Returns:
      K pairs of training rows and validation rows, int, each sorted.

    Raises:
      UserError: if there are more folds than rows, or a class has fewer rows than folds.
    """
    values = np.asarray(target)
    if num_folds < 1:
        raise UserError(f"folds must be at least 1, got {num_folds}")
    if num_folds == 1:
        train, valid = _hold_out(values, holdout_fraction, seed, stratify)
        return [(np.sort(train), np.sort(valid))]
    if num_folds > len(values):
        raise UserError(f"{num_folds} folds are more than the {len(values)} training rows")
    if stratify:
        least = int(np.unique(values, return_counts=True)[1].min())
        if least < num_folds:
            raise UserError(
                f"{num_folds} folds, but the smallest class has only {least} training rows;"
                f" use at most {least} folds, or merge or remove that class"
            )
    splitter = StratifiedKFold if stratify else KFold
    pairs = splitter(num_folds, shuffle=True, random_state=seed).split(values[:, None], values)
    return [(train, valid) for train, valid in pairs]


def _hold_out(
    target: NDArray[Any], fraction: float, seed: int, stratify: bool
) -> tuple[Rows, Rows]:
    if not 0.0 < fraction < 1.0:
        raise UserError(f"the held-out fraction must lie between 0 and 1, got {fraction}")
    rows = np.arange(len(target))
    try:
        train, held = train_test_split(
            rows, test_size=fraction, random_state=seed, stratify=target if stratify else None
        )
    except ValueError as error:
        raise UserError(f"cannot hold out {fraction:g} of {len(rows)} rows: {error}") from None
    return train, held
