"""Bytes -> text: UTF-8, UTF-16, and what alphabets and charset-normalizer say of older ones."""

from __future__ import annotations

import unicodedata

from charset_normalizer import from_bytes

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.datasets.alphabets import MICRO, find_by_alphabet, find_by_unit

_NAMES = {f"cp125{k}": f"Windows-125{k}" for k in range(9)}
_LOOKED_AT = 2**17
_WESTERN = 0.6


def decode(data: bytes, name: str) -> tuple[str, list[str]]:
    """Decode a file of text.

    Args:
      data: its bytes.
      name: for messages.

    Returns:
      The text without a byte-order mark, and a note if it is not UTF-8.

    Raises:
      UserError: if it is not text.
    """
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return _utf16(data, "utf-16", name)
    head = data[:65536]
    if b"\0" in head[:2048]:
        zeros = [head[:2048][k::2].count(0) for k in (0, 1)]
        if max(zeros) > 0.4 * (len(head[:2048]) // 2) and min(zeros) <= 0.05 * max(zeros):
            return _utf16(data, "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le", name)
    if _is_binary(head):
        raise UserError(f"{name} is a binary file, not a table of text; give CSV or Parquet")
    try:
        return data.decode("utf-8-sig"), []
    except UnicodeDecodeError as error:
        if error.end > len(data) - 4 and error.reason == "unexpected end of data":
            return data.decode("utf-8-sig", errors="replace"), [f"{name} ends inside a character"]
    encoding = _find_encoding(data)
    shown = _NAMES.get(encoding, encoding)
    return data.decode(encoding, errors="replace"), [f"{name} is not UTF-8; read as {shown}"]


def _is_binary(head: bytes) -> bool:
    """Whether bytes hold many control characters, and of several kinds: one, over and over, is what
    some program made of a character that it did not know.
    """
    codes = {code: head.count(bytes([code])) for code in range(32) if code not in (9, 10, 12, 13)}
    several = codes[0] > 0 or sum(number > 0 for number in codes.values()) > 2
    return several and sum(codes.values()) > 0.01 * len(head)


def _utf16(data: bytes, encoding: str, name: str) -> tuple[str, list[str]]:
    try:
        return data.decode(encoding), [f"{name} is UTF-16 text"]
    except UnicodeDecodeError:
        raise UserError(f"{name} is a binary file, not a table of text") from None


def _find_encoding(data: bytes) -> str:
    """The encoding of text that is not UTF-8.

    Bytes that are mere signs in Windows-1252 (the euro, curly quotes, dashes, degrees) say nothing
    of a language, which is what charset-normalizer goes by, so they are looked at first; then the
    alphabets of languages, which say more of a few names than frequencies of letters do.
    """
    sample = _with_odd_lines(data)
    unit = find_by_unit(sample)
    if unit is not None:
        return unit
    western = _western_share(sample)
    if western == 0.0:
        return "cp1252"
    known = find_by_alphabet(sample)
    if known is not None:
        return known
    best = from_bytes(sample).best()
    alike = {best.encoding, *best.could_be_from_charset} if best is not None else set()
    if western is not None and ("cp1252" in alike or (best is None and western <= _WESTERN)):
        return "cp1252"
    if western is not None and best is not None and western <= _WESTERN and best.coherence < 0.1:
        return "cp1252"
    if best is None:
        return "latin-1" if western is None else "cp1252"
    return best.encoding


def _with_odd_lines(data: bytes) -> bytes:
    """The lines that are not ASCII, up to a limit."""
    lines, size = [], 0
    for line in data.splitlines(keepends=True):
        if not line.isascii():
            lines.append(line[:4096])
            size += len(lines[-1])
            if size > _LOOKED_AT:
                break
    return b"".join(lines)


def _western_share(sample: bytes) -> float | None:
    """Read as Windows-1252: the share of accented letters in the words that have any.

    Returns:
      0 if there are signs only, near 1 where another alphabet was meant; None if it is not
      Windows-1252 at all.
    """
    try:
        text = MICRO.sub(" ", sample.decode("cp1252"))
    except UnicodeDecodeError:
        return None
    accented = letters = 0
    for word in "".join(c if unicodedata.category(c)[0] == "L" else " " for c in text).split():
        if not word.isascii():
            letters += len(word)
            accented += sum(not c.isascii() for c in word)
    return accented / letters if letters else 0.0
