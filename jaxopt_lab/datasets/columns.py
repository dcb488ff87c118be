"""One column at a time: raw values -> numbers, category labels or dates.

Everything here works value by value, never by what else is in the column, so that a
table for prediction is read exactly as the training table was. The two exceptions look
at a training column once and return a decision to keep: `column_kind`, `find_date_format`.
"""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Kind = Literal["numeric", "categorical", "date"]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

MISSING = "(missing)"
"""The category label of a missing value."""
MOSTLY = 0.95
"""A text column is numeric, or a date, if at least this share of its values is."""
HUGE = 1e100
"""Larger magnitudes count as infinite: their squares overflow."""

_DATE_FORMATS = (
    "ISO8601",
    "%Y/%m/%d",
    "%Y.%m.%d",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%d.%m.%Y",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%m/%d/%y",
    "%d/%m/%y",
    "%d.%m.%y",
    "%Y/%m/%d %H:%M",
    "%m/%d/%Y %H:%M",
    "%d/%m/%Y %H:%M",
    "%d.%m.%Y %H:%M",
    "%m/%d/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M:%S",
    "%d.%m.%Y %H:%M:%S",
    "%d %b %Y",
    "%d-%b-%Y",
    "%b %d, %Y",
    "%d %B %Y",
    "%B %d, %Y",
)
_DATE_LIKE = (
    r"^\s*(?:\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}|\d{1,2}[ -][A-Za-z]{3}|[A-Za-z]{3,9} \d{1,2},)"
)
_NUMBER_KINDS = ("boolean", "integer", "floating", "mixed-integer-float", "decimal")


def is_missing(values: pd.Series) -> BoolArray:
    """Tell which values are missing (None, NaN, NaT, NA); bool [n]."""
    return np.asarray(values.isna(), dtype=bool)


def is_text(values: pd.Series) -> bool:
    """Tell whether a column holds text (or mixed objects) rather than typed values."""
    return bool(pd.api.types.is_object_dtype(values) or pd.api.types.is_string_dtype(values))


def to_numbers(values: pd.Series) -> tuple[FloatArray, BoolArray]:
    """Read a column as numbers: booleans as 0 and 1, time spans in days, text parsed.

    In text, thousands commas, a currency sign, a per cent sign and blanks are ignored.

    Args:
      values: a column [n] of any type.

    Returns:
      Numbers float64 [n] with NaN where missing or unreadable (inf is kept), and the
      mask bool [n] of values that are present but not numbers.
    """
    missing = is_missing(values)
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(object)
    if pd.api.types.is_timedelta64_dtype(values):
        return np.asarray(values.dt.total_seconds() / 86400.0, dtype=np.float64), ~missing & missing
    if pd.api.types.is_datetime64_any_dtype(values) or pd.api.types.is_complex_dtype(values):
        return np.full(len(values), np.nan), ~missing
    if not is_text(values):
        try:
            return values.to_numpy(dtype=np.float64, na_value=np.nan), ~missing & missing
        except (TypeError, ValueError):
            values = values.astype(object)
    return _parse_text(values, missing)


def _parse_text(values: pd.Series, missing: BoolArray) -> tuple[FloatArray, BoolArray]:
    """Parse text (or mixed objects) to numbers and the mask of stray values."""
    numbers = np.array(pd.to_numeric(values, errors="coerce"), dtype=np.float64)
    rest = np.flatnonzero(np.isnan(numbers) & ~missing)
    if rest.size:
        text = values.iloc[rest].astype(str).str.strip()
        plain = text.str.replace(r"[$€£¥%\s]", "", regex=True)
        grouped = plain.str.match(r"^[+-]?\d{1,3}(?:,\d{3})+(?:\.\d*)?$")
        plain = plain.where(~grouped, plain.str.replace(",", "", regex=False))
        plain = plain.replace({"True": "1", "true": "1", "False": "0", "false": "0"})
        numbers[rest] = np.asarray(pd.to_numeric(plain, errors="coerce"), dtype=np.float64)
    return numbers, np.isnan(numbers) & ~missing


