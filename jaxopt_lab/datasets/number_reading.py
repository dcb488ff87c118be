"""How the numbers of one column are written: decided once from all its cells, then kept.

The reading is part of the model: a table for prediction is read with it and never guessed again.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxopt_lab.datasets.missing_words import is_missing_word
from jaxopt_lab.datasets.number_text import (
    MULTIPLIERS,
    UNIT_LIKE,
    NumberCell,
    plain_text,
    singular,
    split_cell,
)

MOSTLY = 0.95
"""A text column is numeric, or a date, if at least this share of its values is."""
_MAX_STRAY_WORDS = 3
_MIN_NUMBERS = 10
_MANY_NUMBERS = 20
_NEARLY_ALL = 0.8

_FORMATS = (
    *((".", group) for group in ("", ",", " ", "'")),
    *((",", group) for group in ("", ".", " ", "'")),
)
_TRUTH = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}
_CLOCK = re.compile(
    r"(\d{1,3}):([0-5]\d)(?::([0-5]\d(?:[.,]\d+)?))?\s*([ap])?\.?(?:(?<=[apAP])m|(?<=\.)m)?\.?",
    re.IGNORECASE,
)

_HALF_DAY = re.compile(r"(\d{1,2})\s*([ap])\.?m\.?", re.IGNORECASE)
_HOURS_MINUTES = re.compile(r"(\d{1,3})\s*h\s*([0-5]?\d)\s*(?:m|min)?\.?", re.IGNORECASE)

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class NumberReading:
    """How the text of one column becomes numbers.

    Args:
      kind: "number", "boolean" (true and false become 1 and 0) or "clock" (times of day and
        spans become hours).
      decimal: the decimal sign, "." or ",".
      group: separators of thousands seen in training, each one character.
      unit: the currency or unit of the column, which new values may leave out; "" for none.
      hundredths: "1%" is 0.01, since other values are plain fractions; else it is 1.
      multipliers: "k", "M" ... multiply.
      missing: words of the training column that count as missing, case-folded.

    Raises:
      ValueError: if a part is outside its range.
    """

    kind: str = "number"
    decimal: str = "."
    group: str = ""
    unit: str = ""
    hundredths: bool = False
    multipliers: bool = False
    missing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in ("number", "boolean", "clock"):
            raise ValueError(f"kind of a reading must be number, boolean or clock: {self.kind!r}")
        if self.decimal not in (".", ","):
            raise ValueError(f"decimal sign must be . or ,: {self.decimal!r}")
        if not set(self.group) <= set(".,' ") - {self.decimal}:
            raise ValueError(f"separators of thousands: {self.group!r} beside {self.decimal!r}")
        object.__setattr__(self, "unit", singular(self.unit))  # older models have "years"

    def to_dict(self) -> dict[str, Any]:
        """Give the reading as plain JSON values."""
        return {**asdict(self), "missing": list(self.missing)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> NumberReading:
        """Rebuild a reading from `to_dict`.

        Raises:
          ValueError: if the data are not a reading's.
        """
        unknown = set(data) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"not a stored reading: {sorted(unknown)}")
        for name, value in data.items():
            if name == "missing":
                good = isinstance(value, (list, tuple)) and all(isinstance(w, str) for w in value)
            else:
                good = isinstance(value, type(getattr(cls, name)))
            if not good:
                raise ValueError(f"not a stored reading: {name} = {value!r}")
        return cls(**{**data, "missing": tuple(data.get("missing", ()))})


class Decision(NamedTuple):
    """What a column of text says about its numbers.

    Attributes:
      reading: how to read it.
      share: of the present cells that `reading` reads, words for missing left out.
      accepted: the column is numeric.
      strays: cells that are present but not read, and how often: words for missing, too.
      ambiguous: the separator that may as well be the other thing, or "".
      votes: what separators surely mean here: character -> "decimal" or "group".
      example: a cell that shows the reading, or "" where all are plain.
      about: a cell whose number is approximate, such as "~5", or "".
      num_about: how many of those there are.
      plain: the numbers themselves, float64 [n], where all cells are plain or blank.
    """

    reading: NumberReading
    share: float
    accepted: bool
    strays: Mapping[str, int] = {}
    ambiguous: str = ""
    votes: Mapping[str, str] = {}
    example: str = ""
    about: str = ""
    num_about: int = 0
    plain: FloatArray | None = None


def decide(cells: Sequence[str]) -> Decision | None:
    """Decide how a column of text writes its numbers, from all its cells.

    Args:
      cells: text [n]; blank where missing.

    Returns:
      The decision; None if there is no number at all.
    """
    plain = _decide_plain(cells)
    if plain is not None:
        return plain
    counts: Counter[str] = Counter()
    for cell, number in Counter(cells).items():
        counts[plain_text(cell)] += number
    counts.pop("", None)
    words = {cell: n for cell, n in counts.items() if is_missing_word(cell)}
    rest = {cell: n for cell, n in counts.items() if cell not in words}
    if not rest:
        return None
    return _decide_words(rest, words) or _decide_numbers(rest, words)


def _decide_plain(cells: Sequence[str]) -> Decision | None:
    """The usual column: every cell is blank or what Python reads as a number."""
    numbers = parse_plain(cells)
    if numbers is None:
        return None
    dotted = [cell.strip() for cell in islice((c for c in cells if "." in c), 20)]
    if dotted and all(_AMBIGUOUS_POINT.fullmatch(cell) for cell in dotted):
        return None
    votes = {".": "decimal"} if dotted else {}
    return Decision(NumberReading(), 1.0, True, votes=votes, plain=numbers)


_AMBIGUOUS_POINT = re.compile(r"[+-]?[1-9]\d{0,2}\.\d{3}")


def parse_plain(cells: Sequence[str]) -> FloatArray | None:
    """Cells as float64 [n], NaN where blank; None unless each is blank or a plain number."""
    if not any(cells):
        return None
    try:
        numbers = list(map(float, cells))
    except ValueError:
        try:
            numbers = [float(cell) if cell else math.nan for cell in cells]
        except ValueError:
            return None
    return None if "_" in "".join(cells) else np.array(numbers, dtype=np.float64)


def accept(numbers: int, distinct: int, strays: Mapping[str, int]) -> bool:
    """Whether a column is what most of its cells are: hardly any strays, or few words."""
    total = numbers + sum(strays.values())
    if numbers >= MOSTLY * total:
        return True
    nearly = numbers >= _NEARLY_ALL * total
    few = len(strays) <= _MAX_STRAY_WORDS and distinct >= max(_MIN_NUMBERS, 3 * len(strays))
    if any(c.isdecimal() for stray in strays for c in stray):  # "<0.5", "90+": labels, where few
        return few and distinct >= _MANY_NUMBERS and nearly
    return (few and numbers >= 0.5 * total) or (nearly and 10 * len(strays) <= distinct)


def _decide_words(rest: Mapping[str, int], words: Mapping[str, int]) -> Decision | None:
    """Columns of true and false, and of times of day."""
    kinds: tuple[tuple[str, Callable[[str], bool]], ...] = (
        ("boolean", lambda cell: cell.casefold() in _TRUTH),
        ("clock", lambda cell: _clock(cell) is not None),
    )
    for kind, reads in kinds:
        good = {cell: n for cell, n in rest.items() if reads(cell)}
        if not good or (kind == "boolean" and not any(c.isalpha() for c in "".join(good))):
            continue
        strays = {cell: n for cell, n in rest.items() if cell not in good}
        total = sum(good.values())
        accepted = total >= MOSTLY * sum(rest.values()) or (
            kind == "clock" and accept(total, len(good), strays)
        )
        if accepted:
            missing = tuple(sorted({stray.casefold() for stray in [*strays, *words]}))
            example = "" if kind == "boolean" else next(iter(good))
            reading = NumberReading(kind=kind, missing=missing)
            share = total / sum(rest.values())
            return Decision(reading, share, True, {**strays, **words}, example=example)
    return None


def _decide_numbers(rest: Mapping[str, int], words: Mapping[str, int]) -> Decision | None:
    cells = {cell: split for cell in rest if (split := split_cell(cell)) is not None}
    if not cells:
        return None
    unit, multipliers = _choose_unit(cells, rest)
    cells = {
        cell: split
        for cell, split in cells.items()
        if _unit_of(split, multipliers) in ("", unit) and (multipliers or not _factor_of(split))
    }
    cells = {c: s for c, s in cells.items() if _unit_of(s, multipliers) in ("", unit)}
    counts = dict.fromkeys(_FORMATS, 0)
    for cell, split in cells.items():
        for form in _FORMATS:
            counts[form] += rest[cell] * fits(split.number, *form)
    best = max(counts.values())
    if best == 0:
        return None
    tied = [form for form in _FORMATS if counts[form] == best]
    decimal, group = tied[0]
    good = {cell: split for cell, split in cells.items() if fits(split.number, decimal, group)}
    ambiguous = _ambiguous(good.values(), {form[0] for form in tied})
    if ambiguous == ",":  # thousands, unless other columns say otherwise
        decimal, group = ".", ","
    strays = {cell: n for cell, n in rest.items() if cell not in good}
    fractions = [abs(value_of(s, decimal, group)) for s in good.values() if s.unit != "%"]
    hundredths = unit == "%" and bool(fractions) and max(fractions) <= 1.0
    missing = tuple(sorted({stray.casefold() for stray in [*strays, *words]}))
    reading = NumberReading(
        decimal=decimal,
        group=group,
        unit=unit,
        hundredths=hundredths,
        multipliers=multipliers,
        missing=missing,
    )
    used = "".join(split.number for split in good.values())
    votes = {} if ambiguous else {c: "group" for c in group if c in used}
    if not ambiguous and decimal in used:
        votes[decimal] = "decimal"
    about = {cell: rest[cell] for cell, split in good.items() if split.about}
    return Decision(
        reading,
        best / sum(rest.values()),
        accept(best, len(good), strays),
        {**strays, **words},
        ambiguous,
        votes,
        next((c for c, s in good.items() if ambiguous and ambiguous in s.number), _example(good)),
        about=next(iter(about), ""),
        num_about=sum(about.values()),
    )


def _choose_unit(cells: Mapping[str, NumberCell], counts: Mapping[str, int]) -> tuple[str, bool]:
    """The commonest unit of a column, and whether letters such as k multiply."""
    letters = {split.multiplier for split in cells.values()} - {""}
    currency = any(split.unit not in ("", "%") for split in cells.values() if split.multiplier)
    multipliers = bool(letters - UNIT_LIKE) or (bool(letters) and currency)
    units: Counter[str] = Counter()
    for cell, split in cells.items():
        units[_unit_of(split, multipliers)] += counts[cell]
    units.pop("", None)
    return (units.most_common(1)[0][0] if units else ""), multipliers


def _unit_of(split: NumberCell, multipliers: bool) -> str:
    return split.unit if multipliers else split.unit or split.multiplier


def _factor_of(split: NumberCell) -> bool:
    """Whether a multiplier stands beside a unit, so that it can be nothing else."""
    return bool(split.multiplier and split.unit)


def fits(number: str, decimal: str, group: str) -> bool:
    """Whether digits and separators are a number of one format.

    Args:
      number: digits with separators between them, `NumberCell.number`.
      decimal: the decimal sign.
      group: the separator of thousands, or "" for none.

    Examples:
      >>> fits("1,35,083.5", ".", ","), fits("12,34", ".", ","), fits("12,34", ",", "")
      (True, False, True)
    """
    if number.isdecimal():
        return True
    whole, point, fraction = number.rpartition(decimal)
    if not point:
        whole = number
    elif not fraction.isdecimal():  # grouped behind the decimal sign
        return False
    if not whole or whole.isdecimal():
        return True
    if not group or decimal in whole:
        return False
    first, *others = whole.split(group)
    if first[:1] in ("0", "") or not all(part.isdecimal() for part in (first, *others)):
        return False
    lengths = [len(part) for part in others]
    thousands = len(first) <= 3 and all(length == 3 for length in lengths)
    lakhs = group == "," and len(first) <= 2 and lengths[-1] == 3
    return thousands or (lakhs and all(length == 2 for length in lengths[:-1]))


def value_of(split: NumberCell, decimal: str, group: str) -> float:
    """The number itself, without unit and multiplier."""
    digits = split.number
    for separator in group:
        digits = digits.replace(separator, "")
    value = float(digits.replace(decimal, ".") + split.exponent)
    return -value if split.negative else value


def _ambiguous(cells: Iterable[NumberCell], decimals: set[str]) -> str:
    """The separator that reads as decimal sign and as thousands alike, or ""."""
    if len(decimals) < 2:
        return ""
    for split in cells:
        for separator in ".,":
            if separator in split.number:
                return separator
    return ""


def _example(cells: Mapping[str, NumberCell]) -> str:
    """The first cell that is no plain number."""
    cells = {cell: split for cell, split in cells.items() if not split.about}
    for cell, split in cells.items():
        plain = split.number.replace(".", "", 1).isdecimal()
        if not plain or split.number + split.exponent != cell.lstrip("+-"):
            return cell
    return next((cell for cell in cells if "." in cell), "")


def resolve(decision: Decision, votes: Mapping[str, str]) -> NumberReading:
    """Settle an ambiguous separator by what it surely means in other columns.

    Args:
      decision: of a column.
      votes: separator -> "decimal" or "group", from the other columns.

    Returns:
      The reading; a comma counts as thousands and a point as decimal where nothing else is known.
    """
    separator, reading = decision.ambiguous, decision.reading
    if not separator:
        return reading
    meaning = votes.get(separator) or ("group" if separator == "," else "decimal")
    other = "." if separator == "," else ","
    decimal, group = (separator, "") if meaning == "decimal" else (other, separator)
    values = {field.name: getattr(reading, field.name) for field in fields(reading)}
    return NumberReading(**{**values, "decimal": decimal, "group": group})


def majority(decisions: Iterable[Decision]) -> dict[str, str]:
    """What each separator means in most columns that leave no doubt."""
    ballots = {".": Counter[str](), ",": Counter[str]()}
    for decision in decisions:
        if decision.accepted:
            for separator, meaning in decision.votes.items():
                if separator in ballots:
                    ballots[separator][meaning] += 1
    found = {}
    for separator, ballot in ballots.items():
        ranked = ballot.most_common(2)
        if len(ranked) == 1 or (len(ranked) == 2 and ranked[0][1] > ranked[1][1]):
            found[separator] = ranked[0][0]
    # A comma that is surely decimal makes the point of the same file thousands, and no other way
    # round: versions such as 1.2 are found beside decimal commas.
    if found.get(",") == "decimal" and "." not in found:
        found["."] = "group"
    return found


def read_numbers(cells: Sequence[str], reading: NumberReading) -> tuple[FloatArray, BoolArray]:
    """Read a column of text with a reading.

    Args:
      cells: text [n]; blank where missing.
      reading: how the training column was written.

    Returns:
      Numbers float64 [n], NaN where missing or unreadable, and the mask bool [n] of cells that
      are present but neither numbers nor words for missing.
    """
    if reading.kind == "number" and reading.decimal == ".":
        plain = parse_plain(cells)
        if plain is not None:
            return plain, np.zeros(len(cells), dtype=bool)
    known: dict[str, float | None] = {}
    for cell in cells:
        if cell not in known:
            known[cell] = read_number(cell, reading)
    values = [known[cell] for cell in cells]
    numbers = np.array([math.nan if v is None else v for v in values], dtype=np.float64)
    return numbers, np.array([v is None for v in values], dtype=bool)


def read_number(cell: str, reading: NumberReading) -> float | None:
    """Read one cell: NaN where missing, None where it is no number of this column."""
    text = plain_text(cell)
    folded = text.casefold()
    if not text or folded in reading.missing or is_missing_word(text):
        return math.nan
    if reading.kind == "boolean":
        return _TRUTH.get(folded)
    if reading.kind == "clock":
        return _clock(text)
    if folded.lstrip("+-") in ("inf", "infinity", "infinite", "∞"):
        return -math.inf if folded[0] == "-" else math.inf
    split = split_cell(text)
    if split is None or _unit_of(split, reading.multipliers) not in ("", reading.unit):
        return None
    if _factor_of(split) and not reading.multipliers:
        return None
    group = _group_of(split.number, reading)
    if group is None:
        return None
    value = value_of(split, reading.decimal, group)
    if split.multiplier and reading.multipliers:
        value *= MULTIPLIERS[split.multiplier]
    return value / 100.0 if split.unit == "%" and reading.hundredths else value


def _group_of(number: str, reading: NumberReading) -> str | None:
    """The separator of thousands with which a number fits a reading; None if there is none."""
    decimal = reading.decimal
    for group in ("", *reading.group, " ", "'"):
        if fits(number, decimal, group):
            return group
    other = "," if decimal == "." else "."
    # Never seen in training: a single "1.234" beside decimal commas could be either.
    surely = decimal == "." or number.count(other) > 1 or decimal in number
    return other if surely and fits(number, decimal, other) else None


def unseen_grouping(cells: Sequence[str], reading: NumberReading) -> tuple[str, float] | None:
    """A cell of a new table whose separator of thousands training never had, and its value."""
    other = "," if reading.decimal == "." else "."
    if reading.kind != "number" or other in reading.group:
        return None
    for cell in cells:
        if other in cell:
            value = read_number(cell, reading)
            if value is not None and not math.isnan(value):
                return cell.strip(), value
    return None


def _clock(text: str) -> float | None:
    """Hours of a time of day or a span such as 07:11, 7 PM, 7h11 or 1:02:03.5."""
    text = _HOURS_MINUTES.sub(lambda span: f"{span[1]}:{span[2]:0>2}", text)
    found = _CLOCK.fullmatch(_HALF_DAY.sub(r"\1:00 \2m", text) if ":" not in text else text)
    if found is None:
        return None
    hours, minutes = int(found[1]), int(found[2])
    seconds = float((found[3] or "0").replace(",", "."))
    if found[4]:
        if not 1 <= hours <= 12:
            return None
        hours = hours % 12 + (12 if found[4] in "pP" else 0)
    return hours + minutes / 60.0 + seconds / 3600.0
