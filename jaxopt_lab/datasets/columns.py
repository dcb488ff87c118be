"""One column at a time: raw values -> numbers, category labels or dates.

What a training column holds, and how its text is written, is decided once from all its cells
(`decide_columns`). Everything else works value by value with that decision, never by what else is
in a column, so that a table for prediction is read exactly as the training table was.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jaxopt_lab.datasets.date_columns import decide_dates
from jaxopt_lab.datasets.dates import date_parts, find_date_format, to_dates
from jaxopt_lab.datasets.missing_words import MISSING_WORDS, is_missing_word
from jaxopt_lab.datasets.number_reading import (
    MOSTLY,
    BoolArray,
    Decision,
    FloatArray,
    NumberReading,
    decide,
    majority,
    parse_plain,
    read_numbers,
    resolve,
)

__all__ = [
    "HUGE",
    "MISSING",
    "MOSTLY",
    "BoolArray",
    "Column",
    "FloatArray",
    "Kind",
    "as_cells",
    "date_parts",
    "decide_columns",
    "find_date_format",
    "is_missing",
    "is_text",
    "readings_of",
    "to_categories",
    "to_dates",
    "to_numbers",
]

Kind = Literal["numeric", "categorical", "date"]

MISSING = "(missing)"
"""The category label of a missing value."""
HUGE = 1e100
"""Larger magnitudes count as infinite: their squares overflow."""

_EXACT = 2**53
_NUMBER_KINDS = ("boolean", "integer", "floating", "mixed-integer-float", "decimal")


class Column(NamedTuple):
    """What a training column holds.

    Attributes:
      kind: None if the column is unusable: lists, complex numbers ...
      reading: how text is read as numbers; None for typed columns, labels and dates.
      numbers: all that was found out about numbers in text.
      date_format: of a date column that is text; several have `dates.SEVERAL` between them.
      other_format: a date format that reads as many cells, or "".
      dates: share of the cells that are dates.
      large: whole numbers that a float64 cannot tell apart; they are labels.
    """

    kind: Kind | None
    reading: NumberReading | None = None
    numbers: Decision | None = None
    date_format: str | None = None
    other_format: str = ""
    dates: float = 0.0
    large: bool = False


def is_missing(values: pd.Series) -> BoolArray:
    """Tell which values are missing: None, NaN, NaT, NA and blank text; bool [n]."""
    missing = np.asarray(values.isna(), dtype=bool)
    if is_text(values):
        blank = [isinstance(value, str) and not value.strip() for value in values.tolist()]
        missing = missing | np.array(blank, dtype=bool)
    return missing


def is_text(values: pd.Series) -> bool:
    """Tell whether a column holds text (or mixed objects) rather than typed values."""
    return bool(pd.api.types.is_object_dtype(values) or pd.api.types.is_string_dtype(values))


def as_cells(values: pd.Series) -> list[str]:
    """Give a column of text (or mixed objects) as text [n], blank where missing."""
    cells = values.tolist()
    if not _all_text(cells):
        gaps = np.asarray(values.isna(), dtype=bool)
        cells = ["" if gap else str(cell) for cell, gap in zip(cells, gaps, strict=True)]
    return cells


def to_numbers(
    values: pd.Series, reading: NumberReading | None = None
) -> tuple[FloatArray, BoolArray]:
    """Read a column as numbers: booleans as 0 and 1, time spans in days, text parsed.

    Args:
      values: a column [n] of any type.
      reading: how the training column was written. None stands for a model of an earlier
        version or a typed column: thousands commas, currency and per cent signs are ignored.

    Returns:
      Numbers float64 [n] with NaN where missing or unreadable (inf is kept), and the
      mask bool [n] of values that are present but not numbers.
    """
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(object)
    if is_text(values):
        if reading is not None:
            return read_numbers(as_cells(values), reading)
        return _parse_text(values, is_missing(values))
    missing = is_missing(values)
    if pd.api.types.is_timedelta64_dtype(values):
        return np.asarray(values.dt.total_seconds() / 86400.0, dtype=np.float64), ~missing & missing
    if pd.api.types.is_datetime64_any_dtype(values) or pd.api.types.is_complex_dtype(values):
        return np.full(len(values), np.nan), ~missing
    try:
        return values.to_numpy(dtype=np.float64, na_value=np.nan), ~missing & missing
    except (TypeError, ValueError):
        return _parse_text(values.astype(object), missing)


def _parse_text(values: pd.Series, missing: BoolArray) -> tuple[FloatArray, BoolArray]:
    """Parse text without a reading: as one that a column decides for, or cell by cell."""
    cells = as_cells(values)
    plain = parse_plain(cells)
    if plain is not None:
        return plain, np.zeros(len(cells), dtype=bool)
    found = decide(cells)
    reading = found.reading if found and found.accepted and found.reading.decimal == "," else None
    if reading is not None:
        return read_numbers(cells, reading)
    numbers = np.array(pd.to_numeric(pd.Series(cells, dtype=object), errors="coerce"), np.float64)
    missing = missing | np.array([is_missing_word(cell.strip()) for cell in cells], dtype=bool)
    rest = np.flatnonzero(np.isnan(numbers) & ~missing)
    if rest.size:
        text = pd.Series([cells[k].strip() for k in rest], dtype=object)
        plain_cells = text.str.replace(r"[$€£¥%\s]", "", regex=True)
        grouped = plain_cells.str.match(r"^[+-]?\d{1,3}(?:,\d{3})+(?:\.\d*)?$")
        plain_cells = plain_cells.where(~grouped, plain_cells.str.replace(",", "", regex=False))
        plain_cells = plain_cells.str.lower().replace({"true": "1", "false": "0"})
        numbers[rest] = np.asarray(pd.to_numeric(plain_cells, errors="coerce"), dtype=np.float64)
    return numbers, np.isnan(numbers) & ~missing


def to_categories(values: pd.Series, exact: bool = True) -> NDArray[np.object_]:
    """Read a column as category labels.

    Args:
      values: a column [n] of any type; whole floats read as integers ("1.0" is "1").
      exact: text is a label as it is written, in Unicode's composed form; else words such as
        "NA" count as missing, as they did for models of earlier versions.

    Returns:
      Labels, str objects [n], stripped of blanks; `MISSING` where missing.
    """
    missing = is_missing(values)
    if pd.api.types.is_float_dtype(values):
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        whole = np.isfinite(numbers) & (numbers == np.floor(numbers)) & (np.abs(numbers) < _EXACT)
        labels = np.array([str(v) for v in numbers], dtype=object)
        labels[whole] = [str(int(v)) for v in numbers[whole]]
    else:
        labels = np.array([str(v).strip() for v in values.astype(object)], dtype=object)
    if exact:
        for row, label in enumerate(labels):
            if not label.isascii():
                labels[row] = unicodedata.normalize("NFC", label)
    else:
        words = [label.casefold() in MISSING_WORDS for label in labels]
        missing = missing | np.array(words, dtype=bool)
    labels[missing | (labels == "")] = MISSING
    return labels


def decide_columns(frame: pd.DataFrame) -> dict[str, Column]:
    """Decide what the columns of a training table hold, and how their text is written.

    Args:
      frame: raw columns, all rows.

    Returns:
      A decision for each column. Where a separator could be the decimal sign or that of
      thousands in all cells of a column, it means what it surely means in other columns.
    """
    found = {str(name): _decide_column(values) for name, values in frame.items()}
    votes = majority(column.numbers for column in found.values() if column.numbers is not None)
    for name, column in found.items():
        if column.reading is not None and column.numbers is not None:
            numbers = column.numbers
            if votes.get(numbers.ambiguous) == "decimal" and numbers.ambiguous == ".":
                numbers = numbers._replace(ambiguous="")  # nothing to tell: it is read as usual
            found[name] = column._replace(reading=resolve(column.numbers, votes), numbers=numbers)
    return found


def _decide_column(values: pd.Series) -> Column:
    if not is_text(values):
        return _typed_column(values)
    cells = values.tolist()
    if _all_text(cells):
        return decide_cells(cells)
    inferred = pd.api.types.infer_dtype(values, skipna=True)
    if inferred in ("date", "datetime", "datetime64"):
        return Column("date")
    odd = (list, dict, set, tuple, np.ndarray)
    if any(isinstance(value, odd) for value in cells):
        return Column(None)
    if inferred in _NUMBER_KINDS and not _merges(values.dropna().tolist()):
        return Column("numeric")
    return decide_cells(as_cells(values))


def _all_text(cells: Sequence[Any]) -> bool:
    try:
        "".join(cells)
    except TypeError:
        return False
    return True


def _typed_column(values: pd.Series) -> Column:
    if isinstance(values.dtype, pd.CategoricalDtype):
        return Column("categorical")
    if pd.api.types.is_datetime64_any_dtype(values) or isinstance(values.dtype, pd.PeriodDtype):
        return Column("date")
    if pd.api.types.is_complex_dtype(values):
        return Column(None)
    if pd.api.types.is_integer_dtype(values) and _merges(values.dropna().tolist()):
        return Column("categorical", large=True)
    return Column("numeric")


def _merges(values: Sequence[Any]) -> bool:
    """Whether different whole numbers become one as float64."""
    if not values or not all(isinstance(value, int) for value in values):
        return False
    if max(map(abs, values)) < _EXACT:
        return False
    distinct = set(values)
    try:
        return len({float(value) for value in distinct}) < len(distinct)
    except OverflowError:
        return True


def decide_cells(cells: Sequence[str]) -> Column:
    """Decide what a column of text holds.

    Args:
      cells: text [n], blank where missing.

    Returns:
      The decision; "categorical" also where there is no value at all.
    """
    numbers = decide(cells)
    if numbers is not None and numbers.accepted:
        plain = numbers.plain
        small = plain is not None and not (np.abs(plain) >= _EXACT).any()
        if not small and _large_integers(cells):
            return Column("categorical", large=True)
        return Column("numeric", numbers.reading, numbers)
    dates = decide_dates([cell.strip() for cell in cells])
    if dates is None:
        return Column("categorical", numbers=numbers)
    if not dates.accepted:
        return Column("categorical", numbers=numbers, dates=dates.share)
    return Column("date", date_format=dates.form, other_format=dates.other, dates=dates.share)


def _large_integers(cells: Sequence[str]) -> bool:
    """Whether text holds whole numbers that float64 would merge."""
    if max(map(len, cells)) <= 15:
        return False
    present = [cell.strip() for cell in cells if cell.strip() and not is_missing_word(cell.strip())]
    if not all(cell.lstrip("+-").isdecimal() and len(cell) < 1000 for cell in present):
        return False
    return _merges([int(cell) for cell in present])


def readings_of(columns: Mapping[str, Column]) -> dict[str, NumberReading]:
    """The readings of those columns that are numbers in text."""
    return {name: c.reading for name, c in columns.items() if c.reading is not None}
