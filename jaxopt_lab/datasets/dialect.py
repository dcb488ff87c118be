"""How a text table is written: separator, lines above the header, column names, quotes."""

from __future__ import annotations

import csv
import io
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

_SEPARATORS = (",", ";", "\t", "|")
_SEPARATOR_NAMES = {";": "';'", "\t": "tabs", "|": "'|'", " ": "blanks"}
_SAMPLE_LINES = 200
_MAX_ABOVE = 10
_SEP_LINE = re.compile(r'\s*"?sep=(.)"?[ \t,;]*(?:\r\n|\r|\n)', re.IGNORECASE)
_COMMA_NUMBER = re.compile(r"\s*[+-]?\d+(?:,\d+)*\s*")
_NUMBER = re.compile(r"\s*[-+(]?\W{0,3}\d[\d.,' ]*\W{0,3}\s*")


@dataclass(frozen=True)
class Dialect:
    """How a text table is written.

    Args:
      separator: "," or ";" or tab or "|", or a blank for any number of blanks.
      header: the fields of the line of column names, stripped.
      names: one column name for each field of a row.
      start: where that line begins, in characters.
      escape: a backslash stands before a quote inside quotes.
      headless: that line looks like data.
      notes: what is unusual, one line each.
    """

    separator: str
    header: tuple[str, ...]
    names: tuple[str, ...]
    start: int = 0
    escape: bool = False
    headless: bool = False
    notes: tuple[str, ...] = ()


class _Row(NamedTuple):
    """One record of the sample, and the line of the file in which it begins."""

    fields: list[str]
    line: int


def find_dialect(text: str, wanted: Collection[str] = ()) -> Dialect | None:
    """Tell from its first lines how a table is written.

    Args:
      text: the table.
      wanted: columns that should be there; the separator that gives them is preferred.

    Returns:
      The dialect, or None for a text of blanks.

    Examples:
      >>> find_dialect("a;b\\n1,5;2\\n").separator
      ';'
    """
    wanted = frozenset(map(_composed, wanted))
    given = _SEP_LINE.match(text)
    start = given.end() if given else 0
    lines = _first_lines(text, start)
    sample = "".join(lines)
    if not sample.strip():
        return None
    with _long_fields():
        escape = '\\"' in sample and _escapes(sample, given[1] if given else None)
        choices = [given[1]] if given else [*_SEPARATORS]
        splits = {s: _split(sample, s, escape) for s in choices}
        separator = max(choices, key=lambda s: _score(splits[s], wanted))
        rows = splits[separator]
        if len(rows[header_row([r.fields for r in rows], wanted)].fields) == 1 and not given:
            blanks = _split_blanks(lines)
            if _score(blanks, wanted) > _score(rows, wanted) and _regular(blanks):
                separator, rows = " ", blanks
        if separator == "," and not given and _one_column_of_commas(sample, rows):
            separator, rows = "\t", splits["\t"]
    fields = [row.fields for row in rows]
    first = header_row(fields, wanted)
    header = [field.strip() for field in fields[first]]
    names, notes = _names(header, fields[first + 1 :])
    if separator in _SEPARATOR_NAMES and not given and len(header) > 1:
        notes.append(f"columns are separated by {_SEPARATOR_NAMES[separator]}")
    if first:
        above = next(field.strip() for field in fields[0] if field.strip())[:40]
        what = "line" if first == 1 else "lines"
        notes.append(f"skipped {first} {what} above the column names ({above!r})")
    return Dialect(
        separator=separator,
        header=tuple(header),
        names=tuple(names),
        start=start + sum(map(len, lines[: rows[first].line])),
        escape=escape,
        headless=_looks_like_data(header),
        notes=tuple(notes),
    )


