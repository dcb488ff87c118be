"""Rows for training, validation and test, by scikit-learn's own splitters.

Tables with groups or times are split by `dependent_splits`; of rows with equal features one is
split, and the others follow it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.datasets.dependent_splits import (
    group_folds,
    hold_out_groups,
    hold_out_latest,
    time_folds,
)
from jaxopt_lab.datasets.tables import Table

Rows = NDArray[np.intp]
#: Validation share of a single split.
HOLDOUT_FRACTION = 0.2


def test_split(table: Table, fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Hold out test rows: scikit-learn's `train_test_split`, stratified for classes; whole groups
    or the latest rows for a table that has groups or times.

    Args:
      table: n rows.
      fraction: share of the rows to hold out, between 0 and 1.
      seed: `random_state`.

    Returns:
      Training rows and test rows, int, in scikit-learn's order.

    Raises:
      UserError: if the fraction is outside its range or leaves too few rows of a class.
    """
    stratify = table.task == "classification"
    if table.groups is not None or table.times is not None:
        return _hold_out_dependent(table, fraction, seed)
    if table.equal is None:
        return _hold_out(table.target, fraction, seed, stratify, table.classes)
    firsts, members = _one_of_each(table)
    pair = _hold_out(table.target[firsts], fraction, seed, stratify, table.classes)
    return _followed(pair, members)


test_split.__test__ = False  # type: ignore[attr-defined]  # no test, whatever its name


def folds(
    target: ArrayLike,
    num_folds: int,
    seed: int,
    stratify: bool,
    holdout_fraction: float = HOLDOUT_FRACTION,
    classes: Sequence[Any] = (),
) -> list[tuple[Rows, Rows]]:
    """Split rows for cross-validation, or once for `num_folds` = 1.

    Args:
      target: [n], class indices where `stratify`.
      num_folds: K; 1 is one hold-out split.
      seed: `random_state` of the shuffle.
      stratify: keep the share of each class the same in all folds.
      holdout_fraction: validation share for K = 1.
      classes: labels by index, for messages.

    Returns:
      K pairs of training rows and validation rows, int, each sorted.

    Raises:
      UserError: if there are more folds than rows, or a class has fewer rows than folds.
    """
    values = np.asarray(target)
    if num_folds < 1:
        raise UserError(f"folds must be at least 1, got {num_folds}")
    if num_folds == 1:
        train, valid = _hold_out(values, holdout_fraction, seed, stratify, classes)
        return [(np.sort(train), np.sort(valid))]
    if num_folds > len(values):
        raise UserError(f"{num_folds} folds are more than the {len(values)} training rows")
    if stratify:
        _check_folds(values, num_folds, classes)
    splitter = StratifiedKFold if stratify else KFold
    pairs = splitter(num_folds, shuffle=True, random_state=seed).split(values[:, None], values)
    return [(train, valid) for train, valid in pairs]


def table_folds(table: Table, num_folds: int, seed: int) -> list[tuple[Rows, Rows]]:
    """`folds` of a table, by its groups or times if it has any.

    Raises:
      UserError: as `folds`, and for too few groups or times.
    """
    stratify = table.task == "classification"
    if table.groups is None and table.times is None:
        if table.equal is None:
            return folds(table.target, num_folds, seed, stratify, classes=table.classes)
        firsts, members = _one_of_each(table)
        pairs = folds(table.target[firsts], num_folds, seed, stratify, classes=table.classes)
        return [_followed(pair, members) for pair in pairs]
    if num_folds < 1:
        raise UserError(f"folds must be at least 1, got {num_folds}")
    if num_folds == 1:
        return [_hold_out_dependent(table, HOLDOUT_FRACTION, seed)]
    if table.times is not None:
        return time_folds(table.times, num_folds, table.roles.get("time", "time"))
    assert table.groups is not None
    if stratify:
        _check_folds(table.target, num_folds, table.classes)
    classes = table.target if stratify else None
    return group_folds(table.groups, num_folds, seed, classes, table.roles.get("group", "group"))


