"""What scikit-learn hands an estimator -> features as a DataFrame, splits, a seed, a space."""

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
from sklearn.model_selection import KFold, ShuffleSplit, StratifiedKFold, check_cv
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.spaces.space import SearchSpace

#: Share of the rows that validate where `cv` is 1.
HOLDOUT = 0.2

Splits = list[tuple[np.ndarray, np.ndarray]]


def features_of(estimator: Any, X: Any, reset: bool) -> pd.DataFrame:
    """Check features as scikit-learn does; columns keep their own types where X is a frame.

    Args:
      estimator: learns the number and the names of features, or is held to them.
      X: array-like [n, F], or a frame of pandas, polars or whatever narwhals knows.
      reset: whether this is `fit`.

    Returns:
      [n, F] with text names.

    Raises:
      ValueError: in scikit-learn's words.
    """
    frame = nw.from_native(X, eager_only=True, pass_through=True)
    if not isinstance(frame, nw.DataFrame):
        array = validate_data(
            estimator, X, reset=reset, dtype=None, ensure_all_finite="allow-nan", order=None
        )
        columns = {f"x{i}": _inferred(array[:, i]) for i in range(array.shape[1])}
        return pd.DataFrame(columns)
    # As pandas: not every version of scikit-learn finds the names of every other frame.
    found = X if isinstance(X, pd.DataFrame) else _to_pandas(frame)
    validate_data(estimator, found, reset=reset, skip_check_array=True)
    for size, what in zip(frame.shape, ("sample", "feature"), strict=True):
        if not size:
            raise ValueError(
                f"Found array with 0 {what}(s) (shape={frame.shape}) while a minimum of 1 is "
                "required."
            )
    return found


def _inferred(column: np.ndarray) -> Any:
    """A column of Python objects in the type that its values have."""
    return pd.Series(column).infer_objects() if column.dtype == object else column


def _to_pandas(frame: "nw.DataFrame[Any]") -> pd.DataFrame:
    """Column by column: polars' own way would need pyarrow."""
    found = {}
    for column in frame.iter_columns():
        numeric = column.dtype.is_numeric()
        found[column.name] = column.to_numpy() if numeric else pd.Series(column.to_list())
    return pd.DataFrame(found)


def splits_of(
    cv: Any, features: Any, y: np.ndarray, groups: Any, is_classes: bool, seed: int
) -> Splits:
    """The folds of an estimator.

    Args:
      cv: number of folds, 1 for one hold-out split; a splitter of scikit-learn; or pairs of rows.
      features: [n, ...].
      y: [n], class indices where `is_classes`.
      groups: [n] for the splitter, or None.
      is_classes: whether to keep the share of each class; folds are no more than the rows of the
        rarest class then, unless that has one row only.
      seed: of the folds that are made here.

    Raises:
      UserError: for no folds, or one without rows on either side.
    """
    number = cv if isinstance(cv, Integral) and not isinstance(cv, bool) else None
    if number is None:
        splitter = check_cv(cv, y, classifier=is_classes)
    elif number < 1:
        raise UserError(f"cv must be at least 1, got {number}")
    elif number == 1:
        splitter = ShuffleSplit(1, test_size=HOLDOUT, random_state=seed)
    else:
        rarest = int(np.bincount(y).min()) if is_classes else 1
        kind = StratifiedKFold if rarest > 1 else KFold
        most = rarest if rarest > 1 else len(y)
        splitter = kind(min(int(number), most), shuffle=True, random_state=seed)
    pairs = [(np.asarray(a), np.asarray(b)) for a, b in splitter.split(features, y, groups)]
    if not pairs or any(not len(rows) for pair in pairs for rows in pair):
        raise UserError(f"cv = {cv!r} gives a fold without rows")
    return [(np.sort(train), np.sort(valid)) for train, valid in pairs]


def seed_of(random_state: Any) -> int:
    """A study's seed: a whole number is one; else it is drawn."""
    if isinstance(random_state, Integral) and not isinstance(random_state, bool):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def space_of(space: Any) -> SearchSpace | None:
    """A search space from what an estimator was given: one, a mapping, a TOML file, or None.

    Raises:
      UserError: for anything else.
    """
    if space is None or isinstance(space, SearchSpace):
        return space
    if isinstance(space, Mapping):
        return SearchSpace.from_dict(space)
    if isinstance(space, str) or hasattr(space, "__fspath__"):
        return SearchSpace.from_toml(space)
    raise UserError(
        "space must be a lab.SearchSpace, a mapping of names to distributions or values, or a TOML "
        f"file, got {type(space).__name__}"
    )


def rows_of(found: Sequence[Any] | np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Some rows of anything indexed by rows."""
    return np.asarray(found)[kept]
