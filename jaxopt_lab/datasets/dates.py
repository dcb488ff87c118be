"""Text -> dates: one format for a whole column, found from its cells; pandas reads them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from jaxopt_lab.datasets.missing_words import is_missing_date
from jaxopt_lab.datasets.number_reading import MOSTLY, BoolArray, FloatArray
from jaxopt_lab.datasets.periods import first_day, is_period, period_of

_MONTHS = [
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
]
# The first letters of a month, in the languages whose tables are often met.
_MONTH_STEMS = {
    1: "jan januar january janvier janv enero ene gennaio gen januari janeiro",
    2: "feb februar february fevrier fevr febrero febbraio februari fevereiro fev",
    3: "mar march marz maerz mrz mars marzo maart mrt marco",
    4: "apr april avril avr abril abr aprile",
    5: "may mai mayo maggio mag mei maio",
    6: "jun june juni juin junio giugno giu junho",
    7: "jul july juli juillet juil julio luglio lug julho",
    8: "aug august aout agosto ago augustus",
    9: "sep sept september septembre septiembre settembre set setembro",
    10: "oct october okt oktober octobre octubre ottobre ott outubro out",
    11: "nov november novembre noviembre novembro",
    12: "dec december dez dezember decembre diciembre dic dicembre dezembro",
}
_MONTH_OF = {word: month for month, words in _MONTH_STEMS.items() for word in words.split()}
_WEEKDAYS = frozenset(
    """
    mon tue tues wed thu thur thurs fri sat sun monday tuesday wednesday thursday friday saturday
    sunday montag dienstag mittwoch donnerstag freitag samstag sonnabend sonntag mo di mi do fr
    sa so lundi mardi mercredi jeudi vendredi samedi dimanche lunes martes miercoles jueves
    viernes sabado domingo
    """.split()  # noqa: SIM905
)
_ACCENTS = str.maketrans("éèêûôäáçíóúÉÛÄ", "eeeuoaaciouEUA")
_WORD = re.compile(r"[^\W\d_]+")
_TIME = re.compile(
    r"(?<!\d)(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?P<fraction>\.\d+)?)?"
    r"(?P<half>\s*[AP]M)?(?P<zone>\s*(?:Z|[+-]\d{2}:?\d{2}))?(?P<utc>\s*(?:UTC|GMT))?",
    re.IGNORECASE,
)
_COMPACT = re.compile(r"(\d{4})(\d{2})(\d{2})([T _-])(\d{2})(\d{2})(\d{2})?(Z|[+-]\d{2}:?\d{2})?")
_ISO = re.compile(r"\d{4}-\d{1,2}(?:-\d{1,2}|$)")
_WEEKDAY = re.compile(r"\d{4}(-?)W\d{2}\1[1-7]")
_COMMA_OF_SECONDS = re.compile(r"(?<=:\d{2}),(?=\d)")
#: Between the formats of a column that has several; no cell holds it once it is stripped.
SEVERAL = "\n"
#: Days such as 5 May, without a year, are of this one, which has a 29 February.
_SOME_YEAR = 2000
_LONGEST = 60
_SAMPLES = 12


def find_date_format(values: pd.Series) -> str | None:
    """Find the one date format that reads a text column.

    Args:
      values: a text column [n].

    Returns:
      A format for `to_dates` that reads at least 95 % of the values, or None. Where day and
      month can be either, the format that reads more values wins, and on a tie the month comes
      first with slashes, the day with points and dashes.
    """
    cells = [str(cell).strip() for cell in values[~np.asarray(values.isna(), dtype=bool)]]
    found = rank_formats(cells)
    return found[0][0] if found and found[0][1] >= MOSTLY else None


def rank_formats(cells: Sequence[str]) -> list[tuple[str, float]]:
    """Date formats with the share of a column's cells that each reads, best first.

    Args:
      cells: text [n], stripped; blanks and words for missing do not count.

    Returns:
      At most one format for each order of day, month and year; shares above 0 only.
    """
    distinct = [cell for cell in dict.fromkeys(cells) if cell and not is_missing_date(cell)]
    sample = distinct[:: max(1, len(distinct) // 50)][:50]
    dated = [cell for cell in sample if _looks_dated(cell)]
    if not dated or len(dated) < 0.5 * len(sample):
        return []
    candidates = dict.fromkeys(
        form for cell in dated[:: max(1, len(dated) // _SAMPLES)] for form in _formats_of(cell)
    )
    column = pd.Series(distinct, dtype=object)
    counts = pd.Series(cells, dtype=object).value_counts().reindex(distinct).to_numpy()
    shares = []
    for form in candidates:
        read = ~to_dates(column, form)[1]
        share = float(counts[read].sum() / counts.sum())
        if share > 0.0:
            shares.append((form, share))
    return sorted(shares, key=lambda pair: -pair[1])  # stable: candidates come in order of taste


def _looks_dated(cell: str) -> bool:
    """A cheap look before any format is tried: digits, and separators or a month's name."""
    if period_of(cell) is not None:
        return True
    if len(cell) > _LONGEST or not any(c.isdecimal() for c in cell):
        return False
    runs = re.findall(r"\d+", cell)
    words = [_plain_word(word) for word in _WORD.findall(cell)]
    named = any(word in _MONTH_OF for word in words)
    if len(words) > 6 or len(runs) > 9:
        return False
    weekday = any(word in _WEEKDAYS for word in words)
    separated = len(runs) >= 2 and not cell[0].isalpha()
    return named or weekday or separated or bool(_COMPACT.fullmatch(cell))


