"""The target column -> float64 values or class indices, or one line that says why not."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jaxopt_lab.core.errors import UserError, did_you_mean
from jaxopt_lab.datasets.cleaning import counted, how_read
from jaxopt_lab.datasets.columns import (
    BoolArray,
    Column,
    as_cells,
    is_missing,
    is_text,
    to_categories,
    to_numbers,
)
from jaxopt_lab.datasets.missing_words import is_missing_word
from jaxopt_lab.datasets.number_reading import NumberReading

Task = Literal["regression", "classification"]

MAX_INTEGER_CLASSES = 20
"""`auto` takes integers of at most this many distinct values for classes."""
FEWEST_OF_A_CLASS = 3
"""`auto` takes integers for classes only if each of more than two is in so many rows."""
LARGEST = 1e300
"""Greater targets are refused: differences of them overflow."""
_LOG_SKEWNESS = 1.0


@dataclass(frozen=True, eq=False)
class TargetColumn:
    """The target of those rows that have one.

    Args:
      values: float64 values or int32 indices into `classes`.
      task: "regression" or "classification".
      classes: labels; text as it is written in the file.
      rows: which rows have a target, bool [n].
      notes: what is worth saying, one line each.
    """

    values: NDArray[Any]
    task: Task
    classes: tuple[Any, ...]
    rows: BoolArray
    notes: tuple[str, ...] = ()


def read_target(values: pd.Series, name: str, task: str, column: Column) -> TargetColumn:
    """Read the target column; rows where it is missing are left out.

    Args:
      values: raw column [n].
      name: its name, for messages.
      task: "auto", "regression" or "classification".
      column: what it holds, from `decide_columns`.

    Returns:
      The target of the rows that have one. Among labels only blanks are missing.

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
    rows = ~is_missing(values)
    present = values[rows]
    if present.empty:
        raise UserError(f"target {name!r} is missing in every row")
    if column.kind == "date" and not (task == "classification" and is_text(values)):
        way = ", or use --task classification" if is_text(values) and _few(present.tolist()) else ""
        raise UserError(f"target {name!r} holds dates; make a column of numbers to predict{way}")
    if column.kind is None:
        raise UserError(f"target {name!r} holds neither numbers nor labels")
    rare = None
    if task == "auto":
        task = _guess_task(present, column, gaps=len(present) < len(values))
        rare = _rare_number(present, column) if task == "classification" else None
    if task == "classification" and rare is None:
        return _classes(present, name, rows, column)
    found = _numbers(present, name, rows, column)
    if rare is None:
        return found
    note = (
        f"target {name}: whole numbers, of which {rare[0]} is in {rare[1]} "
        f"row{'s' if rare[1] > 1 else ''} only: learnt as numbers; --task classification if they "
        "are classes"
    )
    return replace(found, notes=(*found.notes, note))


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
    if wish == "yes" or not positive:
        return wish == "yes"
    return is_skewed(column.values)


def is_skewed(values: NDArray[Any]) -> bool:
    """Whether positive numbers [n] are skewed enough for their logarithm to be learnt."""
    largest = values.max()  # powers of greater values overflow
    return float(pd.Series(values / largest).skew()) > _LOG_SKEWNESS


