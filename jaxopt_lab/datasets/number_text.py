"""One cell of text -> the digits of a number, its sign and its unit; no decision on separators."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

MULTIPLIERS = {
    **dict.fromkeys(("k", "K", "tsd", "Tsd", "thousand"), 1e3),
    **dict.fromkeys(("lakh", "lakhs", "Lakh", "Lakhs", "lac", "Lac"), 1e5),
    **dict.fromkeys(("m", "M", "mm", "MM", "mn", "Mn", "mln", "mio", "Mio", "million"), 1e6),
    **dict.fromkeys(("millions", "Million", "millones"), 1e6),
    **dict.fromkeys(("crore", "crores", "Crore", "Crores", "cr", "Cr"), 1e7),
    **dict.fromkeys(("b", "B", "bn", "Bn", "mrd", "Mrd", "billion", "Billion"), 1e9),
    **dict.fromkeys(("t", "T", "tn", "trillion"), 1e12),
}
"""What letters behind a number multiply it by."""
UNIT_LIKE = frozenset({"m", "mm", "MM", "b", "B", "t", "T", "cr", "Cr"})
"""Multipliers that are units (metres, bytes, tonnes ...) unless something else speaks for them."""

# ISO 4217, and in the last line what else stands before amounts.
_CURRENCIES = frozenset(
    """
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP
    BYN BZD CAD CDF CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP
    GEL GHS GIP GMD GNF GTQ GYD HKD HNL HRK HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS
    KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR
    MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF
    SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS
    UAH UGX USD UYU UZS VES VND VUV WST XAF XCD XOF XPF YER ZAR ZMW ZWL BTC ETH DEM RMB
    RS KR FR SFR FS RM RP TL DM FT KČ ZŁ ЛВ РУБ S/ BS R Q
    """.split()  # noqa: SIM905
)
_SAME_UNIT = {"€": "EUR", "£": "GBP", "₹": "INR", "RS": "INR", "US$": "USD", "₽": "RUB"}
# No units: halves of the day, ordinals, months.
_NO_UNIT = re.compile(
    r"(?:[ap]\.?m\.?|st|nd|rd|th|(?:jan|feb|mar|apr|may|jun|jul|aug|sep|sept|oct|nov|dec)[a-z]*)\b.*",
    re.IGNORECASE,
)
_UNIT_START = re.compile(r"[^\W\d_]|[%‰°µ\"']")
_UNIT_BODY = re.compile(r"[^\d,;:()+_|<>=?!*#&@~\\\[\]{}]{1,16}[23]?")
_NUMBER = re.compile(
    r"(?P<head>\D*?)(?P<number>[.,]?\d+(?:[.,' ]\d+)*[.,]?)"
    r"(?P<exponent>[eE][+-]?\d+)?(?P<tail>\D.*)?",
    re.DOTALL,
)
_ABOUT = re.compile(
    r"(?:[~∼≈≃]|c\.|(?i:(?:ca|circa|approx|approximately|about|around|etwa|rund|environ|aprox)\b))"
    r"\.?\s*(?=[\d.(+-]|\W?\s?\d)"
)
_PRICE_MARK = re.compile(r"^(?:--?|–|—)\s*")
_INDIAN_MARK = re.compile(r"(?<=[\d.])\s*/-(?=\)?$)")
_PLAIN = str.maketrans(
    {
        **dict.fromkeys("\u2212\ufe63\uff0d\u2010\u2011\u2012", "-"),
        **dict.fromkeys("\u00a0\u202f\u2009\u2007\u2002\u2003\u2008", " "),
        **dict.fromkeys("\u2019\u2018\u02bc\u00b4\u2032`", "'"),
        "\u066b": ".",
        "\u066c": ",",
        "\uff0e": ".",
        "\uff0c": ",",
    }
)


class NumberCell(NamedTuple):
    """A number as written.

    Attributes:
      number: digits with the separators . , ' and blank between them.
      exponent: as in "e-3", or "".
      negative: by a sign before or behind, or by parentheses.
      unit: "", a currency, "%", or whatever stands behind the number.
      multiplier: a key of `MULTIPLIERS`, or "".
      about: the number is said to be approximate: "~5", "ca. 5".
    """

    number: str
    exponent: str
    negative: bool
    unit: str
    multiplier: str
    about: bool = False


def plain_text(cell: str) -> str:
    """Strip a cell; Unicode minus signs, blanks, apostrophes and digits become ASCII's."""
    cell = cell.strip()
    if cell.isascii():
        return cell
    cell = cell.translate(_PLAIN).strip()
    if cell[:1] == "\u2013":  # an en dash stands for a minus sign only in front
        cell = "-" + cell[1:]
    return "".join(
        c if c.isascii() or not c.isdecimal() else str(unicodedata.decimal(c)) for c in cell
    )