def _plain_word(word: str) -> str:
    return word.translate(_ACCENTS).casefold()


def _formats_of(cell: str) -> Iterator[str]:
    """Formats that may read a cell, likely ones first."""
    period = period_of(cell)
    if period is not None:
        yield period
        return
    text = _normal(cell, "%b")
    if _ISO.match(text):
        yield "ISO8601"
    compact = _COMPACT.fullmatch(text)
    weekday = _WEEKDAY.fullmatch(text)
    if weekday:
        yield f"%G{weekday[1]}W%V{weekday[1]}%u"
        return
    if compact:
        yield (
            f"%Y%m%d{compact[4]}%H%M" + ("%S" if compact[7] else "") + ("%z" if compact[8] else "")
        )
        return
    time = _TIME.search(text)
    before, clock, after = text, "", ""
    if time:
        before, after = text[: time.start()], text[time.end() :]
        clock = _clock_format(time)
    pieces = re.split(r"(\d+|[^\W\d_]+)", f"{before}\0{after}")
    for order in _orders(pieces, time is not None):
        codes = iter(order)
        form = "".join(
            next(codes) if piece.isdecimal() or _is_month(piece) else piece.replace("%", "%%")
            for piece in pieces
        )
        yield form.replace("\0", clock)


def _clock_format(time: re.Match[str]) -> str:
    form = ("%I" if time["half"] else "%H") + ":%M"
    form += ":%S" if time["second"] else ""
    form += ".%f" if time["fraction"] else ""
    for name, code in (("half", "%p"), ("zone", "%z")):
        if time[name]:
            form += " " * (len(time[name]) - len(time[name].lstrip())) + code
    return form + (time["utc"] or "")


def _is_month(piece: str) -> bool:
    return piece.casefold() in _MONTH_OF and not piece.isdecimal()


def _orders(pieces: Sequence[str], timed: bool) -> Iterator[list[str]]:
    """Which part of a date each number and month of a cell may be."""
    parts = [piece for piece in pieces if piece.isdecimal() or _is_month(piece)]
    months = [k for k, part in enumerate(parts) if not part.isdecimal()]
    numbers = [k for k, part in enumerate(parts) if part.isdecimal()]
    separators = "".join(pieces)
    if len(months) > 1 or not 1 <= len(numbers) <= 3:
        return
    lengths = [len(parts[k]) for k in numbers]
    if months and len(numbers) == 2:
        wanted = ["dy", "yd"]
    elif months and lengths[0] == 4:
        wanted = ["y"]
    elif months and len(numbers) == 1:
        # "5 May", "May 5 11:40:00" and "May 5" are days, "May-14" and "May '14" rather years.
        is_day = numbers[0] < months[0] or timed or not re.search("[-'’/.]", separators)
        wanted = ["d", "y"] if is_day else ["y", "d"]
    elif not months and len(numbers) == 3:
        month_first = "/" in separators
        wanted = ["mdy", "dmy", "ymd"] if month_first else ["dmy", "mdy", "ymd"]
        if lengths[0] == 4:
            wanted = ["ymd"]
    elif not months and len(numbers) == 2:
        wanted = ["my", "ym"] if 4 in lengths else []
    else:
        wanted = []
    for order in wanted:
        year = lengths[order.index("y")] if "y" in order else 4
        rest = [length for part, length in zip(order, lengths, strict=True) if part != "y"]
        if year not in (2, 4) or any(length > 2 for length in rest):
            continue
        codes = {"y": "%Y" if year == 4 else "%y", "m": "%m", "d": "%d"}
        given = iter(codes[part] for part in order)
        yield ["%b" if k in months else next(given) for k in range(len(parts))]


