"""Words that people write into a cell where a number or a date is missing."""

from __future__ import annotations

MISSING_WORDS = frozenset(
    word.strip()
    for word in """
    ? | ?? | - | -- | --- | . | .. | ... | * | ** | *** | / | _ | – | — | ∅
    na | n/a | n.a. | n.a | nan | null | none | nil | nat | <na> | (null) | [null] | n/v
    nd | n/d | n.d. | n.d | s/d | nr | n/r | missing | unknown | unk | undefined | unavailable
    not available | not applicable | no data | no value | not known | not recorded | not reported
    not measured | blank | empty | void | tbd | tba | pending | error | err
    #n/a | #na | #div/0! | #value! | #ref! | #name? | #num! | #null! | #error! | #spill! | #calc!
    k.a. | k. a. | keine angabe | unbekannt | fehlt | sin dato | desconocido | inconnu
    """.replace("\n", "|").split("|")
    if word.strip()
)
"""Known words, case-folded. Among category labels they are labels; only blanks are missing."""


def is_missing_word(text: str) -> bool:
    """Whether a cell of a column of numbers or dates says that the value is missing.

    Args:
      text: the cell, stripped.

    Examples:
      >>> is_missing_word("#N/A"), is_missing_word("12")
      (True, False)
    """
    return text.casefold() in MISSING_WORDS


def is_missing_date(text: str) -> bool:
    """The same in a column of dates, where databases write a date of zeros.

    Examples:
      >>> is_missing_date("0000-00-00 00:00:00"), is_missing_date("0")
      (True, False)
    """
    zeros = "00" in text and any(c in "-/." for c in text) and not text.strip("0-/.: T")
    return zeros or is_missing_word(text)
