"""Columns that say how rows belong together, when they were, and what each counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.datasets.columns import (
    MISSING,
    BoolArray,
    Column,
    to_categories,
    to_dates,
    to_numbers,
)
from jaxopt_lab.datasets.target_column import TargetColumn

FloatArray = NDArray[np.float64]


#: Rows that are fewer than this many to each set of equal ones are kept together.
_MOST_ALIKE = 3
#: Fewer sets than these cannot be split.
_FEWEST = 10


@dataclass(frozen=True, eq=False)
class RowRoles:
    """What the columns say about the rows that have a target.

    Args:
      groups: int [n], the same number for rows that must not be split apart.
      times: float64 [n], increasing with time.
      weights: float64 [n], at least 0.
    """

    groups: NDArray[np.intp] | None = None
    times: FloatArray | None = None
    weights: FloatArray | None = None


def read_roles(
    frame: pd.DataFrame, columns: Mapping[str, Column], rows: BoolArray, names: Mapping[str, str]
) -> RowRoles:
    """Read the columns of groups, times and weights.

    Args:
      frame: raw columns [m].
      columns: what each holds, from `decide_columns`.
      rows: those that have a target, bool [m]; n of them.
      names: "group", "time" and "weights" -> column, of those that were asked for.

    Raises:
      UserError: naming the column and the first row that has no value, or no such value.
    """
    found = {}
    for role, name in names.items():
        found[_FIELDS[role]] = _READERS[role](frame[name].reset_index(drop=True), columns[name])
        _refuse(np.isnan(found[_FIELDS[role]]) & rows, role, name, "holds no value it could go by")
    roles: dict[str, Any] = {field: values[rows] for field, values in found.items()}
    if "groups" in roles:
        roles["groups"] = np.unique(roles["groups"], return_inverse=True)[1]
    if "weights" in roles:
        everywhere, name = found["weights"], names["weights"]
        _refuse(rows & (everywhere < 0), "weights", name, "is negative")
        _refuse(rows & np.isinf(everywhere), "weights", name, "is infinite")
        if not roles["weights"].any():
            raise UserError(f"weights column {name!r} is 0 in every row")
    return RowRoles(**roles)


def without_weightless(column: TargetColumn, roles: RowRoles) -> tuple[TargetColumn, RowRoles, int]:
    """Leave out rows of weight 0.

    Returns:
      The target and the roles of the other rows, and how many were left out.

    Raises:
      UserError: if all rows of a class are of weight 0.
    """
    if roles.weights is None or roles.weights.all():
        return column, roles, 0
    kept = roles.weights > 0
    values, rows = column.values[kept], column.rows.copy()
    rows[np.flatnonzero(rows)[~kept]] = False
    left = set(values.tolist()) if column.classes else set()
    for index in set(range(len(column.classes))) - left:
        raise UserError(
            f"class {str(column.classes[index])[:40]!r} has rows of weight 0 only; give it weight, "
            "or remove its rows"
        )
    taken: dict[str, Any] = {
        name: value[kept]
        for name in ("groups", "times", "weights")
        if (value := getattr(roles, name)) is not None
    }
    return replace(column, values=values, rows=rows), replace(roles, **taken), int((~kept).sum())


def _groups(values: pd.Series, column: Column) -> FloatArray:
    del column  # whatever it holds: equal cells are a group
    labels = to_categories(values)
    codes = np.unique(labels.astype(str), return_inverse=True)[1].astype(np.float64)
    codes[labels == MISSING] = np.nan
    return codes


def _times(values: pd.Series, column: Column) -> FloatArray:
    if column.kind == "date":
        dates = to_dates(values, column.date_format)[0]
        seconds = (dates - pd.Timestamp(0)) / pd.Timedelta(seconds=1)
        return seconds.to_numpy(dtype=np.float64, na_value=np.nan)
    return _numbers(values, column)


def _numbers(values: pd.Series, column: Column) -> FloatArray:
    if column.kind != "numeric":
        return np.full(len(values), np.nan)
    return to_numbers(values, column.reading)[0]


_FIELDS = {"group": "groups", "time": "times", "weights": "weights"}
_READERS = {"group": _groups, "time": _times, "weights": _numbers}


def _refuse(wrong: BoolArray, role: str, name: str, why: str) -> None:
    if wrong.any():
        raise UserError(
            f"{role} column {name!r} {why} in data row {int(np.argmax(wrong)) + 1} "
            f"({int(wrong.sum())} such rows); correct or remove them"
        )


def equal_rows(frame: pd.DataFrame) -> tuple[NDArray[np.intp] | None, list[str]]:
    """Find the rows whose features are equal, which a split must not put on both sides.

    A network that has seen a row knows its twin. Where rows repeat by their nature, as those of a
    few columns with a few values do, new rows will repeat them, too, and all may be split.

    Args:
      frame: cleaned features [n].

    Returns:
      The same number for equal rows, int [n], or None where there are none, or most are; and a
      note if there are any.
    """
    hashes = pd.util.hash_pandas_object(frame, index=False).to_numpy()
    firsts, members = np.unique(hashes, return_inverse=True)
    repeated = len(frame) - len(firsts)
    if not repeated:
        return None, []
    if len(firsts) < _FEWEST or _MOST_ALIKE * len(firsts) < len(frame):
        return None, [
            f"rows repeat by nature: {len(firsts)} different ones of {len(frame)}, so that equal "
            "rows are on both sides of splits"
        ]
    return members, [
        f"{repeated} rows have the features of another row: equal rows stay on one side of every "
        "split"
    ]
