"""Files that are no table of text: told by their first bytes, and named."""

from __future__ import annotations

import re

from jaxopt_lab.core.errors import UserError

_BINARY = {
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an old Excel workbook (.xls); save it as .xlsx or CSV",
    b"%PDF": "a PDF document, not a table",
    b"SQLite format 3\0": "an SQLite database; export a table as CSV",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file; export a table as CSV or Parquet",
    b"ARROW1": "an Arrow (Feather) file; save it as Parquet or CSV",
    b"FEA1": "a Feather file; save it as Parquet or CSV",
    b"\x93NUMPY": "a NumPy array; save it as CSV with column names",
    b"\x28\xb5\x2f\xfd": "a zstandard file; unpack it first",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive; unpack it first",
    b"Rar!": "a RAR archive; unpack it first",
    b"RDX": "an R data file; export a table as CSV",
    b"{\\rtf": "an RTF document, not a table",
}

_HTML = (
    r"(?:<!--.*?-->\s*)?<(?:!doctype html"
    r"|(?:html|head|body|title|meta|script|style|table|div|p|h\d)\b[^<>]*>)"
)


def refuse_binary(data: bytes, name: str) -> None:
    """Refuse a file of a known kind that is no table.

    Raises:
      UserError: naming the kind.
    """
    for magic, what in _BINARY.items():
        if data.startswith(magic):
            raise UserError(f"{name} is {what}")
    if data[257:262] == b"ustar":
        raise UserError(f"{name} is a tar archive; unpack it first")


def kind_of_text(text: str, name: str) -> str:
    """Tell what a file of text holds.

    Args:
      text: the file.
      name: for messages.

    Returns:
      "json", "json lines", "arff" or "separated".

    Raises:
      UserError: naming what it is, if it holds no table.
    """
    head = text[:4096].lstrip()
    lower = head.lower()
    if head.startswith("version https://git-lfs.github.com/spec/"):
        raise UserError(
            f"{name} is a Git LFS pointer, not the table itself; fetch the file with git lfs pull"
        )
    if re.match(_HTML, lower, re.S):
        raise UserError(
            f"{name} is an HTML page, not a table (perhaps a sign-in or error page that was saved"
            " under that name); download the file itself, or export the table as CSV"
        )
    if lower.startswith("<?xml") or re.match(r"<[a-z][\w:.-]*[\s>][^<>]*<", lower):
        raise UserError(f"{name} is an XML file; export the table as CSV")
    if _is_arff(head):
        return "arff"
    if head[:1] == "{":
        return "json lines" if re.match(r"\{.*\}[ \t]*(?:\r\n|\r|\n)\s*\{", head) else "json"
    if re.match(r"\[\s*(?:[\[{\]\d\"-]|\Z)", head):
        return "json"
    return "separated"


def _is_arff(head: str) -> bool:
    lines = [line.strip() for line in head.splitlines()]
    lines = [line for line in lines if line and not line.startswith("%")]
    return bool(lines) and lines[0].lower().startswith("@relation")
