"""Feature columns as they come -> float64, text or datetime64 columns, with notes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxopt_lab.datasets.columns import (
    HUGE,
    MISSING,
    Kind,
    column_kind,
    is_missing,
    to_categories,
    to_dates,
    to_numbers,
)

MANY_CATEGORIES = 40
"""With more categories than this the rare ones share one encoded column."""
NEAR_UNIQUE = 0.9
"""Text with more distinct values than this share of the rows says nothing about new rows."""

_IDENTIFIER = re.compile(
    r"(id|pid|uuid|guid|index|idx|row|rowid|row[ _]?(names?|number|num|nr|no|id)"
    r"|unnamed: \d+|.*[_ .-](id|uuid|guid))",
    re.IGNORECASE,
)
_CAMEL_IDENTIFIER = re.compile(r".*[a-z](ID|Id)")


class CleanFeatures(NamedTuple):
    """Cleaned feature columns, what each holds, date formats found, and notes."""

    frame: pd.DataFrame
    kinds: dict[str, Kind]
    date_formats: dict[str, str]
    notes: list[str]


def row_identifiers(frame: pd.DataFrame) -> list[str]:
    """Name the columns of whole numbers that only number the rows.

    A column is one if its values are all different whole numbers and either its name says
    so (`id`, `row_id`, `PID`, `Unnamed: 0` ...) or they count the rows in file order.

    Args:
      frame: raw columns, all rows of the file in order.

    Returns:
      Column names.
    """
    return [column for column in frame.columns if _numbers_rows(str(column), frame[column])]


def _numbers_rows(name: str, values: pd.Series) -> bool:
    if not pd.api.types.is_integer_dtype(values) or values.isna().any() or len(values) < 3:
        return False
    if not values.is_unique:
        return False
    numbers = values.to_numpy(dtype=np.float64)
    counts = bool(np.all(np.diff(numbers) == 1.0) and numbers[0] in (0.0, 1.0))
    named = _IDENTIFIER.fullmatch(name) or _CAMEL_IDENTIFIER.fullmatch(name)
    return counts or bool(named)


def clean_features(frame: pd.DataFrame) -> CleanFeatures:
    """Clean every feature column, dropping those that can tell nothing.

    Args:
      frame: raw feature columns, the rows that have a target.

    Returns:
      Numeric columns as float64 with NaN where missing, categorical ones as text with NaN,
      dates as datetime64; at most one note for each kind of repair.
    """
    clean: dict[str, pd.Series] = {}
    kinds: dict[str, Kind] = {}
    formats: dict[str, str] = {}
    found: dict[str, list[str]] = {}
    for column in frame.columns:
        values = frame[column].reset_index(drop=True)
        kind, form = (None, None) if is_missing(values).all() else column_kind(values)
        reason: str | None
        if kind is None:
            reason = "empty" if is_missing(values).all() else "unusable"
        else:
            cleaned, repairs = _CLEANERS[kind](values, form)
            for repair, detail in repairs:
                found.setdefault(repair, []).append(f"{column}{detail}")
            reason = _useless(cleaned, kind)
        if reason:
            found.setdefault(reason, []).append(str(column))
            continue
        assert kind is not None
        clean[column], kinds[column] = cleaned, kind
        if form is not None:
            formats[column] = form
    empty = pd.DataFrame(index=pd.RangeIndex(len(frame)))
    result = pd.DataFrame(clean) if clean else empty
    notes = [_TEXTS[reason].format(_listed(columns)) for reason, columns in found.items()]
    return CleanFeatures(result, kinds, formats, notes + _missing_notes(result, kinds))


_TEXTS = {
    "empty": "dropped columns without any value: {}",
    "unusable": "dropped columns that hold neither numbers, text nor dates: {}",
    "constant": "dropped constant columns: {}",
    "unique": "dropped text columns that differ in nearly every row: {}",
    "infinite": "infinite values in numeric columns count as missing: {}",
    "stray": "text in numeric columns counts as missing: {}",
    "undated": "text in date columns counts as missing: {}",
    "parsed": "text columns read as numbers: {}",
    "dates": "dates become year, month, day and ordinal: {}",
    "many": f"rare categories are pooled where there are more than {MANY_CATEGORIES}: {{}}",
}


def _listed(columns: Sequence[str], limit: int = 8) -> str:
    more = f" and {len(columns) - limit} more" if len(columns) > limit else ""
    return ", ".join(columns[:limit]) + more


_Repairs = list[tuple[str, str]]


def _clean_numbers(values: pd.Series, form: str | None) -> tuple[pd.Series, _Repairs]:
    numbers, stray = to_numbers(values)
    infinite = np.abs(numbers) > HUGE
    numbers = np.where(infinite, np.nan, numbers)
    repairs: _Repairs = []
    if infinite.any():
        repairs.append(("infinite", f" ({int(infinite.sum())})"))
    if stray.any():
        example = str(values[stray].iloc[0])[:20]
        repairs.append(("stray", f" ({int(stray.sum())}, such as {example!r})"))
    elif pd.api.types.is_string_dtype(values.dtype) and values.map(type).eq(str).any():
        repairs.append(("parsed", ""))
    return pd.Series(numbers), repairs


def _clean_dates(values: pd.Series, form: str | None) -> tuple[pd.Series, _Repairs]:
    dates, stray = to_dates(values, form)
    repairs: _Repairs = [("dates", f" ({form})" if form else "")]
    if stray.any():
        repairs.append(("undated", f" ({int(stray.sum())})"))
    return dates, repairs


def _clean_categories(values: pd.Series, form: str | None) -> tuple[pd.Series, _Repairs]:
    labels = pd.Series(to_categories(values), dtype=object)
    labels = labels.where(labels != MISSING, None).astype("str")
    number = labels.nunique()
    many = number > MANY_CATEGORIES and not _near_unique(labels)
    return labels, [("many", f" ({number})")] if many else []


_CLEANERS: dict[Kind, Callable[[pd.Series, str | None], tuple[pd.Series, _Repairs]]] = {
    "numeric": _clean_numbers,
    "categorical": _clean_categories,
    "date": _clean_dates,
}


def _near_unique(labels: pd.Series) -> bool:
    number = labels.nunique()
    return bool(number >= 20 and number > NEAR_UNIQUE * labels.notna().sum())


def _useless(values: pd.Series, kind: Kind) -> str | None:
    """Why a cleaned column can tell nothing, or None."""
    number, missing = values.nunique(), bool(values.isna().any())
    if number == 0:
        return "empty"
    if number == 1 and not missing:
        return "constant"
    return "unique" if kind == "categorical" and _near_unique(values) else None


def _missing_notes(frame: pd.DataFrame, kinds: dict[str, Kind]) -> list[str]:
    """One line for each way of filling."""
    counts = frame.isna().sum()
    notes = []
    for group, how in (
        (("numeric", "date"), "filled with the training median, and marked"),
        (("categorical",), "their own category"),
    ):
        gaps = [
            f"{name} ({counts[name]})" for name in kinds if counts[name] and kinds[name] in group
        ]
        if gaps:
            notes.append(f"missing values are {how}: {_listed(gaps)}")
    return notes
