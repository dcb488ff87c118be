"""Whether a column of text holds dates, and in which formats: one, or several that never clash."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxopt_lab.datasets.dates import SEVERAL, rank_formats, to_dates
from jaxopt_lab.datasets.missing_words import is_missing_date
from jaxopt_lab.datasets.number_reading import accept

_MOST_FORMATS = 4
_NUMBERS = re.compile(r"%[dm]([^%]*)%[dm]")


class DateDecision(NamedTuple):
    """What a column of text says about its dates.

    Attributes:
      form: for `to_dates`; several formats have `SEVERAL` between them.
      other: a format that reads cells of one of them as well, with day and month exchanged; "".
      share: of the present cells that are read.
      accepted: the column holds dates.
    """

    form: str
    other: str
    share: float
    accepted: bool


def decide_dates(cells: Sequence[str]) -> DateDecision | None:
    """Find the formats of a column of dates.

    A further format is taken for what the ones before it cannot read, unless it exchanges day and
    month in cells that look alike: then nobody could tell which of the two a cell is.

    Args:
      cells: text [n], stripped; blanks and words for missing do not count.

    Returns:
      The decision; None if no cell is a date. Cells in which day and month can be either have the
      order of the others, if these have only one.
    """
    known = [cell for cell in cells if cell and not is_missing_date(cell)]
    shapes: list[list[str]] = []
    rest = known
    while rest and len(shapes) < _MOST_FORMATS:
        ranked = rank_formats(rest)
        tied = [f for f, share in ranked if share == ranked[0][1] and _alike(f, ranked[0][0])][:2]
        if not tied or any(_clash(form, shape[0]) for form in tied for shape in shapes):
            break
        shapes.append(tied)
        unread = to_dates(pd.Series(rest, dtype=object), tied[0])[1]
        rest = [cell for cell, stray in zip(rest, unread, strict=True) if stray]
    if not shapes:
        return None
    forms, other = _settle(shapes)
    strays: dict[str, int] = {}
    for cell in rest:
        strays[cell] = strays.get(cell, 0) + 1
    number = len(known) - len(rest)
    accepted = accept(number, len(set(known)) - len(strays), strays)
    return DateDecision(SEVERAL.join(forms), other, number / len(known), accepted)


def _settle(shapes: Sequence[Sequence[str]]) -> tuple[list[str], str]:
    """The format of each shape, and one that would do as well for the first that is in doubt."""
    sure = {_day_first(shape[0]) for shape in shapes if len(shape) == 1} - {None}
    forms, other = [], ""
    for first, *seconds in shapes:
        if not seconds:
            forms.append(first)
        elif len(sure) == 1 and {_day_first(first), _day_first(seconds[0])} == {True, False}:
            forms.append(first if _day_first(first) in sure else seconds[0])
        else:
            forms.append(first)
            other = other or seconds[0]
    return forms, other


def _clash(form: str, other: str) -> bool:
    """Whether two formats look alike, or exchange day and month beside the same separator."""
    if _alike(form, other):
        return True
    ones, others = _NUMBERS.search(form), _NUMBERS.search(other)
    alike = ones is not None and others is not None and ones[1] == others[1]
    return alike and _day_first(form) != _day_first(other)


def _alike(form: str, other: str) -> bool:
    """Whether two formats differ only in which number is the day, the month or the year."""
    return re.sub("%[dmy]", "%", form) == re.sub("%[dmy]", "%", other)


def _day_first(form: str) -> bool | None:
    """Whether the day, in digits, stands before the month, in digits; None if one is missing.

    A year in front settles the order, and says nothing about other formats.
    """
    if not _NUMBERS.search(form) or form.lower().startswith("%y"):
        return None
    return form.index("%d") < form.index("%m")


def example_of(cells: Sequence[str], decision_form: str, other: str) -> tuple[str, str]:
    """A cell that could be read in two ways, and the day that it is taken for, as 2014-05-02."""
    column = pd.Series([cell.strip() for cell in cells], dtype=object)
    dates = to_dates(column, decision_form)[0]
    both = ~np.asarray(dates.isna() | to_dates(column, other)[0].isna(), dtype=bool)
    if not both.any():
        return "", ""
    index = int(np.argmax(both))
    return str(column.iloc[index]), f"{dates.iloc[index]:%Y-%m-%d}"