@contextmanager
def _long_fields() -> Iterator[None]:
    """Let the csv module take fields of any length."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _first_lines(text: str, start: int) -> list[str]:
    """The first lines, with those blank ones before them."""
    lines: list[str] = []
    seen = 0
    stream = io.StringIO(text, newline="")
    stream.seek(start)
    for line in stream:
        lines.append(line)
        seen += bool(line.strip())
        if seen >= _SAMPLE_LINES:
            break
    return lines


def _split(sample: str, separator: str, escape: bool = False) -> list[_Row]:
    """The non-blank records of a sample."""
    reader = csv.reader(
        io.StringIO(sample, newline=""),
        delimiter=separator,
        skipinitialspace=True,
        escapechar="\\" if escape else None,
    )
    rows, line = [], 0
    try:
        for row in reader:
            if any(field.strip() for field in row):
                rows.append(_Row(row, line))
            line = reader.line_num
    except csv.Error:
        pass
    return rows or [_Row([sample[:80]], 0)]


def _split_blanks(lines: Sequence[str]) -> list[_Row]:
    """The records of a sample whose fields stand between blanks."""
    rows = []
    for number, line in enumerate(lines):
        if line.strip():
            fields = next(csv.reader([line.strip()], delimiter=" ", skipinitialspace=True), [])
            fields = [part for field in fields for part in (field.split("\t") or [""])]
            rows.append(_Row(fields, number))
    return rows


def _regular(rows: Sequence[_Row]) -> bool:
    """Whether there are several columns, and nearly all rows have them."""
    widths = [len(row.fields) for row in rows]
    header = widths[header_row([row.fields for row in rows], ())]
    near = sum(width in (header, header + 1) for width in widths)
    return len(rows) > 2 and header > 1 and near >= 0.95 * len(widths)


def _one_column_of_commas(sample: str, rows: Sequence[_Row]) -> bool:
    """Whether a column of decimal commas under one name only looks like row names and values."""
    if len(rows[0].fields) > 1 or len(rows) < 2 or any(c in sample for c in '"\t'):
        return False
    lines = [",".join(row.fields) for row in rows[1:]]
    if not all(_COMMA_NUMBER.fullmatch(line) for line in lines):
        return False
    counted = [row.fields[0].strip() for row in rows[1:]]
    return counted not in ([str(k + first) for k in range(len(counted))] for first in (0, 1))


def _escapes(sample: str, given: str | None) -> bool:
    """Whether rows are regular only if a backslash escapes quotes."""
    for separator in [given] if given else _SEPARATORS:
        plain = [len(row.fields) for row in _split(sample, separator)]
        escaped = [len(row.fields) for row in _split(sample, separator, escape=True)]
        width = Counter(escaped).most_common(1)[0][0]
        if width > 1 and escaped.count(width) > plain.count(width):
            return True
    return False


def _score(rows: Sequence[_Row], wanted: Collection[str]) -> tuple[int, bool, bool, int]:
    """Rank a separator: wanted columns, regular rows, no line above the header, many columns."""
    fields = [row.fields for row in rows]
    first = header_row(fields, wanted)
    header = [_composed(field) for field in fields[first]]
    found = len(set(header) & set(wanted))
    if len(header) == 1:
        return found, False, first == 0, 1
    rest = fields[first:]
    near = sum(len(row) in (len(header), len(header) + 1) for row in rest)
    return found, near >= 0.9 * len(rest), first == 0, len(header)


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text.strip())


def header_row(rows: Sequence[Sequence[str]], wanted: Collection[str]) -> int:
    """Find the row of column names below titles and comments.

    Args:
      rows: fields of the first rows.
      wanted: columns that should be there, in Unicode's composed form.

    Returns:
      Index of the row, 0 where nothing stands above it.
    """
    width = Counter(map(len, rows[:_SAMPLE_LINES])).most_common(1)[0][0]
    if width == 1:
        commented = [k for k, row in enumerate(rows[:_MAX_ABOVE]) if not row[0].startswith("#")]
        return commented[0] if commented and commented[0] + 1 < len(rows) else 0
    above = 0
    while above < min(_MAX_ABOVE, len(rows) - 2) and _is_above(rows[above:], width):
        above += 1
    # A narrow line may yet be a title where the next one has what is wanted.
    last = above + 1 if len(rows) > above + 2 and len(rows[above]) < len(rows[above + 1]) else above
    for k in range(last + 1):
        if any(_composed(field) in wanted for field in rows[k]):
            return k
    for k in range(last + 1, min(_MAX_ABOVE, len(rows) - 1)):  # below lines of a few fields each
        names = [_composed(field) for field in rows[k]]
        if set(names) & set(wanted) and all(names) and _all_words(names):
            narrower = (sum(map(bool, map(str.strip, row))) < len(names) for row in rows[:k])
            return k if all(narrower) else above
    return above


def _is_above(rows: Sequence[Sequence[str]], width: int) -> bool:
    """Whether the first row is a title or a comment, not the column names."""
    row = rows[0]
    filled = sum(bool(field.strip()) for field in row)
    if row[0].lstrip().startswith("#") and (len(row) != width or filled == 1):
        return True
    if filled > 1 or len(row) not in (1, width):
        return False
    if width > 2:
        return True
    # Two columns: R writes one name above a row name and a value.
    return len(row) == 1 and _all_words(rows[1]) and len(rows) > 2 and not _all_words(rows[2])


def _all_words(row: Sequence[str]) -> bool:
    return len(row) > 1 and not any(_NUMBER.fullmatch(field) for field in row)


def _looks_like_data(header: Sequence[str]) -> bool:
    """Whether a line of column names is rather a line of data."""
    return any(_NUMBER.fullmatch(field) for field in header)


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
