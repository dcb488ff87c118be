"""Splits of rows that are not independent: groups stay together, later rows test earlier ones.

A random split of such rows flatters: what it holds out has siblings, or a future, among the rows
that are trained on.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from jaxopt_lab.core.errors import UserError

Rows = NDArray[np.intp]
#: Random orders of the groups, of which the one that splits the rows best is taken.
_ORDERS = 32
#: Share of the rows, in time, that every network of a cross-validation by time is trained on.
_EARLY = 0.5


def hold_out_groups(
    groups: NDArray[Any], fraction: float, seed: int, classes: NDArray[Any] | None, name: str
) -> tuple[Rows, Rows]:
    """Hold out whole groups.

    Of some random orders of the groups it takes the first groups of the one that comes nearest to
    the fraction of the rows, of each class where there are classes.

    Args:
      groups: [n], equal for rows that stay together.
      fraction: share of the rows to hold out, between 0 and 1.
      seed: of the orders.
      classes: class indices [n], or None.
      name: of the column of the groups, for messages.

    Returns:
      Training rows and held-out rows, each sorted.

    Raises:
      UserError: if there are less than two groups.
    """
    names, members = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise UserError(
            f"group column {name!r} leaves one group only where rows are held out; at least 2 are "
            "needed"
        )
    kinds = np.zeros(len(groups), np.intp) if classes is None else np.asarray(classes)
    counts = np.zeros((len(names), kinds.max() + 1))  # rows of each group and class
    np.add.at(counts, (members, kinds), 1)
    counts = counts[:, counts.any(axis=0)]
    rng = np.random.default_rng(seed)
    found: list[tuple[float, Rows]] = []
    for _ in range(_ORDERS):
        order = rng.permutation(len(names))
        shares = np.cumsum(counts[order], axis=0)[:-1] / counts.sum(axis=0)
        off = np.abs(shares - fraction).max(axis=1)
        place = int(np.argmin(off))
        found.append((float(off[place]), order[: place + 1]))
    held = np.isin(members, min(found, key=lambda pair: pair[0])[1])
    return np.flatnonzero(~held), np.flatnonzero(held)


def group_folds(
    groups: NDArray[Any], num_folds: int, seed: int, classes: NDArray[Any] | None, name: str
) -> list[tuple[Rows, Rows]]:
    """Folds of whole groups: scikit-learn's `GroupKFold`, which balances their rows and needs no
    seed, or `StratifiedGroupKFold` for classes.

    Args:
      groups: [n], equal for rows that stay together.
      num_folds: K, at least 2.
      seed: `random_state` for classes.
      classes: class indices [n], or None.
      name: of the column of the groups, for messages.

    Returns:
      K pairs of training rows and validation rows, each sorted.

    Raises:
      UserError: if there are more folds than groups.
    """
    number = len(np.unique(groups))
    if number < num_folds:
        raise UserError(
            f"{num_folds} folds are more than the {number} groups of {name!r} among the training "
            "rows"
        )
    if classes is None:
        pairs = GroupKFold(num_folds).split(groups[:, None], groups=groups)
    else:
        splitter = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
        pairs = splitter.split(groups[:, None], classes, groups)
    return [(np.sort(train), np.sort(valid)) for train, valid in pairs]


def hold_out_latest(times: NDArray[Any], fraction: float, name: str) -> tuple[Rows, Rows]:
    """Hold out the latest rows; rows of one moment stay together.

    Args:
      times: [n], increasing with time.
      fraction: share of the rows to hold out, between 0 and 1.
      name: of the column of times, for messages.

    Returns:
      Training rows and held-out rows, each sorted.

    Raises:
      UserError: if all rows are of one moment.
    """
    order, cuts = _in_time(times, name)
    cut = _nearest(cuts, len(times) * (1 - fraction))
    return np.sort(order[:cut]), np.sort(order[cut:])


def time_folds(times: NDArray[Any], num_folds: int, name: str) -> list[tuple[Rows, Rows]]:
    """Folds whose validation rows are later than their training rows.

    The later half of the rows makes K blocks of like size, and each is validated by what was before
    it: scikit-learn's `TimeSeriesSplit` with blocks of n / (2 K) rows, but that rows of one moment
    stay together.

    Args:
      times: [n], increasing with time.
      num_folds: K, at least 2.
      name: of the column of times, for messages.

    Returns:
      K pairs of training rows and validation rows, each sorted.

    Raises:
      UserError: if there are too few different times.
    """
    order, cuts = _in_time(times, name)
    ends = _fold_ends(cuts, len(times), num_folds)
    if (np.diff(ends) <= 0).any():
        raise UserError(
            f"time column {name!r} has too few different times ({len(cuts) + 1}) for {num_folds} "
            "folds; use fewer folds"
        )
    return [(np.sort(order[:begin]), np.sort(order[begin:end])) for begin, end in pairwise(ends)]


def most_time_folds(times: NDArray[Any], most: int) -> int:
    """The largest number of folds by time, `most` or fewer, that the times [n] give; 1 at least."""
    cuts = np.flatnonzero(np.diff(np.sort(times)) > 0) + 1
    fits = (
        number
        for number in range(most, 1, -1)
        if len(cuts) and (np.diff(_fold_ends(cuts, len(times), number)) > 0).all()
    )
    return next(fits, 1)


def _fold_ends(cuts: Rows, num_rows: int, num_folds: int) -> list[int]:
    """The places in the order of time where blocks begin, and the end of the last."""
    wanted = num_rows * (_EARLY + (1 - _EARLY) * np.arange(num_folds) / num_folds)
    return [*(_nearest(cuts, place) for place in wanted), num_rows]


def _in_time(times: NDArray[Any], name: str) -> tuple[Rows, Rows]:
    """Rows in the order of time, and the places in it where it goes on."""
    order = np.argsort(times, kind="stable")
    cuts = np.flatnonzero(np.diff(times[order]) > 0) + 1
    if not len(cuts):
        raise UserError(f"time column {name!r} holds one time only where rows are held out")
    return order, cuts


def _nearest(cuts: Rows, place: float) -> int:
    return int(cuts[np.argmin(np.abs(cuts - place))])