def different_rows(table: Table) -> NDArray[Any]:
    """The target of one of each set of equal rows, as many as can be split apart."""
    return table.target if table.equal is None else table.target[_one_of_each(table)[0]]


def _one_of_each(table: Table) -> tuple[Rows, Rows]:
    """A row of each set of equal ones, of its rarest class, and the set that each row is of."""
    assert table.equal is not None
    members = np.unique(table.equal, return_inverse=True)[1]
    rows = np.arange(len(table))
    counts = np.bincount(table.target)[table.target] if table.classes else np.zeros_like(rows)
    order = np.lexsort((rows, counts, members))
    firsts = order[np.flatnonzero(np.diff(members[order], prepend=-1))]
    return firsts, members


def _followed(pair: tuple[Rows, Rows], members: Rows) -> tuple[Rows, Rows]:
    """All rows of two sides that hold sets of equal ones, each sorted."""
    first, second = (np.flatnonzero(np.isin(members, sets)) for sets in pair)
    return first, second


def _hold_out_dependent(table: Table, fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Hold out groups or the latest rows."""
    if not 0.0 < fraction < 1.0:
        raise UserError(f"the held-out fraction must lie between 0 and 1, got {fraction}")
    if table.times is not None:
        return hold_out_latest(table.times, fraction, table.roles.get("time", "time"))
    classes = table.target if table.task == "classification" else None
    assert table.groups is not None
    name = table.roles.get("group", "group")
    return hold_out_groups(table.groups, fraction, seed, classes, name)


def rarest(target: ArrayLike, classes: Sequence[Any] = ()) -> tuple[int, str]:
    """The rows of the smallest class, and its label as it is shown in messages.

    Args:
      target: class indices [n].
      classes: labels by index; the index stands for a label that is not known.
    """
    indices, counts = np.unique(np.asarray(target), return_counts=True)
    place = int(np.argmin(counts))
    index = int(indices[place])
    label = classes[index] if index < len(classes) else index
    return int(counts[place]), repr(str(label)[:40])


def _hold_out(
    target: NDArray[Any], fraction: float, seed: int, stratify: bool, classes: Sequence[Any] = ()
) -> tuple[Rows, Rows]:
    if not 0.0 < fraction < 1.0:
        raise UserError(f"the held-out fraction must lie between 0 and 1, got {fraction}")
    rows = np.arange(len(target))
    if stratify:
        _check_classes(target, fraction, classes)
    try:
        train, held = train_test_split(
            rows, test_size=fraction, random_state=seed, stratify=target if stratify else None
        )
    except ValueError as error:
        raise UserError(f"cannot hold out {fraction:g} of {len(rows)} rows: {error}") from None
    return train, held


def _check_folds(target: NDArray[Any], num_folds: int, classes: Sequence[Any]) -> None:
    """Refuse more folds than a class has rows."""
    least, label = rarest(target, classes)
    if least < num_folds:
        most = f"use at most {least} folds, or " if least > 1 else ""
        raise UserError(
            f"{num_folds} folds, but the smallest class has only {least} training"
            f" {'row' if least == 1 else 'rows'}: {label}; {most}merge or remove that class"
        )


def _check_classes(target: NDArray[Any], fraction: float, classes: Sequence[Any]) -> None:
    """Refuse what cannot be split so that each class is on both sides."""
    least, label = rarest(target, classes)
    if least < 2:
        raise UserError(
            f"class {label} has one row only where rows are held out of {len(target)}; at least 2"
            " of each class are needed: merge or remove that class"
        )
    number, held = np.unique(target).size, math.ceil(fraction * len(target))
    if min(held, len(target) - held) < number:
        raise UserError(
            f"cannot hold out {fraction:g} of {len(target)} rows: that is {held}, and there are"
            f" {number} classes; merge classes, or give more rows"
        )
