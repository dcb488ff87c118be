"""Feature columns as they come -> float64, text or datetime64 columns, with notes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxopt_lab.datasets.columns import (
    HUGE,
    MISSING,
    BoolArray,
    Column,
    Kind,
    as_cells,
    is_missing,
    is_text,
    to_categories,
    to_dates,
    to_numbers,
)
from jaxopt_lab.datasets.date_columns import example_of
from jaxopt_lab.datasets.dates import SEVERAL
from jaxopt_lab.datasets.number_reading import NumberReading, read_number

MANY_CATEGORIES = 40
"""With more categories than this the rare ones share one encoded column."""
NEAR_UNIQUE = 0.9
"""Text with more distinct values than this share of the rows says nothing about new rows."""
_MOSTLY_PARSES = 0.5

_IDENTIFIER = re.compile(
    r"(id|pid|uuid|guid|index|idx|row|rowid|row[ _]?(names?|number|num|nr|no|id)"
    r"|unnamed: \d+|.*[_ .-](id|uuid|guid))",
    re.IGNORECASE,
)
_CAMEL_IDENTIFIER = re.compile(r".*[a-z](ID|Id)")


class CleanFeatures(NamedTuple):
    """Cleaned feature columns, what each holds, how text was read, and notes."""

    frame: pd.DataFrame
    kinds: dict[str, Kind]
    date_formats: dict[str, str]
    readings: dict[str, NumberReading]
    notes: list[str]


def row_identifiers(frame: pd.DataFrame, columns: Mapping[str, Column]) -> list[str]:
    """Name the columns of whole numbers that only number the rows.

    A column is one if its values are all different whole numbers and either its name says
    so (`id`, `row_id`, `PID`, `Unnamed: 0` ...) or they count the rows in file order.

    Args:
      frame: raw columns, all rows of the file in order.
      columns: what each holds, from `decide_columns`.

    Returns:
      Column names.
    """
    names = [str(name) for name in frame.columns]
    return [n for n in names if _numbers_rows(n, frame[n], columns[n])]


def _numbers_rows(name: str, values: pd.Series, column: Column) -> bool:
    if len(values) < 3 or column.kind != "numeric":
        return False
    named = _IDENTIFIER.fullmatch(name) or _CAMEL_IDENTIFIER.fullmatch(name)
    if is_text(values):
        if column.reading is None or column.numbers is None or column.numbers.example:
            return False
        numbers = column.numbers.plain
        if numbers is None or np.isnan(numbers).any() or numbers.max() == numbers.min():
            return False
        if not named and not _counts(numbers):
            return False
        cells = as_cells(values)
        if len(set(cells)) < len(cells) or not all(c.strip().isdecimal() for c in cells):
            return False
    elif not pd.api.types.is_integer_dtype(values) or values.isna().any() or not values.is_unique:
        return False
    numbers = to_numbers(values, column.reading)[0]
    return _counts(numbers) or bool(named)


def _counts(numbers: np.ndarray) -> bool:
    """Whether numbers count rows from 0 or 1."""
    return bool(numbers[0] in (0.0, 1.0) and np.all(np.diff(numbers) == 1.0))


def clean_features(
    frame: pd.DataFrame, columns: Mapping[str, Column], rows: BoolArray
) -> CleanFeatures:
    """Clean every feature column, dropping those that can tell nothing.

    Args:
      frame: raw feature columns, all rows [n].
      columns: what each holds, from `decide_columns`.
      rows: those that have a target, bool [n]; only they are kept.

    Returns:
      Numeric columns as float64 with NaN where missing, categorical ones as text with NaN,
      dates as datetime64; at most one note for each kind of repair.
    """
    clean: dict[str, pd.Series | np.ndarray] = {}
    kinds: dict[str, Kind] = {}
    gaps: dict[str, int] = {}
    found: dict[str, list[str]] = {}
    kept = np.flatnonzero(rows)
    everything = len(kept) == len(frame)
    for label, values in frame.items():
        name = str(label)
        column = columns[name]
        if not everything:
            values = values.iloc[kept]
        if column.kind is None:
            reason = "empty" if is_missing(values).all() else "unusable"
            found.setdefault(reason, []).append(name)
            continue
        plain = column.numbers.plain if column.numbers is not None else None
        if column.kind == "numeric" and plain is not None:
            cleaned, repairs = _without_infinite(plain if everything else plain[kept])
        else:
            cleaned, repairs = _CLEANERS[column.kind](values, column)
        useless, missing = _useless(cleaned, column)
        if useless:
            found.setdefault(useless, []).append(
                f"{name}{_such_as(values, column) if useless == 'unique' else ''}"
            )
            continue
        for repair, detail in repairs:
            found.setdefault(repair, []).append(f"{name}{detail}")
        clean[name], kinds[name] = cleaned, column.kind
        if missing:
            gaps[name] = missing
    result = pd.DataFrame(clean, index=pd.RangeIndex(len(kept)))
    result.columns = pd.Index(result.columns, dtype=object)  # quicker to look up than Arrow's
    notes = [_TEXTS[reason].format(_listed(names)) for reason, names in found.items()]
    used = {name: columns[name] for name in kinds}
    return CleanFeatures(
        result,
        kinds,
        {name: c.date_format for name, c in used.items() if c.date_format is not None},
        {name: c.reading for name, c in used.items() if c.reading is not None},
        notes + _missing_notes(gaps, kinds),
    )


_TEXTS = {
    "empty": "dropped columns without any value: {}",
    "unusable": "dropped columns that hold neither numbers, text nor dates: {}",
    "constant": "dropped constant columns: {}",
    "unique": "dropped text columns that differ in nearly every row: {}",
    "infinite": "infinite values in numeric columns count as missing: {}",
    "stray": "text in numeric columns counts as missing: {}",
    "undated": "text in date columns counts as missing: {}",
    "parsed": "text columns read as numbers: {}",
    "about": "approximate numbers count as exact: {}",
    "clock": "times become hours: {}",
    "ambiguous": "numbers that could be read in two ways: {}",
    "dates": "dates become year, month, day and ordinal: {}",
    "either": "dates that could be read in two ways: {}",
    "mostly": "columns that are mostly numbers or dates, but not enough, are labels: {}",
    "large": "whole numbers too large to be told apart as numbers are labels: {}",
    "many": f"rare categories are pooled where there are more than {MANY_CATEGORIES}: {{}}",
}


def _listed(columns: Sequence[str], limit: int = 8) -> str:
    more = f" and {len(columns) - limit} more" if len(columns) > limit else ""
    return ", ".join(columns[:limit]) + more


_Repairs = list[tuple[str, str]]


def _without_infinite(numbers: np.ndarray) -> tuple[np.ndarray, _Repairs]:
    infinite = np.abs(numbers) > HUGE
    if not infinite.any():
        return numbers, []
    return np.where(infinite, np.nan, numbers), [("infinite", f" ({int(infinite.sum())})")]


def _clean_numbers(values: pd.Series, column: Column) -> tuple[np.ndarray, _Repairs]:
    numbers, stray = to_numbers(values, column.reading)
    numbers, repairs = _without_infinite(numbers)
    decision = column.numbers
    if decision is None:
        if stray.any():
            example = str(values[stray].iloc[0])[:20]
            repairs.append(("stray", f" ({int(stray.sum())}, such as {example!r})"))
        elif is_text(values) and values.map(type).eq(str).any():
            repairs.append(("parsed", ""))
        return numbers, repairs
    if decision.strays:
        repairs.append(("stray", f" ({counted(decision.strays)})"))
    repairs += how_read(column)
    return numbers, repairs


def how_read(column: Column) -> _Repairs:
    """What is worth telling about numbers in text: the reading, by an example."""
    decision, reading = column.numbers, column.reading
    if decision is None or reading is None:
        return []
    repairs: _Repairs = []
    if decision.about:
        value = read_number(decision.about, reading)
        repairs.append(
            ("about", f" ({decision.num_about}, {decision.about[:20]!r} is {value:.15g})")
        )
    example = decision.example
    if not example:
        return repairs
    value = read_number(example, reading)
    shown = f"{example[:30]!r} is {value:.15g}"
    if reading.kind == "clock":
        return [*repairs, ("clock", f" ({example!r} is {value:.4g})")]
    if decision.ambiguous:
        taken = f"{decision.ambiguous!r} taken as " + (
            "the decimal sign" if reading.decimal == decision.ambiguous else "thousands"
        )
        return [*repairs, ("ambiguous", f" ({shown}, {taken})")]
    plain = example.lstrip("+-").replace(".", "", 1).isdecimal() and reading.decimal == "."
    return repairs if plain else [*repairs, ("parsed", f" ({shown})")]


def counted(strays: Mapping[str, int], limit: int = 4) -> str:
    """Distinct words with their counts, the commonest first."""
    ranked = Counter(dict(strays)).most_common(limit)
    more = f" and {len(strays) - limit} others" if len(strays) > limit else ""
    return ", ".join(f"{n} {word[:20]!r}" for word, n in ranked) + more


def _clean_dates(values: pd.Series, column: Column) -> tuple[pd.Series, _Repairs]:
    form = column.date_format
    dates, stray = to_dates(values.reset_index(drop=True), form)
    shown = (form or "").replace(SEVERAL, " or ")
    repairs = [("dates", f" ({shown})" if shown else "")]
    if form and column.other_format:
        cell, day = example_of(as_cells(values), form, column.other_format)
        if cell:
            repairs = [("either", f" ({shown}, so {cell[:30]!r} is {day})")]
    if is_text(values):
        gone = np.asarray(dates.isna(), dtype=bool)
        cells = [cell.strip() for cell, odd in zip(as_cells(values), gone, strict=True) if odd]
        words = Counter(cell for cell in cells if cell)
    else:
        words = Counter(str(value) for value in values[np.asarray(stray)])
    if words:
        repairs.append(("undated", f" ({counted(words)})"))
    return dates, repairs


def _clean_categories(values: pd.Series, column: Column) -> tuple[pd.Series, _Repairs]:
    labels = pd.Series(to_categories(values), dtype=object)
    labels = labels.astype("str").where(labels != MISSING)
    repairs: _Repairs = [("large", "")] if column.large else []
    number = labels.nunique()
    mostly = _mostly(values, column)
    if mostly:
        repairs.append(("mostly", mostly))
    if number > MANY_CATEGORIES and not _near_unique(labels):
        repairs.append(("many", f" ({number})"))
    return labels, repairs


_CLEANERS: dict[Kind, Callable[[pd.Series, Column], tuple[pd.Series | np.ndarray, _Repairs]]] = {
    "numeric": _clean_numbers,
    "categorical": _clean_categories,
    "date": _clean_dates,
}


def _near_unique(labels: pd.Series) -> bool:
    number = labels.nunique()
    return bool(number >= 20 and number > NEAR_UNIQUE * labels.notna().sum())


def _useless(values: pd.Series | np.ndarray, column: Column) -> tuple[str | None, int]:
    """Why a cleaned column can tell nothing, or None; and how many values are missing."""
    if isinstance(values, np.ndarray):
        known = values[~np.isnan(values)]
        missing, number = len(values) - len(known), 0
        if known.size:
            number = 1 if known.min() == known.max() else 2
    else:
        missing, number = int(values.isna().sum()), values.nunique()
    if number == 0:
        return "empty", missing
    if number == 1 and not missing:
        return "constant", missing
    unique = column.kind == "categorical" and isinstance(values, pd.Series) and _near_unique(values)
    return ("unique" if unique else None), missing


def telling_columns(frame: pd.DataFrame, kinds: Mapping[str, Kind]) -> dict[str, Kind]:
    """The columns that say something on the rows at hand, which are fewer than those that were
    cleaned: neither empty, nor constant, nor text that differs in nearly every row.

    Args:
      frame: cleaned columns [n].
      kinds: column -> kind.

    Returns:
      Column -> kind; all of them where none says anything.
    """
    kept: dict[str, Kind] = {}
    for name, kind in kinds.items():
        values = frame[name].to_numpy() if kind == "numeric" else frame[name]
        if _useless(values, Column(kind))[0] is None:
            kept[name] = kind
    return kept or dict(kinds)


def _such_as(values: pd.Series, column: Column) -> str:
    """For a dropped column of text: what stands in the way of numbers or dates, or any value."""
    present = values[~is_missing(values)]
    return _mostly(values, column) or f" (such as {str(present.iloc[0]).strip()[:30]!r})"


def _mostly(values: pd.Series, column: Column) -> str:
    """For a column of labels that is nearly numbers or dates: what stands in the way."""
    if column.large or not is_text(values):
        return ""
    share, what = column.dates, "dates"
    decision = column.numbers
    odd = ""
    if decision is not None and decision.share >= share:
        share, what = decision.share, "numbers"
        odd = max(decision.strays, key=lambda cell: decision.strays[cell], default="")
    if share < _MOSTLY_PARSES:
        return ""
    such = f", but not {odd[:30]!r}" if odd else ""
    return f" ({share:.0%} of its values are {what}{such})"


def _missing_notes(gaps: Mapping[str, int], kinds: Mapping[str, Kind]) -> list[str]:
    """One line for each way of filling."""
    notes = []
    for group, how in (
        (("numeric", "date"), "filled with the training median, and marked"),
        (("categorical",), "their own category"),
    ):
        counts = [f"{name} ({number})" for name, number in gaps.items() if kinds[name] in group]
        if counts:
            notes.append(f"missing values are {how}: {_listed(counts)}")
    return notes
