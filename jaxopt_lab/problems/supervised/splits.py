"""Rows for training and for validation, split by scikit-learn."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

from jaxopt_lab.core.errors import UserError

Pair = tuple[np.ndarray, np.ndarray]


def split_rows(
    splits: Any,
    num_rows: int,
    targets: Any = None,
    groups: ArrayLike | None = None,
    random_state: int = 0,
) -> list[Pair]:
    """Pairs of training rows and validation rows.

    Args:
      splits: None trains on all rows and validates on none; a share below 1 is held out; a
        whole number K from 2 makes K folds; both are stratified where targets are integer labels
        of which each occurs often enough; else a scikit-learn splitter, or pairs of indices or of
        masks.
      num_rows: N.
      targets: the problem's; what a splitter is given as `y` if it is one array.
      groups: [N], for a splitter that wants them.
      random_state: of the shuffle of a share and of K folds.

    Returns:
      K pairs of int32 indices, each sorted.

    Raises:
      UserError: for a number that is no such thing, an empty part, a row that is in a part twice or
        in both, or whatever the splitter raises.
    """
    if groups is not None:
        groups = np.asarray(groups)
        if groups.shape != (num_rows,):
            raise UserError(
                f"groups must hold one label for each of {num_rows} rows, got {groups.shape}"
            )
        if not hasattr(splits, "split"):
            raise UserError(
                f"groups need a splitter that reads them, got splits={splits!r}; give "
                "sklearn.model_selection.GroupKFold(5), say"
            )
    if splits is None:
        return [(np.arange(num_rows, dtype=np.int32), np.arange(0, dtype=np.int32))]
    labels = _labels(targets)
    if _is_number(splits):
        pairs = _of_number(splits, num_rows, labels, random_state)
    elif hasattr(splits, "split") and not isinstance(splits, str):
        pairs = _of_splitter(splits, num_rows, labels, groups)
    elif isinstance(splits, Iterable) and not isinstance(splits, str):
        pairs = list(splits)
        # One pair may stand without a list around it.
        if len(pairs) == 2 and all(map(_is_part, pairs)):
            pairs = [(pairs[0], pairs[1])]
    else:
        raise UserError(
            "splits must be a number of folds, a share to hold out, a scikit-learn splitter or "
            f"pairs (training rows, validation rows), got {splits!r}"
        )
    if not pairs:
        raise UserError("splits holds no pair (training rows, validation rows)")
    return [_checked(number, pair, num_rows) for number, pair in enumerate(pairs)]


def _is_part(rows: Any) -> bool:
    """Whether it is rows, and no pair of rows, which may be of different numbers."""
    return hasattr(rows, "__len__") and len(rows) != 2 and np.ndim(rows) == 1


def _is_number(splits: Any) -> bool:
    return isinstance(splits, (int, float, np.number)) and not isinstance(splits, bool)


def _of_number(
    splits: Any, num_rows: int, labels: np.ndarray | None, random_state: int
) -> list[Any]:
    rows = np.arange(num_rows)
    counts = None
    if labels is not None and labels.ndim == 1 and labels.dtype.kind in "iub":
        counts = np.unique(labels, return_counts=True)[1]
    if 0 < splits < 1:
        stratify = None
        held = round(splits * num_rows)
        if counts is not None and counts.min() >= 2 and len(counts) <= min(held, num_rows - held):
            stratify = labels
        try:
            return [
                train_test_split(
                    rows, test_size=float(splits), random_state=random_state, stratify=stratify
                )
            ]
        except ValueError as error:
            raise UserError(f"cannot hold out {splits:g} of {num_rows} rows: {error}") from None
    if not np.isfinite(splits) or splits != int(splits) or splits < 2:
        raise UserError(
            "splits must be a whole number of folds from 2, a share between 0 and 1, or None for "
            f"no validation, got {splits!r}"
        )
    num_folds = int(splits)
    if num_folds > num_rows:
        raise UserError(f"splits={num_folds} folds are more than the {num_rows} rows")
    stratified = counts is not None and counts.min() >= num_folds
    splitter: Any = StratifiedKFold if stratified else KFold
    found = splitter(num_folds, shuffle=True, random_state=random_state)
    return list(found.split(rows, labels if stratified else None))


def _of_splitter(splitter: Any, num_rows: int, labels: np.ndarray | None, groups: Any) -> list[Any]:
    name = type(splitter).__name__
    try:
        return list(splitter.split(np.zeros((num_rows, 1)), labels, groups))
    except (ValueError, TypeError) as error:
        hint = "; give groups=..." if groups is None and "'groups'" in str(error) else ""
        raise UserError(f"{name} could not split {num_rows} rows: {error}{hint}") from None


def _labels(targets: Any) -> np.ndarray | None:
    """What scikit-learn is given as `y`: targets that are one array."""
    return np.asarray(targets) if hasattr(targets, "__array__") else None


def _checked(number: int, pair: Any, num_rows: int) -> Pair:
    try:
        train, valid = (_indices(part, num_rows) for part in pair)
    except (TypeError, ValueError):
        raise UserError(
            f"split {number} must be a pair (training rows, validation rows) of whole numbers or "
            f"of masks of {num_rows} rows"
        ) from None
    for what, rows in (("training", train), ("validation", valid)):
        if len(rows) == 0:
            raise UserError(f"split {number} has no {what} rows")
        if rows[0] < 0 or rows[-1] >= num_rows:
            raise UserError(
                f"split {number} has {what} rows outside 0 to {num_rows - 1}: "
                f"{rows[0]} to {rows[-1]}"
            )
        if (np.diff(rows) == 0).any():
            raise UserError(
                f"split {number} has {what} row {rows[:-1][np.diff(rows) == 0][0]} more than once"
            )
    both = np.intersect1d(train, valid, assume_unique=True)
    if len(both):
        raise UserError(
            f"split {number} trains on {len(both)} of its validation rows, row {both[0]} first"
        )
    return train.astype(np.int32), valid.astype(np.int32)


def _indices(part: Any, num_rows: int) -> np.ndarray:
    rows = np.asarray(part)
    if rows.dtype == bool and rows.shape == (num_rows,):
        rows = np.flatnonzero(rows)
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
        raise ValueError(rows.dtype)
    return np.sort(rows)