def to_categories(values: pd.Series) -> NDArray[np.object_]:
    """Read a column as category labels.

    Args:
      values: a column [n] of any type; whole floats read as integers ("1.0" is "1").

    Returns:
      Labels, str objects [n], stripped of blanks; `MISSING` where missing.
    """
    missing = is_missing(values)
    if pd.api.types.is_float_dtype(values):
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        whole = np.isfinite(numbers) & (numbers == np.floor(numbers)) & (np.abs(numbers) < 2**53)
        labels = np.array([str(v) for v in numbers], dtype=object)
        labels[whole] = [str(int(v)) for v in numbers[whole]]
    else:
        labels = np.array([str(v).strip() for v in values.astype(object)], dtype=object)
    labels[missing | (labels == "")] = MISSING
    return labels


def find_date_format(values: pd.Series) -> str | None:
    """Find the one date format that reads a text column.

    Args:
      values: a text column [n].

    Returns:
      A format for `pandas.to_datetime` that reads at least 95 % of the values, or None.
      Where day and month can be either, the format that reads more values wins, and on a
      tie the month comes first with slashes, the day with points and dashes.
    """
    present = values[~is_missing(values)].astype(str)
    if present.empty or present.iloc[:200].str.match(_DATE_LIKE).mean() < MOSTLY:
        return None
    present = present.drop_duplicates()
    shares = [1.0 - to_dates(present, form)[1].mean() for form in _DATE_FORMATS]
    best = int(np.argmax(shares))
    return _DATE_FORMATS[best] if shares[best] >= MOSTLY else None


def to_dates(values: pd.Series, form: str | None) -> tuple[pd.Series, BoolArray]:
    """Read a column as dates, time zones as UTC.

    Args:
      values: a column [n] of dates, date objects or text.
      form: format for `pandas.to_datetime`; None lets pandas read each value.

    Returns:
      datetime64 [n] with NaT where missing or unreadable, and the mask bool [n] of values
      that are present but no dates.
    """
    missing = is_missing(values)
    if isinstance(values.dtype, pd.PeriodDtype):
        values = values.dt.to_timestamp()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if pd.api.types.is_datetime64_any_dtype(values):
            dates = pd.to_datetime(values, utc=True)
        else:
            text = values.astype(object).where(~missing, None).map(_plain_text)
            dates = pd.to_datetime(text, errors="coerce", utc=True, format=form or "mixed")
    return dates.dt.tz_localize(None), np.asarray(dates.isna(), dtype=bool) & ~missing


def _plain_text(value: object) -> str | None:
    return None if value is None else str(value).strip()


def date_parts(dates: pd.Series) -> dict[str, FloatArray]:
    """Expand dates to numbers.

    Args:
      dates: datetime64 [n].

    Returns:
      Float64 [n] each: `year`, `month` (1-12), `day` (1-31), `ordinal` (whole days since
      1970-01-01) and `hour` (0-24, with fractions); NaN where the date is missing.
    """
    hour = dates.dt.hour + dates.dt.minute / 60.0 + dates.dt.second / 3600.0
    ordinal = (dates.dt.floor("D") - pd.Timestamp(1970, 1, 1)) / pd.Timedelta(days=1)
    parts = {
        "year": dates.dt.year,
        "month": dates.dt.month,
        "day": dates.dt.day,
        "ordinal": ordinal,
        "hour": hour,
    }
    return {part: values.to_numpy(dtype=np.float64) for part, values in parts.items()}


def column_kind(values: pd.Series) -> tuple[Kind | None, str | None]:
    """Decide what a training column holds.

    Args:
      values: a column [n] of any type with at least one value present.

    Returns:
      The kind (None if the column is unusable: lists, complex numbers ...), and for a date
      written as text the format found.
    """
    if isinstance(values.dtype, pd.CategoricalDtype):
        return "categorical", None
    if pd.api.types.is_datetime64_any_dtype(values) or isinstance(values.dtype, pd.PeriodDtype):
        return "date", None
    if pd.api.types.is_complex_dtype(values):
        return None, None
    if not is_text(values):
        return "numeric", None
    inferred = pd.api.types.infer_dtype(values, skipna=True)
    if inferred in _NUMBER_KINDS:
        return "numeric", None
    if inferred in ("date", "datetime", "datetime64"):
        return "date", None
    present = values[~is_missing(values)]
    if present.map(lambda value: isinstance(value, (list, dict, set, tuple, np.ndarray))).any():
        return None, None
    if 1.0 - to_numbers(present)[1].mean() >= MOSTLY:
        return "numeric", None
    form = find_date_format(present)
    return ("date", form) if form else ("categorical", None)
