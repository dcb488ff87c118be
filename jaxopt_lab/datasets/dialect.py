"""How a text table is written: separator, column names, decimal comma."""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass

import pandas as pd

from jaxopt_lab.datasets.columns import MOSTLY

_SEPARATORS = (",", ";", "\t", "|")
_SEPARATOR_NAMES = {";": "';'", "\t": "tabs", "|": "'|'"}
_DECIMAL_COMMA = r"^\s*[+-]?(?:\d{1,3}(?:\.\d{3})+|\d+)(?:,\d+)?\s*$"
_SAMPLE_LINES = 200


@dataclass(frozen=True)
class Dialect:
    """How a text table is written.

    Args:
      separator: "," or ";" or tab or "|".
      decimal: "." or ",".
      header: the fields of the first line, stripped.
      names: one column name for each field of a row.
      notes: what is unusual, one line each.
    """

    separator: str
    decimal: str
    header: tuple[str, ...]
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def find_dialect(text: str, target: str | None = None) -> Dialect | None:
    """Tell from its first lines how a table is written.

    Args:
      text: the table.
      target: a column that should be there; the separator that gives it is preferred.

    Returns:
      The dialect, or None for a text of blanks.

    Example:
      >>> find_dialect("a;b\\n1,5;2\\n").decimal
      ','
    """
    sample = _sample(text)
    if not sample.strip():
        return None
    separator = max(_SEPARATORS, key=lambda s: _separator_score(sample, s, target))
    rows = _split(sample, separator)
    header = [field.strip() for field in rows[0]]
    names, notes = _names(header, rows[1:])
    if separator in _SEPARATOR_NAMES:
        notes.append(f"columns are separated by {_SEPARATOR_NAMES[separator]}")
    comma = separator != "," and _has_decimal_comma(rows[1:], separator)
    if comma:
        notes.append("numbers have a decimal comma")
    decimal = "," if comma else "."
    return Dialect(separator, decimal, tuple(header), tuple(names), tuple(notes))


def _sample(text: str) -> str:
    """The first lines that are not blank."""
    lines: list[str] = []
    stream = io.StringIO(text, newline="")
    for line in stream:
        if line.strip() or lines:
            lines.append(line)
        if len(lines) >= _SAMPLE_LINES:
            break
    return "".join(lines)


def _split(sample: str, separator: str) -> list[list[str]]:
    """The non-blank records of a sample."""
    reader = csv.reader(io.StringIO(sample, newline=""), delimiter=separator, skipinitialspace=True)
    try:
        return [row for row in reader if any(field.strip() for field in row)]
    except csv.Error:
        return [[sample[:80]]]


def _separator_score(sample: str, separator: str, target: str | None) -> tuple[bool, bool, int]:
    """Rank a separator: gives the target column, rows as wide as the header, many columns."""
    rows = _split(sample, separator)
    header = [field.strip() for field in rows[0]]
    if len(header) == 1:
        return target in header, False, 1
    near = sum(len(row) in (len(header), len(header) + 1) for row in rows)
    return target in header, near >= 0.9 * len(rows), len(header)


def _names(header: list[str], rows: list[list[str]]) -> tuple[list[str], list[str]]:
    """Column names, also for blank ones, row names (as R writes) and trailing separators."""
    notes = []
    names = [field or f"Unnamed: {position}" for position, field in enumerate(header)]
    widths = Counter(len(row) for row in rows)
    if rows and widths.most_common(1)[0][0] == len(header) + 1:
        long_rows = [row for row in rows if len(row) == len(header) + 1]
        if all(not row[-1].strip() for row in long_rows):
            names = [*names, f"Unnamed: {len(names)}"]
        else:
            names = ["row_names", *names]
            notes.append("rows have one field more than the header; took it as row names")
    return names, notes


def _has_decimal_comma(rows: list[list[str]], separator: str) -> bool:
    """Tell whether "1,5" is a number here; "1,234" alone decides only between semicolons."""
    cells = pd.Series([field for row in rows for field in row], dtype=str)
    cells = cells[cells.str.match(r"^\s*[+-]?[\d.,]+\s*$")]
    points = cells.str.match(r"^\s*[+-]?\d*\.(?!\d{3}\s*$)\d+\s*$").sum()
    commas = cells[cells.str.match(_DECIMAL_COMMA) & cells.str.contains(",")]
    surely = (~commas.str.match(r"^\s*[+-]?[1-9]\d{0,2},\d{3}\s*$")).sum()
    return bool(points == 0 and (surely > 0 or (separator == ";" and len(commas) > 0)))


def decimal_points(values: pd.Series) -> pd.Series:
    """Rewrite "1.234,5" as "1234.5" in a text column [n] that holds hardly anything else."""
    if not (pd.api.types.is_string_dtype(values) or pd.api.types.is_object_dtype(values)):
        return values
    text = values.astype(str)
    number = text.str.match(_DECIMAL_COMMA) & ~values.isna()
    if number.sum() < MOSTLY * values.notna().sum():
        return values
    points = text.str.replace(".", "", regex=False).str.replace(",", ".", regex=False)
    return values.where(~number, points)