def _guess_task(present: pd.Series, column: Column, gaps: bool) -> Task:
    """Text, booleans and few distinct integers are classes."""
    if isinstance(present.dtype, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(present):
        return "classification"
    if is_text(present) and not _typed_objects(present, column):
        return _guess_text(as_cells(present), column)
    if pd.api.types.infer_dtype(present) == "boolean":
        return "classification"
    numbers, stray = to_numbers(present)
    if stray.any() or not np.isfinite(numbers).all():
        return "regression"  # refused there, naming the value
    whole = bool((numbers == np.floor(numbers)).all())
    written_whole = not pd.api.types.is_float_dtype(present) or gaps
    return "classification" if whole and written_whole and _few(numbers.tolist()) else "regression"


def _rare_number(present: pd.Series, column: Column) -> tuple[str, int] | None:
    """Of more than two whole numbers that would be classes, one that too few rows have for it to be
    learnt, validated and tested, and how many have it: so rare are counts, not classes.
    """
    if column.kind != "numeric" or column.large or isinstance(present.dtype, pd.CategoricalDtype):
        return None
    reading = column.reading
    if reading is not None and reading.kind == "boolean":
        return None
    numbers, stray = to_numbers(present, reading)
    if stray.any():
        return None
    values, counts = np.unique(numbers[np.isfinite(numbers)], return_counts=True)
    least = int(np.argmin(counts))
    if len(values) <= 2 or counts[least] >= FEWEST_OF_A_CLASS:
        return None
    return f"{values[least]:g}", int(counts[least])


def _typed_objects(present: pd.Series, column: Column) -> bool:
    """Whether a column of Python objects holds numbers rather than text."""
    return column.kind == "numeric" and column.numbers is None


def _few(values: list[Any]) -> bool:
    return 1 < len(set(values)) <= min(MAX_INTEGER_CLASSES, len(values) // 2)


def _guess_text(cells: list[str], column: Column) -> Task:
    stripped = [cell.strip() for cell in cells]
    found = column.numbers
    if column.kind == "numeric" and found is not None:
        known = [cell for cell in stripped if not is_missing_word(cell)]
        if found.reading.kind == "boolean":
            return "classification"
        whole = all(cell.lstrip("+-").isdecimal() for cell in known if cell not in found.strays)
        return "classification" if whole and _few(known) else "regression"
    share = found.share if found is not None else 0.0
    if column.large:
        return "classification"
    repeated = len(set(stripped)) <= min(MAX_INTEGER_CLASSES, len(stripped) // 2)
    return "classification" if share < 0.5 or (repeated and share < 0.95) else "regression"


def _numbers(present: pd.Series, name: str, rows: BoolArray, column: Column) -> TargetColumn:
    """All values as finite numbers; words for missing are dropped, and named."""
    reading = column.reading
    if reading is None and is_text(present) and not _typed_objects(present, column):
        reading = column.numbers.reading if column.numbers is not None else NumberReading()
    numbers, stray = to_numbers(present, reading)
    notes: list[str] = []
    dropped = ""
    if is_text(present):
        cells = [cell.strip() for cell in as_cells(present)]
        gone = np.isnan(numbers) & ~stray
        words = {cell: 1 for cell, is_gone in zip(cells, gone, strict=True) if is_gone}
        unknown = [w for w in words if not is_missing_word(w)]
        if unknown:  # words that a feature could do without
            stray = stray | np.array([cell in unknown for cell in cells], dtype=bool)
        if column.numbers is not None and column.numbers.accepted:
            notes += [f"target {name}: {_HOW[kind]}{detail}" for kind, detail in how_read(column)]
        if words and not unknown:
            counts = {word: cells.count(word) for word in words}
            dropped = counted(counts)
            notes.append(f"target {name}: rows dropped that hold {dropped}")
    if stray.any():
        _refuse_stray(present, name, stray)
    keep = ~np.isnan(numbers)
    numbers, index = numbers[keep], present.index[keep]
    if not numbers.size:
        raise UserError(f"target {name!r} is missing in every row")
    infinite = ~np.isfinite(numbers)
    if infinite.any():
        row = index[int(np.flatnonzero(infinite)[0])] + 1
        raise UserError(
            f"target {name!r} is infinite in data row {row} ({int(infinite.sum())} such rows);"
            " correct or remove it"
        )
    largest = int(np.argmax(np.abs(numbers)))
    if abs(numbers[largest]) > LARGEST:
        raise UserError(
            f"target {name!r} is {numbers[largest]:g} in data row {index[largest] + 1}: too large"
            f" to compute with (at most {LARGEST:g}); use other units"
        )
    if np.ptp(numbers) == 0.0:
        way = f" but for {dropped}; are these labels? --task classification" if dropped else ""
        raise UserError(f"target {name!r} is constant: every row is {numbers[0]:g}{way}")
    kept = np.zeros(len(rows), dtype=bool)
    kept[index] = True
    return TargetColumn(numbers, "regression", (), kept, tuple(notes))


_HOW = {
    "parsed": "text read as numbers",
    "about": "approximate numbers count as exact",
    "clock": "times become hours",
    "ambiguous": "numbers could be read in two ways",
}


def _refuse_stray(present: pd.Series, name: str, stray: BoolArray) -> None:
    first = int(np.flatnonzero(stray)[0])
    labels = len({str(value) for value in present}) <= len(present) / 2
    way = ", or use --task classification" if labels else ""
    raise UserError(
        f"target {name!r} must be numeric, but data row {present.index[first] + 1} holds"
        f" {str(present.iloc[first])[:40]!r} ({int(stray.sum())} such rows);"
        f" correct or remove it{way}"
    )


def _classes(present: pd.Series, name: str, rows: BoolArray, column: Column) -> TargetColumn:
    """Values as indices into the sorted distinct labels."""
    labels, alike = _without_slips(_labels(present, name))
    distinct = sorted(set(labels), key=_order(labels))
    if len(distinct) == 1:
        raise UserError(f"target {name!r} has one class only: every row is {distinct[0]!s:.40}")
    if len(distinct) > len(labels) / 2:
        number = column.kind == "numeric"
        way = "use --task regression or another column" if number else "give another column"
        shown = ", ".join(repr(str(label)[:30]) for label in distinct[:2])
        raise UserError(
            f"target {name!r} has {len(distinct)} distinct values in {len(labels)} rows"
            f" ({shown} ...): too many for classes; {way}"
        )
    index = {label: k for k, label in enumerate(distinct)}
    codes = np.array([index[label] for label in labels], dtype=np.int32)
    words = {
        label: labels.count(label)
        for label in distinct
        if isinstance(label, str) and is_missing_word(label.strip())
    }
    notes = []
    if words:
        notes.append(f"target {name}: {counted(words)} are labels; only blanks are missing")
    if alike:
        shown = ", ".join(f"{odd[:30]!r} ({n}) counts as {to[:30]!r}" for odd, to, n in alike[:3])
        notes.append(f"target {name}: labels that differ in blanks at their ends only: {shown}")
    return TargetColumn(codes, "classification", tuple(distinct), rows, tuple(notes))


def _without_slips(labels: list[Any]) -> tuple[list[Any], list[tuple[str, str, int]]]:
    """Labels that differ in blanks at their ends only are one class, written as most of its rows.

    Returns:
      The labels, and (as it was written, as it counts, rows) of those that changed.
    """
    if all(not isinstance(label, str) or label == label.strip() for label in labels):
        return labels, []
    counts = Counter(label for label in labels if isinstance(label, str))
    usual: dict[str, str] = {}
    for label in sorted(counts, key=lambda label: (-counts[label], len(label), label)):
        usual.setdefault(label.strip(), label)
    alike = [(label, usual[label.strip()], counts[label]) for label in sorted(counts)]
    found = [usual[label.strip()] if isinstance(label, str) else label for label in labels]
    return found, [slip for slip in alike if slip[0] != slip[1]]


def _order(labels: list[Any]) -> Any:
    """Sort labels as numbers where all are; text otherwise."""

    def as_number(label: Any) -> tuple[float, str]:
        return (float(label), str(label))

    try:
        if all(math.isfinite(as_number(label)[0]) for label in set(labels)):
            return as_number
    except (ValueError, OverflowError, TypeError):
        pass
    return str


def _labels(present: pd.Series, name: str) -> list[Any]:
    """Labels in their own type: bool, int, float, or text as written."""
    if pd.api.types.is_bool_dtype(present) or pd.api.types.infer_dtype(present) == "boolean":
        return present.to_numpy(dtype=bool).tolist()
    if pd.api.types.is_integer_dtype(present) or pd.api.types.infer_dtype(present) == "integer":
        return [int(value) for value in present.tolist()]
    if pd.api.types.is_numeric_dtype(present):
        numbers = present.to_numpy(dtype=np.float64)
        if not np.isfinite(numbers).all():
            raise UserError(f"target {name!r} holds infinite values; correct or remove them")
        whole = (numbers == np.floor(numbers)).all() and np.abs(numbers).max() < 2**53
        return [int(v) for v in numbers] if whole else numbers.tolist()
    if is_text(present) and all(isinstance(value, str) for value in present):
        return list(present)
    return to_categories(present).tolist()