def _normal(cell: str, month: str) -> str:
    """A cell with English months (full for "%B", else three letters), without weekdays."""

    def replaced(found: re.Match[str]) -> str:
        word = _plain_word(found[0])
        if word in _MONTH_OF and any(c.isdecimal() for c in cell):
            name = _MONTHS[_MONTH_OF[word] - 1]
            return name if month == "%B" else name[:3]
        return found[0]

    text = _COMMA_OF_SECONDS.sub(".", cell.strip())
    text = re.sub(r"(?<=\d)(?:st|nd|rd|th|er|º)\b", "", text, flags=re.IGNORECASE)
    text = re.sub(r"(?i)\b([ap])\.\s?m\.?", r"\1m", text)
    text = _WORD.sub(replaced, text)
    text = re.sub(r"\b(Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\.", r"\1", text)
    words = [*_WORD.finditer(text)]
    for word in reversed(words):
        if _plain_word(word[0]) in _WEEKDAYS:
            text = text[: word.start()] + re.sub(r"^[.,]*\s*", "", text[word.end() :])
    return " ".join(text.strip(" ,()").split())


def to_dates(values: pd.Series, form: str | None) -> tuple[pd.Series, BoolArray]:
    """Read a column as dates, time zones as UTC.

    Args:
      values: a column [n] of dates, date objects or text.
      form: format from `find_date_format`, or several of a column, `SEVERAL` between them: each
        reads what those before it could not. None lets pandas read each value.

    Returns:
      datetime64 [n] with NaT where missing or unreadable, and the mask bool [n] of values
      that are present but no dates.
    """
    form, _, others = (form or "").partition(SEVERAL)
    dates, stray = _read_dates(values, form or None)
    rest = np.flatnonzero(stray)
    if others and rest.size:
        more, unread = to_dates(values.iloc[rest], others)
        dates = dates.astype("datetime64[us]")
        dates.iloc[rest] = more.astype("datetime64[us]").to_numpy()
        stray[rest] = unread
    return dates, stray


def _read_dates(values: pd.Series, form: str | None) -> tuple[pd.Series, BoolArray]:
    missing = np.asarray(values.isna(), dtype=bool)
    if isinstance(values.dtype, pd.PeriodDtype):
        values = values.dt.to_timestamp()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if pd.api.types.is_datetime64_any_dtype(values):
            dates = pd.to_datetime(values, utc=True)
        else:
            cells = [None if gone else str(v) for v, gone in zip(values, missing, strict=True)]
            cells = [None if cell is None else _prepared(cell, form) for cell in cells]
            missing = np.array([not cell or is_missing_date(cell) for cell in cells], dtype=bool)
            text = pd.Series(cells, index=values.index, dtype=object)
            text = text.where(~missing, None)
            form = "%Y-%m-%d" if is_period(form) else form or "mixed"
            if "%b" in form and "%y" not in form.casefold():
                text, form = text + f" {_SOME_YEAR}", f"{form} %Y"
            dates = pd.to_datetime(text, errors="coerce", utc=True, format=form)
    return dates.dt.tz_localize(None), np.asarray(dates.isna(), dtype=bool) & ~missing


def _prepared(cell: str, form: str | None) -> str:
    """A cell as its format expects it."""
    cell = _COMMA_OF_SECONDS.sub(".", cell.strip())
    if form is not None and is_period(form):
        return first_day(cell, form)
    if form is None or form == "ISO8601" or "%a" in form.casefold():
        return cell
    if cell.isascii() and not any(c.isalpha() for c in cell):
        return " ".join(cell.split())
    return _normal(cell, "%B" if "%B" in form else "%b")


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
