"""Weeks, quarters and halves of years in text: each stands for its first day."""

from __future__ import annotations

import re
from datetime import date

_BETWEEN = r"[\s,/'’.-]*"
_YEAR, _YEAR_LAST = r"(?P<year>\d{4})", r"(?P<y>\d{4})"
_SHORT_LAST = r"(?P<y>\d{4}|\d{2})"

#: The format of each kind of period, as it is stored, and what its cells look like. Weeks are
#: those of ISO 8601, which begin on Monday, the first with the year's first Thursday.
_PERIODS = {
    "quarter": re.compile(
        rf"{_YEAR}{_BETWEEN}Q(?P<part>[1-4])"
        rf"|(?:Q(?P<p>[1-4])|(?P<n>[1-4])Q){_BETWEEN}{_SHORT_LAST}",
        re.IGNORECASE,
    ),
    "half": re.compile(
        rf"{_YEAR}{_BETWEEN}H(?P<part>[12])"
        rf"|(?:H(?P<p>[12])|(?P<n>[12])H){_BETWEEN}{_SHORT_LAST}",
        re.IGNORECASE,
    ),
    "week": re.compile(
        rf"{_YEAR}{_BETWEEN}(?:W|WK|CW|KW|week)\.?\s*(?P<part>\d{{1,2}})"
        rf"|(?:W|WK|CW|KW|week)\.?\s*(?P<p>\d{{1,2}})(?P<n>){_BETWEEN}{_YEAR_LAST}",
        re.IGNORECASE,
    ),
}
_CENTURY_BEGINS = 69
"""Years of two digits from here on are 19xx, as in POSIX."""


def period_of(cell: str) -> str | None:
    """The kind of period that a cell is: "week", "quarter", "half", or None.

    Examples:
      >>> period_of("2014-W01"), period_of("Q1 2014"), period_of("2014-01")
      ('week', 'quarter', None)
    """
    return next((name for name, form in _PERIODS.items() if form.fullmatch(cell)), None)


def is_period(form: str | None) -> bool:
    """Whether the format of a column is one of these."""
    return form in _PERIODS


def first_day(cell: str, form: str) -> str:
    """The first day of a period, as 2013-12-30; a cell that is none comes back.

    Examples:
      >>> first_day("2014-W01", "week"), first_day("H2 2014", "half"), first_day("2014-W54", "week")
      ('2013-12-30', '2014-07-01', '2014-W54')
    """
    found = _PERIODS[form].fullmatch(cell.strip())
    if not found:
        return cell
    number = int(found["part"] or found["p"] or found["n"])
    written = found["year"] or found["y"]
    year = int(written)
    if len(written) == 2:
        year += 1900 if year >= _CENTURY_BEGINS else 2000
    try:
        if form == "week":
            return date.fromisocalendar(year, number, 1).isoformat()
        months = {"quarter": 3, "half": 6}[form]
        return date(year, months * (number - 1) + 1, 1).isoformat()
    except ValueError:  # a year without a week 53
        return cell
