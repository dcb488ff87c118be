"""The target column -> float64 values or class indices, or one line that says why not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jaxopt_lab.core.errors import UserError, did_you_mean
from jaxopt_lab.datasets.columns import (
    FloatArray,
    find_date_format,
    is_missing,
    is_text,
    to_categories,
    to_numbers,
)

Task = Literal["regression", "classification"]

MAX_INTEGER_CLASSES = 20
"""`auto` takes integers of at most this many distinct values for classes."""
_LOG_SKEWNESS = 1.0


@dataclass(frozen=True, eq=False)
class TargetColumn:
    """The rows that have a target: float64 values or int32 indices into `classes`."""

    values: NDArray[Any]
    task: Task
    classes: tuple[Any, ...] = ()


def read_target(values: pd.Series, name: str, task: str) -> TargetColumn:
    """Read the target column; rows where it is missing are left out.

    Args:
      values: raw column [n].
      name: its name, for messages.
      task: "auto", "regression" or "classification".

    Returns:
      The target of the rows that have one.

    Raises:
      UserError: if it is constant, has one class, is infinite, or is no number where one
        is needed.
    """
    tasks = ("auto", "regression", "classification")
    if task not in tasks:
        raise UserError(
            f"task must be auto, regression or classification, got {task!r}."
            f"{did_you_mean(task, tasks)}"
        )
    values = values.reset_index(drop=True)
    present = values[~is_missing(values)]
    if present.empty:
        raise UserError(f"target {name!r} is missing in every row")
    _refuse_dates(present, name)
    if task == "auto":
        task = _guess_task(present, gaps=len(present) < len(values))
    if task == "classification":
        return _classes(present, name)
    numbers = _numbers(present, name)
    if np.ptp(numbers) == 0.0:
        raise UserError(f"target {name!r} is constant: every row is {numbers[0]:g}")
    return TargetColumn(numbers, "regression")


def decide_log(column: TargetColumn, name: str, log_target: str | bool) -> bool:
    """Decide whether to learn the logarithm of the target.

    Args:
      column: the target.
      name: its name, for messages.
      log_target: "auto", "yes", "no", or a bool.

    Returns:
      True if the natural logarithm is to be learnt.

    Raises:
      UserError: if asked for where it cannot be.
    """
    wish = log_target if isinstance(log_target, str) else ("yes" if log_target else "no")
    if wish not in ("auto", "yes", "no"):
        raise UserError(f"log target must be auto, yes or no, got {log_target!r}")
    if wish == "no" or (wish == "auto" and column.task == "classification"):
        return False
    if column.task == "classification":
        raise UserError(f"log target needs regression; {name!r} holds classes")
    positive = bool((column.values > 0.0).all())
    if wish == "yes" and not positive:
        number = int((column.values <= 0.0).sum())
        raise UserError(
            f"cannot take the logarithm of target {name!r}: {number} values are zero or negative;"
            " use --log-target no"
        )
    return wish == "yes" or (positive and float(pd.Series(column.values).skew()) > _LOG_SKEWNESS)


def _refuse_dates(present: pd.Series, name: str) -> None:
    if pd.api.types.is_datetime64_any_dtype(present) or (
        is_text(present) and find_date_format(present) is not None
    ):
        raise UserError(f"target {name!r} holds dates; make a column of numbers to predict")


def _guess_task(present: pd.Series, gaps: bool) -> Task:
    """Text, booleans and few distinct integers are classes."""
    if isinstance(present.dtype, pd.CategoricalDtype):
        return "classification"
    if is_text(present):
        if pd.api.types.infer_dtype(present) == "boolean":
            return "classification"
        _, stray = to_numbers(present)
        repeated = present.nunique() <= min(MAX_INTEGER_CLASSES, len(present) // 2)
        if stray.mean() > 0.5 or (repeated and stray.mean() > 0.05):
            return "classification"
    elif pd.api.types.is_bool_dtype(present):
        return "classification"
    numbers, stray = to_numbers(present)
    if stray.any() or not np.isfinite(numbers).all():
        return "regression"  # refused there, naming the value
    whole = bool((numbers == np.floor(numbers)).all())
    written_whole = not pd.api.types.is_float_dtype(present) or gaps
    distinct = np.unique(numbers).size
    few = 1 < distinct <= min(MAX_INTEGER_CLASSES, len(present) // 2)
    return "classification" if whole and written_whole and few else "regression"


def _numbers(present: pd.Series, name: str) -> FloatArray:
    """All values as finite numbers."""
    numbers, stray = to_numbers(present)
    if stray.any():
        first = int(np.flatnonzero(stray)[0])
        raise UserError(
            f"target {name!r} must be numeric, but data row {present.index[first] + 1} holds"
            f" {str(present.iloc[first])[:40]!r} ({int(stray.sum())} such rows);"
            " correct or remove it, or use --task classification"
        )
    infinite = ~np.isfinite(numbers)
    if infinite.any():
        row = present.index[int(np.flatnonzero(infinite)[0])] + 1
        raise UserError(
            f"target {name!r} is infinite in data row {row} ({int(infinite.sum())} such rows);"
            " correct or remove it"
        )
    return numbers


def _classes(present: pd.Series, name: str) -> TargetColumn:
    """Values as indices into the sorted distinct labels."""
    labels = _labels(present)
    distinct, codes = np.unique(labels, return_inverse=True)
    if distinct.size == 1:
        raise UserError(f"target {name!r} has one class only: every row is {distinct[0]!s:.40}")
    if distinct.size > len(labels) / 2:
        raise UserError(
            f"target {name!r} has {distinct.size} distinct values in {len(labels)} rows:"
            " too many for classes; use --task regression or another column"
        )
    classes = tuple(label.item() if hasattr(label, "item") else label for label in distinct)
    return TargetColumn(codes.astype(np.int32), "classification", classes)


def _labels(present: pd.Series) -> NDArray[Any]:
    """Labels in their own type: bool, int, float or str."""
    if pd.api.types.is_bool_dtype(present) or pd.api.types.infer_dtype(present) == "boolean":
        return present.to_numpy(dtype=bool)
    if pd.api.types.is_numeric_dtype(present):
        numbers = _numbers(present, name=str(present.name))
        whole = (numbers == np.floor(numbers)).all() and np.abs(numbers).max() < 2**53
        return numbers.astype(np.int64) if whole else numbers
    return np.array([str(label) for label in to_categories(present)], dtype=str)