def split_cell(cell: str) -> NumberCell | None:
    """Split a cell into the parts of one number.

    Args:
      cell: from `plain_text`.

    Returns:
      The parts, or None if there is not exactly one number with a sign and a unit.

    Examples:
      >>> split_cell("(US$ 1,250.50)")[:4]
      ('1,250.50', '', True, 'USD')
      >>> split_cell("~5").number, split_cell("~5").about
      ('5', True)
      >>> split_cell("10-20"), split_cell("<5")
      (None, None)
    """
    about = _ABOUT.match(cell)
    if about:
        rest = split_cell(cell[about.end() :])
        return rest._replace(about=True) if rest is not None and not rest.about else None
    found = _NUMBER.fullmatch(_INDIAN_MARK.sub("", cell))  # "Rs. 500/-"
    if found is None:
        return None
    head, number, tail = found["head"].strip(), found["number"], (found["tail"] or "").strip()
    if head and head[-1].isalpha() and number[0] == ".":  # "Rs.350"
        number = number[1:]
    if number[-1] in ".,":  # "350,-" is a price without cents
        tail, marked = _PRICE_MARK.subn("", tail)
        if not marked and (tail or number[-1] == ","):
            return None
        number = number[:-1]
    opened, closed = head.count("("), tail.count(")")
    if opened != closed or opened > 1 or (closed and not tail.endswith(")")):
        return None
    head, tail = head.replace("(", ""), tail.replace(")", "").strip()
    signs = [c for c in head if c in "+-"]
    head = head.translate({ord("+"): None, ord("-"): None}).strip()
    if tail.endswith("-"):
        signs.append("-")
        tail = tail[:-1].strip()
    if len(signs) + opened > 1:
        return None
    negative = bool(opened) or signs == ["-"]
    unit = _prefix(head)
    named, multiplier = _multiplier(tail)
    behind = _suffix(named)
    if unit is None or behind is None or (unit and behind and unit != behind):
        return None
    return NumberCell(number, found["exponent"] or "", negative, unit or behind, multiplier)


def _prefix(text: str) -> str | None:
    """The currency before a number, "" for none, or None if it is something else."""
    if not text:
        return ""
    name = text.rstrip(". ")
    has_sign = any(unicodedata.category(c) == "Sc" for c in name)
    if (has_sign and len(name) <= 5) or name.upper() in _CURRENCIES:
        return _canonical(name)
    return None


def _canonical(unit: str) -> str:
    return _SAME_UNIT.get(unit.upper(), unit)


def _multiplier(tail: str) -> tuple[str, str]:
    """Take a multiplier off the front of what stands behind a number."""
    word = re.match(r"[A-Za-z]+", tail)
    if word is None or word[0] not in MULTIPLIERS:
        return tail, ""
    rest = tail[word.end() :].lstrip(". ")
    if rest and _prefix(rest) is None:
        return tail, ""  # "m/s", "t CO"
    return rest, word[0]


def _suffix(text: str) -> str | None:
    """The unit behind a number, "" for none, or None if it is something else."""
    if not text:
        return ""
    starts = _UNIT_START.match(text) or unicodedata.category(text[0]) == "Sc"
    if not starts or _NO_UNIT.fullmatch(text) or not _UNIT_BODY.fullmatch(text):
        return None
    return singular(_canonical(text.rstrip(". ")))


def singular(unit: str) -> str:
    """A unit without the s of its plural: 1 year, 2 years.

    Examples:
      >>> singular("years"), singular("ms"), singular("kg")
      ('year', 'ms', 'kg')
    """
    other = ("ss", "us", "is")  # Celsius
    plural = len(unit) > 2 and unit.isalpha() and unit.endswith("s") and not unit.endswith(other)
    return unit[:-1] if plural else unit
